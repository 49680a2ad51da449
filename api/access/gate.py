"""What every request passes behind the limits: who is it, how often does it ask, may it do this?

Deny by default: whoever is not known gets 401 for every address that is not listed for anybody, known or not; a known
caller gets 403 for a route that the table does not give to one of the caller's roles, and for a route without a line.
Nothing behind the gate asks again, except for the limits by area (`api.access.areas`) and `same_route`.
"""

from __future__ import annotations

from typing import Final

import structlog
from fastapi import FastAPI, Request
from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from api import problems
from api.access import origin
from api.access.caller import ACTOR
from api.access.credentials import in_address, shown_key
from api.access.identify import Identifier, Identity
from api.access.limits import Buckets
from api.access.record import Recorder
from api.access.resolver import Found, Resolver
from api.access.table import CHANGING_PASSWORD, ENROLLING, FORMS, LEAVING, LOOK, Open
from api.metrics import ApiMetrics
from api.problems import ProblemError
from api.replies import see_other
from api.settings import ApiSettings
from metering.clock import Clock
from registry.roles import Actor, Role

_LOG: Final = structlog.get_logger("api")
IDENTITY: Final = "metergate.identity"
PATH: Final = "metergate.path"
"""Keys of the scope: the `Identity` of a known caller, and the template that the gate let through."""

_SAFE: Final = frozenset({"GET", "HEAD"})
_CHALLENGE: Final = {"www-authenticate": 'Bearer realm="metergate"'}


class Gate:
    """The one layer that enforces the table."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        routes: FastAPI,
        identifier: Identifier,
        recorder: Recorder,
        limits: ApiSettings,
        totp_roles: frozenset[Role],
        metrics: ApiMetrics,
        clock: Clock,
    ) -> None:
        self.app, self.metrics = app, metrics
        self._resolver = Resolver(routes)
        self._identifier, self._recorder, self._totp_roles = identifier, recorder, totp_roles
        self._known = Buckets(per_s=limits.rate_per_s, burst=limits.rate_burst, clock=clock)
        self._unknown = Buckets(per_s=limits.unknown_per_s, burst=limits.unknown_burst, clock=clock)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":  # neither web sockets nor a life span are anybody's
            return
        try:
            answer = await self._refusal(scope)
        except ProblemError as error:
            answer = self._problem(error, scope)
        await (answer or self.app)(scope, receive, send)

    def _problem(self, error: ProblemError, scope: Scope) -> Response:
        if error.status < 500:
            self.metrics.refuse(error.sort)
        path = scope["path"]
        return problems.response(error.status, error.sort, error.detail, instance=path, headers=error.headers)

    async def _refusal(self, scope: Scope) -> Response | None:
        """Return the answer for whoever is sent elsewhere, None when the request may go on. Raises: ProblemError."""
        found = self._resolver.find(scope["method"], scope["path"])
        await self._refuse_key_in_address(scope)
        if found.who is Open.ON_LOOPBACK and origin.is_this_machine(scope):
            return _pass(scope, found, Actor("loopback", areas=None, read_only=True))
        if found.who is Open.ANYBODY:
            self._refuse_foreign_page(scope)
            self._count_unknown(scope)
            return _pass(scope, found, Actor("anybody", read_only=True, address=origin.address(scope)))
        identity = await self._identifier.identify(scope)
        if identity is None:
            self._count_unknown(scope)
            if _is_browser(scope):
                return see_other("/login")
            raise _not_known()
        self._count_known(identity)
        scope[IDENTITY] = identity
        if identity.session is not None:
            self._refuse_foreign_page(scope)
            _require_token(scope, found, identity)
        if (first := self._first(scope, found, identity)) is not None:
            return first
        await self._require_role(scope, found, identity.actor)
        return _pass(scope, found, identity.actor)

    def _first(self, scope: Scope, found: Found, identity: Identity) -> Response | None:
        """Whoever must change a password or enrol for codes does that first. Raises: ProblemError 403."""
        line = (scope["method"], found.path)
        if identity.session is None or line in LEAVING:
            return None
        if identity.session.must_change and line not in CHANGING_PASSWORD:
            if _is_browser(scope):
                return see_other("/password")
            detail = "this password was for one time: change it first (POST /api/v1/session/password)"
            raise ProblemError(403, "password-must-change", detail)
        if identity.session.must_enrol(self._totp_roles) and line not in CHANGING_PASSWORD | ENROLLING:
            if _is_browser(scope):
                return see_other("/account")
            detail = "one of your roles asks for codes at login: enrol first (POST /api/v1/session/totp)"
            raise ProblemError(403, "must-enrol", detail)
        return None

    # -- limits ----------------------------------------------------------------------------------------------------

    def _count_known(self, identity: Identity) -> None:
        if wait := self._known.take(identity.actor.name):
            raise _too_many(f"{identity.actor.name} asks too often", wait)

    def _count_unknown(self, scope: Scope) -> None:
        if wait := self._unknown.take(origin.network(origin.address(scope))):
            raise _too_many("this address asks too often without a key", wait)

    # -- refusals --------------------------------------------------------------------------------------------------

    async def _refuse_key_in_address(self, scope: Scope) -> None:
        names, keys = in_address(scope["query_string"])
        if not names:
            return
        self._count_unknown(scope)
        real = [key for key in keys if await self._identifier.is_real(key)]
        _LOG.warning(
            "key_in_address",
            address=origin.address(scope),
            path=scope["path"],
            parameters=sorted(names),
            keys=[shown_key(key) for key in real],
            advice="rotate these keys: addresses stand in logs and histories" if real else "no key of ours",
        )
        await self._recorder.refused("key-in-address", scope, [shown_key(key) for key in real])
        detail = "a key in the address is refused, since addresses stand in logs: send `Authorization: Bearer …`"
        advice = "; rotate that key now" if real else ""
        raise ProblemError(401, "key-in-address", detail + advice, headers=_CHALLENGE)

    def _refuse_foreign_page(self, scope: Scope) -> None:
        if scope["method"] not in _SAFE and origin.is_foreign_page(scope):
            raise ProblemError(403, "foreign-page", "this request was sent by a page of another site")

    async def _require_role(self, scope: Scope, found: Found, actor: Actor) -> None:
        if not found.path:  # nothing there: the application says 404 or 405
            return
        if actor.read_only and scope["method"] not in _SAFE:
            await self._recorder.refused("read-only", scope, actor=actor)
            raise ProblemError(403, "read-only", "this key may only look: GET and HEAD")
        if not _may(found, actor):
            await self._recorder.refused("role", scope, actor=actor)
            raise ProblemError(403, "forbidden", _needed(found))


def _may(found: Found, actor: Actor) -> bool:
    if found.who is Open.ON_LOOPBACK:  # what watches the house speaks of all of it
        return actor.areas is None and actor.has(*LOOK)
    if isinstance(found.who, frozenset):
        return actor.has(*found.who)
    return found.who is Open.ANY_USER


def _needed(found: Found) -> str:
    if found.who is Open.ON_LOOPBACK:
        return "needs a role that may look, for all areas"
    if not found.who or isinstance(found.who, Open):
        return "nobody may use this address"
    return f"needs one of the roles {', '.join(sorted(found.who))}"


def _pass(scope: Scope, found: Found, actor: Actor) -> Response | None:
    """Let the request go on as the actor's."""
    scope[ACTOR] = actor
    scope[PATH] = found.path
    return None


def _require_token(scope: Scope, found: Found, identity: Identity) -> None:
    """A login alone changes nothing: the page's own token must come with it (a form's is checked by its route)."""
    method = scope["method"]
    if method in _SAFE or (method, found.path) in FORMS:
        return
    if not identity.fits(Headers(scope=scope).get("x-csrf-token", "")):
        detail = "send the token of GET /api/v1/session as `X-CSRF-Token`: a cookie alone changes nothing"
        raise ProblemError(403, "csrf-token", detail)


def same_route(request: Request) -> None:
    """The second lock: the route that runs is the one that the gate let through. Raises: ProblemError 403."""
    template = getattr(request.scope.get("route"), "path", None)
    if template is None or request.scope.get(PATH) != template:
        raise ProblemError(403, "forbidden", "nobody may use this address")


def _not_known() -> ProblemError:
    detail = "send an API key as `Authorization: Bearer mg_…`, or log in at /login"
    return ProblemError(401, "not-identified", detail, headers=_CHALLENGE)


def _too_many(detail: str, wait: int) -> ProblemError:
    return ProblemError(429, "too-many-requests", f"{detail}; wait {wait} s", headers={"retry-after": str(wait)})


def _is_browser(scope: Scope) -> bool:
    """True for somebody who opens a page: a GET that accepts HTML and shows no key."""
    headers = Headers(scope=scope)
    wants_page = "text/html" in headers.get("accept", "") and "authorization" not in headers
    return scope["method"] == "GET" and wants_page
