"""/account: one's own authenticator and logins, as plain forms; open to every person who has logged in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from starlette.responses import Response

from api.access.forms import checked_fields
from api.access.login import too_many
from api.here import Here, InHere
from api.parameters import Strict
from api.replies import see_other
from api.routes.screen_parts import NoQuery, show
from api.routes.session import logged_in
from api.screens import account as screens
from api.screens.account import Enrolment
from api.screens.frame import attempt
from registry import sessions, totp
from registry.refusals import RefusedError

router = APIRouter(include_in_schema=False)


class AccountQuery(Strict):
    """What became of the form that led here."""

    done: Literal["confirmed", "removed", "ended"] | None = None


@router.get("/account")
async def account_page(here: InHere, query: Annotated[AccountQuery, Query()]) -> Response:
    """Who one is here, and the two things to look after: the authenticator and the logins."""
    return await _page(here, done=query.done)


@router.post("/account/totp")
async def begin_codes(here: InHere, query: NoQuery) -> Response:
    """Show a new secret, this once; it counts from its first code on."""
    await checked_fields(here.request)
    facts = logged_in(here.request)
    secret, address = await here.house.write(lambda c: totp.enrol(c, here.caller, facts.user_name, at=here.now))
    return await _page(here, enrolment=screens.enrolment(secret, address))


@router.post("/account/totp/confirm")
async def confirm_codes(here: InHere, query: NoQuery) -> Response:
    """The first code of the new authenticator; other logins end."""
    return await _by_code(here, totp.confirm, "confirmed")


@router.post("/account/totp/remove")
async def give_up_codes(here: InHere, query: NoQuery) -> Response:
    """Do without codes again; needs one."""
    return await _by_code(here, totp.give_up, "removed")


async def _by_code(here: Here, change: Callable[..., None], done: str) -> Response:
    fields = await checked_fields(here.request)
    facts = logged_in(here.request)
    if wait := here.house.identifier.tries.take(f"totp {facts.user_name}"):
        raise too_many("too many codes were tried", wait)
    code = fields.get("code", "")[:12]
    try:
        await here.house.write(lambda c: change(c, here.caller, facts.user_name, code, at=here.now, keep=facts.id))
    except RefusedError as error:
        waiting = await here.house.read(lambda c: screens.waiting_enrolment(c, here.caller, facts.user_name))
        return await _page(here, enrolment=waiting, refused=str(error), status=422)
    here.house.identifier.forget()
    return _back(done)


@router.post("/account/logins/end")
async def end_logins(here: InHere, query: NoQuery) -> Response:
    """End one login of one's own, or all others."""
    fields = await checked_fields(here.request)
    facts = logged_in(here.request)
    which = fields.get("login", "")[:64]
    await here.house.write(lambda c: sessions.end_own(c, here.caller, facts, which, at=here.now))
    here.house.identifier.forget()
    return _back("ended")


async def _page(
    here: Here,
    *,
    enrolment: Enrolment | None = None,
    refused: str = "",
    done: str | None = None,
    status: int = 200,
) -> Response:
    facts = logged_in(here.request)
    found, trouble = await attempt(here.house.read(lambda c: screens.account(c, facts, now_ms=here.now)))
    values: dict[str, Any] = {"enrolment": enrolment, "refused": refused, "done": done, "trouble": trouble}
    return await show(
        here,
        "account.html",
        status=status,
        account=found,
        this=facts.id,
        must_enrol=facts.must_enrol(here.house.access.totp_roles),
        needs_code=sorted(here.house.access.totp_roles & here.caller.roles),
        **values,
    )


def _back(done: str) -> Response:
    return see_other(f"/account?done={done}")
