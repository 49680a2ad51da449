"""/events: what changed, as server-sent events, for pages that are open."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Annotated, Final

from fastapi import APIRouter, Query, Request
from pydantic import Field
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from api.access.caller import InCaller
from api.access.gate import IDENTITY
from api.access.identify import Identity
from api.access.table import LOOK
from api.house import InHouse
from api.parameters import END_OF_TIME, Strict, Word
from api.problems import ProblemError
from api.queries import meters
from api.screens.frame import texts_of
from api.screens.live import Hub
from api.screens.live_stream import Stream

router = APIRouter(include_in_schema=False)

_HEADERS: Final = [
    (b"content-type", b"text/event-stream"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),  # nginx would hold events back
]


class _Events(Response):
    """Sends what the stream gathers, until the viewer or the login is gone."""

    def __init__(self, hub: Hub, stream: Stream) -> None:
        super().__init__(media_type="text/event-stream")
        self._hub, self._stream = hub, stream

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        gone = asyncio.create_task(_until_gone(receive))
        try:
            await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
            while not gone.done():
                waiting = asyncio.create_task(self._stream.waiting.wait())
                await asyncio.wait((waiting, gone), return_when=asyncio.FIRST_COMPLETED)
                waiting.cancel()
                if body := self._stream.take(self._hub.boot):
                    await send({"type": "http.response.body", "body": body, "more_body": True})
                if self._stream.ended:
                    break
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            self._hub.leave(self._stream)
            gone.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await gone


async def _until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


class EventsQuery(Strict):
    """The meter that a page shows, and the time of the reading that it shows [ms UTC]; the place of the page."""

    meter: Word | None = None
    since: Annotated[str, Field(max_length=64)] = ""
    seen: Annotated[int, Field(ge=0, le=END_OF_TIME)] = 0


@router.get("/events")
async def events(
    request: Request, house: InHouse, caller: InCaller, query: Annotated[EventsQuery, Query()]
) -> Response:
    """Events hello, change, beat, resync, bye; see docs/screens.md. 406 for whoever does not ask for a stream."""
    if "text/event-stream" not in request.headers.get("accept", ""):
        raise ProblemError(406, "not-acceptable", "this address answers with text/event-stream alone")
    identity: Identity = request.scope[IDENTITY]
    meter = query.meter if query.meter is not None and caller.has(*LOOK) else ""
    if meter:
        await house.read(lambda c: meters.require(c, meter, areas=caller.areas))
    last = request.headers.get("last-event-id", "") or query.since
    stream = house.hub.join(identity, last, meter=meter, seen_at=query.seen, language=texts_of(request).language)
    if stream is None:
        detail = f"{house.settings.max_event_streams} pages are watched live; this one shows what it has"
        raise ProblemError(503, "busy", detail, headers={"retry-after": "10"})
    return _Events(house.hub, stream)
