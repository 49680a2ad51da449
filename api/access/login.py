"""Logging in, over JSON or from the page: the same limits, the same answers, the same cookie."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from api.access import credentials, origin
from api.house import House
from api.problems import ProblemError
from registry import sessions
from registry.logins import LoginResult, LoginSort, login
from registry.users import UserFacts

FORM_COOKIE: Final = "metergate-form"
"""Holds the token that a page of the login form and its cookie must share (there is no login yet to bind it to)."""

_CHALLENGE: Final = {"www-authenticate": 'Bearer realm="metergate"'}


@dataclass(frozen=True, slots=True)
class Entered:
    """A login that came in. token: of the cookie; page: of the pages."""

    user: UserFacts
    token: str
    page: str
    sort: LoginSort


async def enter(house: House, request: Request, *, name: str, password: str, code: str) -> Entered:
    """Check a login and open its session.

    Raises: ProblemError: 401 wrong or a code is missing, 403 disabled or too old, 429 (with Retry-After) too many
    tries from this address or for this account.
    """
    where = origin.address(request.scope)
    place = origin.network(where)
    if wait := house.identifier.tries.take(place):
        raise too_many("too many logins were tried from this address", wait)
    result = await house.door.run(
        lambda: login(
            house.database,
            name=name,
            password=password,
            code=code,
            address=where,
            at=house.clock.now_ms(),
            limits=house.access,
        )
    )
    if not result.may_enter or result.user is None:
        raise _refusal(result, house.clock.now_ms())
    house.identifier.tries.give_back(place)
    return await _open(house, request, result.user, result.sort, where)


async def _open(house: House, request: Request, user: UserFacts, sort: LoginSort, where: str) -> Entered:
    before = credentials.cookie(request.scope, credentials.cookie_name(request.scope))

    def inside() -> tuple[str, str]:
        with house.database.begin() as connection:
            if before:  # the browser logs in anew: what it held ends
                sessions.close(connection, sessions.digest(before))
            now = house.clock.now_ms()
            return sessions.open_session(connection, user.id, where, now, house.access, version=user.version)

    token, page = await house.desk.run(inside)
    house.identifier.forget()
    return Entered(user, token, page, sort)


def _refusal(result: LoginResult, now_ms: int) -> ProblemError:
    if result.sort is LoginSort.LOCKED:
        wait = max(1, -(-(result.locked_until - now_ms) // 1000))
        return too_many("too many wrong logins for this account", wait)
    if result.sort is LoginSort.CODE_NEEDED:
        return ProblemError(401, "code-needed", "the code of the authenticator is missing", headers=_CHALLENGE)
    if result.sort is LoginSort.DISABLED:
        return ProblemError(403, "disabled", "this user is disabled; ask an administrator")
    if result.sort is LoginSort.EXPIRED:
        return ProblemError(403, "one-time-expired", "this one-time password is too old; ask for another")
    return ProblemError(401, "login-failed", "name, password or code is wrong", headers=_CHALLENGE)


def too_many(detail: str, wait: int) -> ProblemError:
    """Return the refusal of one try too many. wait: [s]."""
    return ProblemError(429, "too-many-requests", f"{detail}; wait {wait} s", headers={"retry-after": str(wait)})


async def leave(house: House, session_id: str) -> None:
    """End a login."""

    def inside() -> None:
        with house.database.begin() as connection:
            sessions.close(connection, session_id)

    await house.desk.run(inside)
    house.identifier.forget()


def set_cookie(answer: Response, request: Request, name: str, value: str, *, keep_s: int | None = None) -> None:
    """Add a cookie that only we can read, only here; an empty value takes it away.

    keep_s: [s] how long the browser keeps it; None: until it is closed.
    """
    secure = origin.is_secure(request.scope)
    ends = "; Max-Age=0" if not value else "" if keep_s is None else f"; Max-Age={keep_s}"
    prefixed = name if not secure or name.startswith("__Host-") else f"__Host-{name}"
    flags = "; Path=/; HttpOnly; SameSite=Strict" + ("; Secure" if secure else "")
    answer.headers.append("set-cookie", f"{prefixed}={value}{flags}{ends}")


def form_token(request: Request) -> str:
    """Return the token of the browser's form cookie, or a new one."""
    held = credentials.cookie(request.scope, form_cookie(request))
    return held if held and len(held) == _TOKEN_LETTERS else secrets.token_urlsafe(24)


def form_cookie(request: Request) -> str:
    """Return the name of the form cookie on this connection."""
    return f"__Host-{FORM_COOKIE}" if origin.is_secure(request.scope) else FORM_COOKIE


_TOKEN_LETTERS: Final = 32
