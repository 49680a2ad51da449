"""/api/v1/session: who am I, log in and out, change the password, enrol for codes."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from api.access import credentials, origin
from api.access.gate import IDENTITY
from api.access.identify import Identity
from api.access.login import enter, leave, set_cookie, too_many
from api.house import House, InHouse
from api.parameters import Nothing
from api.problems import ProblemError
from api.replies import reply
from api.routes.documented import answers
from api.schemas_access import CodeIn, LoginIn, PasswordIn, SessionOut, TotpOut
from metering.clock import rfc3339
from registry import totp
from registry.logins import set_password
from registry.roles import areas_to
from registry.sessions import SessionFacts, find

router = APIRouter(prefix="/api/v1/session", tags=["access"])


@router.get("", summary="Who am I?", **answers(SessionOut))
async def who_am_i(request: Request, house: InHouse, query: Annotated[Nothing, Query()]) -> Response:
    """Name, roles and areas of the caller, and the token that changes must show."""
    return reply(request, _session(house, request.scope[IDENTITY]), cached=False)


@router.post("", summary="Log in", **answers(SessionOut))
async def log_in(request: Request, house: InHouse, body: LoginIn, query: Annotated[Nothing, Query()]) -> Response:
    """Open a session: the cookie is the answer's, the token for changes stands in it.

    429 with Retry-After after too many tries from an address or for an account.
    """
    entered = await enter(house, request, name=body.name, password=body.password, code=body.code)
    facts = await house.read(lambda c: find(c, entered.token, house.clock.now_ms()))
    if facts is None:
        raise ProblemError(409, "conflict", "the user was changed meanwhile; log in again")
    answer = reply(request, _session(house, Identity(facts.actor, facts, entered.page)), cached=False)
    set_cookie(answer, request, credentials.COOKIE, entered.token)
    return answer


@router.delete("", summary="Log out", status_code=204, response_model=None)
async def log_out(request: Request, house: InHouse, query: Annotated[Nothing, Query()]) -> Response:
    """End this session now."""
    await leave(house, logged_in(request).id)
    answer = Response(status_code=204)
    set_cookie(answer, request, credentials.COOKIE, "")
    return answer


@router.post("/password", summary="Change one's own password", status_code=204, response_model=None)
async def change_password(
    request: Request, house: InHouse, body: PasswordIn, query: Annotated[Nothing, Query()]
) -> Response:
    """Needs the old one; every other session of the user ends."""
    await replace_password(house, request, old=body.old, new=body.new)
    return Response(status_code=204)


@router.post("/totp", summary="Begin to use codes", **answers(TotpOut))
async def enrol(request: Request, house: InHouse, query: Annotated[Nothing, Query()]) -> Response:
    """A new secret for the authenticator app; it counts from its first confirmed code on."""
    facts, actor = logged_in(request), request.scope[IDENTITY].actor
    now = house.clock.now_ms()
    secret, uri = await house.write(lambda c: totp.enrol(c, actor, facts.user_name, at=now))
    return reply(request, TotpOut(secret=secret, uri=uri), cached=False)


@router.post("/totp/confirm", summary="Confirm the first code", status_code=204, response_model=None)
async def confirm(request: Request, house: InHouse, body: CodeIn, query: Annotated[Nothing, Query()]) -> Response:
    """From now on a login needs a code; every other session of the user ends."""
    facts, actor = logged_in(request), request.scope[IDENTITY].actor
    if wait := house.identifier.tries.take(f"totp {facts.user_name}"):
        raise too_many("too many codes were tried", wait)
    now = house.clock.now_ms()
    await house.write(lambda c: totp.confirm(c, actor, facts.user_name, body.code, at=now, keep=facts.id))
    house.identifier.forget()
    return Response(status_code=204)


def logged_in(request: Request) -> SessionFacts:
    """Return the caller's session. Raises: ProblemError 403 for a key."""
    identity: Identity = request.scope[IDENTITY]
    if identity.session is None:
        raise ProblemError(403, "not-a-login", "this is for people who have logged in, not for keys")
    return identity.session


async def replace_password(house: House, request: Request, *, old: str, new: str) -> None:
    """Change the caller's password. Raises: RefusedError, ProblemError 429 and 403."""
    facts = logged_in(request)
    place = origin.network(origin.address(request.scope))
    if wait := house.identifier.tries.take(place):
        raise too_many("too many passwords were tried from this address", wait)
    await house.door.run(
        lambda: set_password(
            house.database,
            request.scope[IDENTITY].actor,
            facts.user_name,
            old=old,
            new=new,
            at=house.clock.now_ms(),
            limits=house.access,
            keep=facts.id,
        )
    )
    house.identifier.tries.give_back(place)
    house.identifier.forget()


def _session(house: House, identity: Identity) -> SessionOut:
    actor, facts = identity.actor, identity.session
    return SessionOut(
        name=actor.name,
        display_name=facts.display_name if facts else "",
        roles=sorted(actor.roles),
        ranks=sorted(actor.ranks),
        areas=areas_to(actor.areas),
        read_only=actor.read_only,
        must_change=facts is not None and facts.must_change,
        must_enrol=facts is not None and facts.must_enrol(house.access.totp_roles),
        totp=facts is not None and facts.totp,
        csrf_token=identity.page_token or None,
        expires_at=rfc3339(facts.expires_at) if facts else None,
    )
