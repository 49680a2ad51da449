"""/, /assets, /preferences: the overview, and what every page needs."""

from __future__ import annotations

from functools import partial
from typing import Annotated, Final

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from api.access.caller import InCaller
from api.access.forms import form_fields
from api.access.login import set_cookie
from api.access.table import LOOK
from api.house import House, InHouse
from api.parameters import Nothing
from api.problems import not_found
from api.queries.board import Board, board, meter_counts
from api.queries.hourly_flow import FlowNow, flow_now
from api.queries.read_rate import is_below, percent
from api.queries.readiness import readiness
from api.replies import see_other
from api.schemas import Readiness
from api.screens.assets import by_file
from api.screens.frame import LANGUAGE, THEME, THEMES, attempt, own_address, page
from api.screens.texts import LANGUAGES
from registry.findings_rate import AlarmRate, alarm_rate
from registry.roles import Actor

router = APIRouter(include_in_schema=False)
_FOREVER: Final = "public, max-age=31536000, immutable"
_KEEP_S: Final = 1.0
_EASE: Final = 20.0
"""To count all meters may take a twentieth of one processor while somebody watches."""
_YEAR_S: Final = 31_536_000


@router.get("/")
async def overview_page(
    request: Request, house: InHouse, caller: InCaller, query: Annotated[Nothing, Query()]
) -> Response:
    """What is wrong now, and where."""
    if not caller.has(*LOOK):
        return await page(house, request, caller, "nothing.html")
    ready = await house.shared.get(("ready", caller.areas), lambda: _ready(house, caller), keep_s=_KEEP_S)
    found, trouble = await attempt(
        house.shared.get(("board", caller.areas), lambda: _board(house, caller), keep_s=_KEEP_S)
    )
    return await page(
        house,
        request,
        caller,
        "overview.html",
        topics="findings readings gateways orders",
        board=found[0] if found else None,
        rate=found[1] if found else None,
        flow=found[2] if found else None,
        read_rate=percent(found[0].read, found[0].due) if found else "",
        is_below=partial(is_below, target=house.settings.read_rate_target),
        target=f"{house.settings.read_rate_target:g}",
        window_h=f"{house.settings.read_rate_window_s / 3600:g}",
        percent=percent,
        ready=ready,
        trouble=trouble,
    )


async def _board(house: House, caller: Actor) -> tuple[Board, AlarmRate, FlowNow]:
    limits, now, areas = house.settings, house.clock.now_ms(), caller.areas
    since = limits.read_rate_since(now)
    counts = await house.shared.get(
        ("read", areas),
        lambda: house.read(lambda c: meter_counts(c, areas=areas, since=since)),
        keep_s=_KEEP_S,
        ease=_EASE,
    )
    return await house.read(
        lambda c: (
            board(c, counts, areas=areas, now_ms=now, stale_s=limits.gateway_stale_s),
            alarm_rate(c, now, house.alarms),
            flow_now(c, areas=areas, now_ms=now),
        )
    )


async def _ready(house: House, caller: Actor) -> Readiness:
    limits, now = house.settings, house.clock.now_ms()
    return await house.workers.run(
        lambda: readiness(
            house.database,
            house.store,
            areas=caller.areas,
            now_ms=now,
            ingest_stale_s=limits.ingest_stale_s,
            gateway_stale_s=limits.gateway_stale_s,
        )
    )


@router.get("/assets/{file}")
async def asset(request: Request, file: str, query: Annotated[Nothing, Query()]) -> Response:
    """One built script; its name holds the digest of its content, so that it may be kept for ever."""
    found = by_file(file)
    if found is None:
        raise not_found("file", file)
    headers = {"cache-control": _FOREVER, "vary": "accept-encoding"}
    if "gzip" in request.headers.get("accept-encoding", ""):
        return Response(found.packed, headers={**headers, "content-encoding": "gzip"}, media_type="text/javascript")
    return Response(found.body, headers=headers, media_type="text/javascript")


@router.post("/preferences")
async def prefer(request: Request, query: Annotated[Nothing, Query()]) -> Response:
    """Language and theme of this browser; nothing else is changed, so that the form needs no login."""
    fields = await form_fields(request)
    answer = see_other(own_address(fields.get("back", "/")))
    for field, cookie, words in (("language", LANGUAGE, LANGUAGES), ("theme", THEME, THEMES)):
        if fields.get(field) in words:
            set_cookie(answer, request, cookie, fields[field], keep_s=_YEAR_S)
    return answer
