"""/login, /password, /logout: plain HTML forms that work without any script."""

from __future__ import annotations

import hmac
from pathlib import Path
from typing import Final
from urllib.parse import parse_qs

from fastapi import APIRouter, Request
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.responses import RedirectResponse, Response

from api.access import credentials
from api.access.gate import IDENTITY
from api.access.identify import Identity
from api.access.login import enter, form_cookie, form_token, leave, set_cookie
from api.house import InHouse
from api.problems import ProblemError
from api.routes.session import logged_in, replace_password
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
_FORM: Final = "application/x-www-form-urlencoded"
_MOST_FIELDS: Final = 10
_TEMPLATES: Final = Environment(
    loader=FileSystemLoader(Path(__file__).parent.parent / "pages"), autoescape=True, undefined=StrictUndefined
)


@router.get("/login")
async def login_page(request: Request) -> Response:
    """The form."""
    return _login_page(request)


@router.post("/login")
async def log_in_by_form(request: Request, house: InHouse) -> Response:
    """Log in and go to the home page; what was wrong is said above the form."""
    fields = await _fields(request)
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
    answer = RedirectResponse("/", 303, headers={"cache-control": "no-store"})
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
    fields = await _checked(request)
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
    return RedirectResponse("/", 303, headers={"cache-control": "no-store"})


@router.post("/logout")
async def log_out_by_form(request: Request, house: InHouse) -> Response:
    """End the session and go to the login page."""
    await _checked(request)
    await leave(house, logged_in(request).id)
    answer = RedirectResponse("/login", 303, headers={"cache-control": "no-store"})
    set_cookie(answer, request, credentials.COOKIE, "")
    return answer


async def _checked(request: Request) -> dict[str, str]:
    """Return the fields of a form that shows the login's own token. Raises: ProblemError 403."""
    fields = await _fields(request)
    identity: Identity = request.scope[IDENTITY]
    if not identity.fits(fields.get("csrf_token", "")):
        raise ProblemError(403, "csrf-token", "this form does not belong to this login; go back and load it anew")
    return fields


async def _fields(request: Request) -> dict[str, str]:
    """Return the fields of a plain form, the first of each name. Raises: ProblemError 415, 422."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != _FORM:
        raise ProblemError(415, "unsupported-media-type", f"send {_FORM}")
    try:
        text = (await request.body()).decode("ascii")
        found = parse_qs(text, keep_blank_values=True, errors="strict", max_num_fields=_MOST_FIELDS)
    except ValueError:
        raise ProblemError(422, "invalid-form", "this is not a form that a browser sends") from None
    return {name: values[0] for name, values in found.items()}


def _login_page(
    request: Request, trouble: str = "", status: int = 200, more: dict[str, str] | None = None
) -> Response:
    token = form_token(request)
    html = _TEMPLATES.get_template("login.html").render(token=token, trouble=trouble)
    answer = Response(html, status, {**FORM_HEADERS, **(more or {})}, _HTML)
    set_cookie(answer, request, form_cookie(request), token)
    return answer


def _password_page(request: Request, trouble: str = "", status: int = 200) -> Response:
    identity: Identity = request.scope[IDENTITY]
    must = identity.session is not None and identity.session.must_change
    page = _TEMPLATES.get_template("password.html")
    html = page.render(csrf_token=identity.page_token, must=must, trouble=trouble)
    return Response(html, status, FORM_HEADERS, _HTML)
