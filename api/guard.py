"""The limits that uvicorn does not have: what one connection may cost before it has asked anything.

Measured with uvicorn's defaults: 800 half-open requests stayed for ever, and httptools collects a header line of any
length. `GuardedProtocol` is uvicorn's own HTTP/1.1 protocol with

- a deadline for complete headers (408), from the first byte to the last, so that one byte a second does not help;
- a deadline for the body, and for a caller who does not read the answer;
- limits for the request line, the headers together, their number (414, 431), chunk overhead and pipelined requests;
- a limit on open connections: when full, the one that has waited longest without a request makes room.

Timers are the event loop's, as uvicorn's own are: they guard sockets, no result depends on them.
"""

from __future__ import annotations

import asyncio
from enum import Enum
from typing import Any, Final, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from api.metrics import ApiMetrics
from api.problems import raw_answer
from api.settings import ApiSettings

MAX_PIPELINED: Final = 16
_CHUNK_OVERHEAD: Final = 8  # "1\r\nx\r\n" is six bytes for one


class _Parsing(Enum):
    """Where in a request the bytes are."""

    BETWEEN = "between"
    HEAD = "head"
    BODY = "body"


class ConnectionGuard:
    """What all connections of one server share: limits, counters, and who is waiting without a request."""

    def __init__(self, limits: ApiSettings, metrics: ApiMetrics) -> None:
        self.limits = limits
        self.metrics = metrics
        self.waiting: dict[GuardedProtocol, None] = {}  # in the order of their waiting


class GuardedProtocol(HttpToolsProtocol):
    """One connection with deadlines and limits."""

    def __init__(self, *, guard: ConnectionGuard, **uvicorn_arguments: Any) -> None:
        super().__init__(**uvicorn_arguments)
        self._guard = guard
        self._limits = guard.limits
        self._parsing = _Parsing.HEAD
        self._message = 0
        self._refusal: tuple[int, str, str] | None = None
        self._ignoring = False
        self._deadline: asyncio.TimerHandle | None = None
        self._write_deadline: asyncio.TimerHandle | None = None
        self._head_bytes = 0
        self._partial_head = 0
        self._body_bytes = 0
        self._overhead = 0

    # -- the connection --------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(cast(asyncio.Transport, transport))
        self._guard.metrics.connections.inc()
        self._guard.waiting[self] = None
        self._arm(self._limits.header_timeout_s)
        if len(self.connections) > self._limits.max_connections:
            self._make_room()

    def _make_room(self) -> None:
        longest = next(iter(self._guard.waiting))
        if longest is not self:
            self._guard.waiting.pop(longest)
            longest._give_way()
        else:
            self._refuse(503, "too-many-connections", f"{self._limits.max_connections} connections are open")

    def _give_way(self) -> None:
        if self._parsing is _Parsing.BETWEEN:
            self.transport.close()  # idle between two requests: an answer would be taken for the next one's
        else:
            self._refuse(503, "too-many-connections", "this connection waited longest without a request")

    def connection_lost(self, exc: Exception | None) -> None:
        self._guard.metrics.connections.dec()
        self._guard.waiting.pop(self, None)
        self._disarm()
        self._disarm_write()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._ignoring or self.transport.is_closing():
            return
        if self._parsing is _Parsing.BETWEEN and self._deadline is None:
            self._arm(self._limits.header_timeout_s)
        before = (self._parsing, self._message, self._body_bytes)
        super().data_received(data)
        if not self._ignoring and not self.transport.is_closing() and before[:2] == (self._parsing, self._message):
            self._count_unfinished(len(data), self._body_bytes - before[2])

    def _count_unfinished(self, size: int, body: int) -> None:
        """The whole of `size` bytes belonged to one unfinished head or body; the parser keeps parts of it."""
        if self._parsing is _Parsing.HEAD:
            self._partial_head += size
            if self._partial_head > self._limits.max_header_bytes:
                self._refuse(*self._too_large())
        elif self._parsing is _Parsing.BODY:
            self._overhead += size - body
            fair = min(self._body_bytes, self._limits.max_body_bytes) * _CHUNK_OVERHEAD
            if self._overhead > self._limits.max_header_bytes + fair:
                self._guard.metrics.refuse("chunk-overhead")
                self.transport.abort()

    # -- the parser's calls ----------------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._parsing = _Parsing.HEAD
        self._message += 1
        self._head_bytes = self._partial_head = self._body_bytes = self._overhead = 0
        if self._deadline is None:
            self._arm(self._limits.header_timeout_s)

    def on_url(self, url: bytes) -> None:
        super().on_url(url)
        self._head_bytes += len(url)
        if self._head_bytes > self._limits.max_header_bytes:
            self._stop_parsing(414, "address-too-long", f"the address has over {self._limits.max_header_bytes} bytes")

    def on_header(self, name: bytes, value: bytes) -> None:
        super().on_header(name, value)
        self._head_bytes += len(name) + len(value) + 4
        if self._head_bytes > self._limits.max_header_bytes:
            self._stop_parsing(*self._too_large())
        if len(self.headers) > self._limits.max_headers:
            self._stop_parsing(431, "too-many-headers", f"over {self._limits.max_headers} header lines")

    def on_headers_complete(self) -> None:
        self._parsing = _Parsing.BODY
        self._guard.waiting.pop(self, None)
        if len(self.pipeline) >= MAX_PIPELINED:
            self._stop_parsing(429, "too-many-pipelined", f"over {MAX_PIPELINED} requests without reading an answer")
        # the body limit of the application answers first; this one is for a caller whom nobody listens to any more
        self._arm(self._limits.body_timeout_s + 1)
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._body_bytes += len(body)
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._parsing = _Parsing.BETWEEN
        self._disarm()
        super().on_message_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.transport.is_closing():
            return
        if self._parsing is _Parsing.BODY and not self.pipeline and self.cycle.response_complete:
            self.transport.close()  # answered before the body was sent: nobody would read it
        elif not self.pipeline:
            self._guard.waiting[self] = None

    # -- refusals --------------------------------------------------------------------------------------------------

    def _too_large(self) -> tuple[int, str, str]:
        return 431, "headers-too-large", f"the headers have over {self._limits.max_header_bytes} bytes"

    def _stop_parsing(self, status: int, sort: str, detail: str) -> None:
        self._refusal = (status, sort, detail)
        raise ValueError(detail)  # httptools hands it on as a parser error, which ends in send_400_response

    def send_400_response(self, msg: str) -> None:
        """Answer what cannot be parsed; called by uvicorn."""
        self._refuse(*(self._refusal or (400, "not-http", "this is not an HTTP/1.1 request")))

    def _refuse(self, status: int, sort: str, detail: str) -> None:
        """Answer and close; an answer that is under way is finished first."""
        if self.transport.is_closing() or self._ignoring:
            return
        self._guard.metrics.refuse(sort)
        self._disarm()
        cycle = self.cycle
        if cycle is not None and not cycle.response_complete and (cycle.response_started or not cycle.more_body):
            cycle.keep_alive = False
            self._ignoring = True
            self.pipeline.clear()
            return
        self.transport.write(raw_answer(status, sort, detail))
        self.transport.close()

    # -- deadlines -------------------------------------------------------------------------------------------------

    def _arm(self, seconds: float) -> None:
        self._disarm()
        self._deadline = self.loop.call_later(seconds, self._expired)

    def _disarm(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _expired(self) -> None:
        self._deadline = None
        if self.transport.is_closing():
            return
        if self._parsing is _Parsing.BODY:
            self._refuse(408, "slow-body", f"the body was not complete after {self._limits.body_timeout_s:g} s")
        else:
            self._refuse(408, "slow-headers", f"no complete request after {self._limits.header_timeout_s:g} s")

    def pause_writing(self) -> None:
        super().pause_writing()
        if self._write_deadline is None:
            self._write_deadline = self.loop.call_later(self._limits.write_timeout_s, self._unread)

    def resume_writing(self) -> None:
        self._disarm_write()
        super().resume_writing()

    def _disarm_write(self) -> None:
        if self._write_deadline is not None:
            self._write_deadline.cancel()
            self._write_deadline = None

    def _unread(self) -> None:
        self._write_deadline = None
        self._guard.metrics.refuse("unread-answer")
        self.transport.abort()
