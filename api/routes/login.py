"""/login, /password, /logout: plain HTML forms that work without any script."""

from __future__ import annotations

import hmac
from typing import Final

from fastapi import APIRouter, Request
from starlette.responses import Response

from api.access import credentials
from api.access.forms import checked_fields, form_fields
from api.access.gate import IDENTITY
from api.access.identify import Identity
from api.access.login import enter, form_cookie, form_token, leave, set_cookie
from api.house import InHouse
from api.problems import ProblemError
from api.replies import see_other
from api.routes.session import logged_in, replace_password
from api.screens.frame import TEMPLATES, texts_of, theme_of
from registry.refusals import RefusedError

router = APIRouter(include_in_schema=False)

FORM_HEADERS: Final = {
    "content-security-policy": (
        "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; form-action 'self'; "
        "frame-ancestors 'none'"
    ),
    "cache-control": "no-store",
    # with no-referrer a browser would send `Origin: null` along with the form
    "referrer-policy": "same-origin",
}
_HTML: Final = "text/html"


@router.get("/login")
async def login_page(request: Request) -> Response:
    """The form."""
    return _login_page(request)


@router.post("/login")
async def log_in_by_form(request: Request, house: InHouse) -> Response:
    """Log in and go to the home page; what was wrong is said above the form."""
    fields = await form_fields(request)
    held = credentials.cookie(request.scope, form_cookie(request)) or ""
    if not held or not hmac.compare_digest(held.encode(), fields.get("token", "").encode()):
        return _login_page(request, "This form was too old, or the browser keeps no cookies; try again.", 403)
    name, password = fields.get("name", "")[:64], fields.get("password", "")[:400]
    try:
        entered = await enter(house, request, name=name, password=password, code=fields.get("code", "")[:12])
    except ProblemError as error:
        if error.status >= 500:
            raise
        return _login_page(request, f"{error.detail}.", error.status, error.headers)
    answer = see_other("/")
    set_cookie(answer, request, credentials.COOKIE, entered.token)
    set_cookie(answer, request, form_cookie(request), "")
    return answer


@router.get("/password")
async def password_page(request: Request) -> Response:
    """The form for a new password."""
    logged_in(request)
    return _password_page(request)


@router.post("/password")
async def change_password_by_form(request: Request, house: InHouse) -> Response:
    """Change the password and go to the home page."""
    fields = await checked_fields(request)
    old, new = fields.get("old", "")[:400], fields.get("new", "")[:400]
    if new != fields.get("again", "")[:400]:
        return _password_page(request, "The two new passwords differ.", 422)
    try:
        await replace_password(house, request, old=old, new=new)
    except RefusedError as error:
        return _password_page(request, f"{error}.", 422)
    except ProblemError as error:
        if error.status >= 500:
            raise
        return _password_page(request, f"{error.detail}.", error.status)
    return see_other("/")


@router.post("/logout")
async def log_out_by_form(request: Request, house: InHouse) -> Response:
    """End the session and go to the login page."""
    await checked_fields(request)
    await leave(house, logged_in(request).id)
    answer = see_other("/login")
    set_cookie(answer, request, credentials.COOKIE, "")
    return answer


def _login_page(
    request: Request, trouble: str = "", status: int = 200, more: dict[str, str] | None = None
) -> Response:
    token = form_token(request)
    html = TEMPLATES.get_template("login.html").render(
        token=token, trouble=trouble, t=texts_of(request), theme=theme_of(request)
    )
    answer = Response(html, status, {**FORM_HEADERS, **(more or {})}, _HTML)
    set_cookie(answer, request, form_cookie(request), token)
    return answer


def _password_page(request: Request, trouble: str = "", status: int = 200) -> Response:
    identity: Identity = request.scope[IDENTITY]
    must = identity.session is not None and identity.session.must_change
    page = TEMPLATES.get_template("password.html")
    html = page.render(
        csrf_token=identity.page_token, must=must, trouble=trouble, t=texts_of(request), theme=theme_of(request)
    )
    return Response(html, status, FORM_HEADERS, _HTML)
