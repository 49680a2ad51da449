"""/account: one's own authenticator and logins, as plain forms; open to every person who has logged in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request
from starlette.responses import RedirectResponse, Response

from api.access.caller import InCaller
from api.access.forms import checked_fields
from api.access.login import too_many
from api.house import House, InHouse
from api.parameters import Nothing, Strict
from api.routes.session import logged_in
from api.screens import account as screens
from api.screens.account import Enrolment
from api.screens.frame import attempt, page
from registry import sessions, totp
from registry.refusals import RefusedError
from registry.roles import Actor

router = APIRouter(include_in_schema=False)


class AccountQuery(Strict):
    """What became of the form that led here."""

    done: Literal["confirmed", "removed", "ended"] | None = None


@router.get("/account")
async def account_page(
    request: Request, house: InHouse, caller: InCaller, query: Annotated[AccountQuery, Query()]
) -> Response:
    """Who one is here, and the two things to look after: the authenticator and the logins."""
    return await _page(request, house, caller, done=query.done)


@router.post("/account/totp")
async def begin_codes(
    request: Request, house: InHouse, caller: InCaller, query: Annotated[Nothing, Query()]
) -> Response:
    """Show a new secret, this once; it counts from its first code on."""
    await checked_fields(request)
    facts, now = logged_in(request), house.clock.now_ms()
    secret, address = await house.write(lambda c: totp.enrol(c, caller, facts.user_name, at=now))
    return await _page(request, house, caller, enrolment=screens.enrolment(secret, address))


@router.post("/account/totp/confirm")
async def confirm_codes(
    request: Request, house: InHouse, caller: InCaller, query: Annotated[Nothing, Query()]
) -> Response:
    """The first code of the new authenticator; other logins end."""
    return await _by_code(request, house, caller, totp.confirm, "confirmed")


@router.post("/account/totp/remove")
async def give_up_codes(
    request: Request, house: InHouse, caller: InCaller, query: Annotated[Nothing, Query()]
) -> Response:
    """Do without codes again; needs one."""
    return await _by_code(request, house, caller, totp.give_up, "removed")


async def _by_code(request: Request, house: House, caller: Actor, change: Callable[..., None], done: str) -> Response:
    fields = await checked_fields(request)
    facts, now = logged_in(request), house.clock.now_ms()
    if wait := house.identifier.tries.take(f"totp {facts.user_name}"):
        raise too_many("too many codes were tried", wait)
    code = fields.get("code", "")[:12]
    try:
        await house.write(lambda c: change(c, caller, facts.user_name, code, at=now, keep=facts.id))
    except RefusedError as error:
        waiting = await house.read(lambda c: screens.waiting_enrolment(c, caller, facts.user_name))
        return await _page(request, house, caller, enrolment=waiting, refused=str(error), status=422)
    house.identifier.forget()
    return _back(done)


@router.post("/account/logins/end")
async def end_logins(
    request: Request, house: InHouse, caller: InCaller, query: Annotated[Nothing, Query()]
) -> Response:
    """End one login of one's own, or all others."""
    fields = await checked_fields(request)
    facts, now = logged_in(request), house.clock.now_ms()
    which = fields.get("login", "")[:64]
    await house.write(lambda c: sessions.end_own(c, caller, facts, which, at=now))
    house.identifier.forget()
    return _back("ended")


async def _page(
    request: Request,
    house: House,
    caller: Actor,
    *,
    enrolment: Enrolment | None = None,
    refused: str = "",
    done: str | None = None,
    status: int = 200,
) -> Response:
    facts, now = logged_in(request), house.clock.now_ms()
    found, trouble = await attempt(house.read(lambda c: screens.account(c, facts, now_ms=now)))
    values: dict[str, Any] = {"enrolment": enrolment, "refused": refused, "done": done, "trouble": trouble}
    return await page(
        house,
        request,
        caller,
        "account.html",
        status=status,
        account=found,
        this=facts.id,
        must_enrol=facts.must_enrol(house.access.totp_roles),
        needs_code=sorted(house.access.totp_roles & caller.roles),
        **values,
    )


def _back(done: str) -> Response:
    return RedirectResponse(f"/account?done={done}", 303, headers={"cache-control": "no-store"})
