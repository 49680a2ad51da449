"""What every request passes before a route sees it: who is asked for, how many at once, how large; and the last net.

Plain ASGI, so that streams stay streams. The order, outermost first: `Envelope`, `HostCheck`, `RequestLimit`,
`BodyLimit`, and then `api.access.gate.Gate`.
"""

from __future__ import annotations

import contextlib
import itertools
import re
from collections.abc import Collection, Mapping
from typing import Final

import structlog
from sqlalchemy.exc import SQLAlchemyError
from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api import problems
from api.metrics import ApiMetrics
from api.orders.photos import MAX_BYTES as PHOTO_BYTES
from api.settings import ApiSettings, is_loopback
from metering.clock import Clock
from metering.errors import RegistryError, StoreError

_LOG: Final = structlog.get_logger("api")
HEAD: Final = "metergate.head"
"""In the scope of a HEAD request, which is worked on as a GET: nobody will read the body."""

_LINGER_S: Final = 2.0
_PHOTOS: Final = re.compile(r"/api/v1/work-orders/\d{1,19}/photos", re.ASCII)
_PHOTO_FORMS: Final = re.compile(r"/orders/\d{1,19}/(photos|receipt)", re.ASCII)
_FORM_BYTES: Final = 64 * 1024
"""What a form may have beside its photo."""
_ALWAYS_ANSWERED: Final = frozenset({"/livez"})
_COUNTED_ELSEWHERE: Final = frozenset({"/events"})  # streams for pages: `api.screens.live` has their limit

_HEADERS: Final = {
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}


class _Answer:
    """Sends on, adds the security headers, and remembers the status (0: nothing sent yet)."""

    def __init__(self, send: Send, *, head: bool) -> None:
        self._send, self._head = send, head
        self.status = 0

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = MutableHeaders(scope=message)
            for name, value in _HEADERS.items():
                headers.setdefault(name, value)
        elif self._head:
            message = {**message, "body": b""}
        await self._send(message)


class Envelope:
    """Security headers, HEAD, figures, and the last net: an unexpected error is a 500 without a traceback."""

    def __init__(self, app: ASGIApp, *, metrics: ApiMetrics, clock: Clock) -> None:
        self.app, self.metrics, self.clock = app, metrics, clock
        self._incidents = itertools.count(1)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = self.clock.monotonic()
        head = scope["method"] == "HEAD"
        inner: Scope = {**scope, "method": "GET", HEAD: True} if head else scope
        answer = _Answer(send, head=head)
        self.metrics.in_work.inc()
        try:
            await self._answer(inner, receive, answer)
        finally:
            self.metrics.in_work.dec()
            route = getattr(inner.get("route"), "path", "none")
            self.metrics.answered(route, answer.status, self.clock.monotonic() - started)

    async def _answer(self, scope: Scope, receive: Receive, answer: _Answer) -> None:
        try:
            await self.app(scope, receive, answer)
            return
        except (RegistryError, StoreError, SQLAlchemyError) as error:
            _LOG.warning("dependency_failed", path=scope["path"], error=str(error))
            refusal = unavailable(error, scope["path"])
        except Exception as error:  # noqa: BLE001 (the last net: whatever it is, the caller gets a problem document)
            number = next(self._incidents)
            _LOG.error("incident", number=number, path=scope["path"], exc_info=error)
            detail = f"an unexpected error; the log of the API names it as incident {number}"
            refusal = problems.response(500, "internal-error", detail, instance=scope["path"])
        if not answer.status:  # else half an answer is out: ending without its last chunk cuts the connection
            await refusal(scope, receive, answer)


def unavailable(error: Exception, path: str) -> Response:
    """Return the answer for a registry or store that cannot be read now."""
    what = "store" if isinstance(error, StoreError) else "registry"
    said = str(error.orig) if isinstance(error, SQLAlchemyError) and hasattr(error, "orig") else str(error)
    detail = f"the {what} cannot be read now: {said}"
    return problems.response(503, f"{what}-unavailable", detail, instance=path, headers={"retry-after": "5"})


class HostCheck:
    """Refuse names that are not this machine's: a page that rebinds its DNS name to 127.0.0.1 gets nothing."""

    def __init__(self, app: ASGIApp, *, names: Collection[str] = (), metrics: ApiMetrics) -> None:
        """names: host names and addresses that are ours beside loopback, in small letters."""
        self.app, self.names, self.metrics = app, frozenset(names), metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or is_own_host(scope, self.names):
            await self.app(scope, receive, send)
            return
        self.metrics.refuse("foreign-host")
        detail = f"the API answers only to {', '.join([*sorted(self.names), 'localhost, 127.0.0.1 and [::1]'])}"
        await _early(421, "foreign-host", detail, scope)(scope, receive, send)


def is_own_host(scope: Scope, names: Collection[str] = ()) -> bool:
    """True when exactly one Host header names a loopback address or one of `names`, with or without a port."""
    hosts = Headers(scope=scope).getlist("host")
    if len(hosts) != 1:
        return False
    host = hosts[0].strip()
    if host.startswith("["):
        name, bracket, port = host[1:].partition("]")
        return bool(bracket) and (not port or _is_port(port)) and ":" in name and _is_ours(name, names)
    name, colon, port = host.partition(":")
    return _is_ours(name, names) and (not colon or _is_port(":" + port))


def _is_ours(name: str, names: Collection[str]) -> bool:
    return is_loopback(name) or name.lower().rstrip(".") in names


def _is_port(text: str) -> bool:
    return text[0] == ":" and text[1:].isascii() and text[1:].isdigit() and len(text) <= 6


class RequestLimit:
    """So many requests at the same time and no more; /livez is always answered."""

    def __init__(self, app: ASGIApp, *, limits: ApiSettings, metrics: ApiMetrics) -> None:
        self.app, self.limits, self.metrics = app, limits, metrics
        self._in_work = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in _ALWAYS_ANSWERED | _COUNTED_ELSEWHERE:
            await self.app(scope, receive, send)
            return
        if self._in_work >= self.limits.max_requests:
            self.metrics.refuse("busy")
            detail = f"{self.limits.max_requests} requests are in work; try again in a moment"
            await _early(503, "busy", detail, scope, {"retry-after": "1"})(scope, receive, send)
            return
        self._in_work += 1
        try:
            await self.app(scope, receive, send)
        finally:
            self._in_work -= 1


class _GoneError(Exception):
    """The caller hung up."""


class BodyLimit:
    """Take a body completely, within size and time, before anybody works for it."""

    def __init__(self, app: ASGIApp, *, limits: ApiSettings, metrics: ApiMetrics, clock: Clock) -> None:
        self.app, self.limits, self.metrics, self.clock = app, limits, metrics, clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = Headers(scope=scope) if scope["type"] == "http" else {}
        if not ("transfer-encoding" in headers or headers.get("content-length", "0") != "0"):
            await self.app(scope, receive, send)
            return
        most = self._most(scope)
        try:
            body = await self.clock.timeout(self._take(headers, receive, most), self.limits.body_timeout_s)
        except TimeoutError:
            self.metrics.refuse("slow-body")
            detail = f"the body was not complete after {self.limits.body_timeout_s:g} s"
            await _early(408, "slow-body", detail, scope)(scope, receive, send)
            return
        except _GoneError:
            return
        if body is None:
            self.metrics.refuse("body-too-large")
            detail = f"the body has over {most} bytes"
            await self._refuse(_early(413, "body-too-large", detail, scope), scope, receive, send)
            return
        await self.app(scope, _replay(body, receive), send)

    def _most(self, scope: Scope) -> int:
        """Photos of a visit may be larger than what all other routes take."""
        most, path = self.limits.max_body_bytes, scope["path"]
        if scope["method"] == "POST" and _PHOTOS.fullmatch(path):
            return max(most, PHOTO_BYTES)
        if scope["method"] == "POST" and _PHOTO_FORMS.fullmatch(path):
            return max(most, PHOTO_BYTES + _FORM_BYTES)
        return most

    async def _take(self, headers: Mapping[str, str], receive: Receive, most: int) -> bytes | None:
        """Return the body, None when it is too large; never holds more than the limit and one piece.

        Raises: _GoneError when the caller hung up in the middle.
        """
        announced = headers.get("content-length", "0")
        if not announced.isdigit() or len(announced) > 18 or int(announced) > most:
            return None
        body = bytearray()
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                raise _GoneError
            body += message.get("body", b"")
            if len(body) > most:
                return None
            if not message.get("more_body", False):
                return bytes(body)

    async def _refuse(self, answer: Response, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, and go on reading for a moment: closing with unread bytes would take the answer back (RST)."""

        async def hold_back(message: Message) -> None:
            if message["type"] == "http.response.body":
                message = {**message, "more_body": True}
            await send(message)

        await answer(scope, receive, hold_back)
        with contextlib.suppress(TimeoutError):
            await self.clock.timeout(_drain(receive), _LINGER_S)
        await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _drain(receive: Receive) -> None:
    while True:
        message = await receive()
        if message["type"] == "http.disconnect" or not message.get("more_body", False):
            return


def _replay(body: bytes, receive: Receive) -> Receive:
    pending: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def again() -> Message:
        return pending.pop() if pending else await receive()

    return again


def _early(status: int, sort: str, detail: str, scope: Scope, headers: Mapping[str, str] | None = None) -> Response:
    closing = {"connection": "close", **(headers or {})}
    return problems.response(status, sort, detail, instance=scope["path"], headers=closing)
