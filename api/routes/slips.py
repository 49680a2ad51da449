"""/api/v1/work-orders/slips: the day's dispatch slips for print."""

from __future__ import annotations

from datetime import UTC, date, datetime
from functools import partial
from typing import Annotated, Any, Literal
from zoneinfo import ZoneInfo

from fastapi import APIRouter, Query
from pydantic import AfterValidator, Field
from sqlalchemy.engine import Connection
from starlette.responses import Response

from api.access.caller import InCaller
from api.house import InHouse
from api.orders import slips, slips_print
from api.orders.book import DEFAULT_TZ
from api.parameters import Day, Strict, Word, clean
from api.problems import ProblemError, invalid
from api.queries.work_orders import seen_by
from registry.roles import Actor

router = APIRouter(prefix="/api/v1/work-orders", tags=["work orders"])
_TYPES = {"html": "text/html; charset=utf-8", "pdf": "application/pdf"}
_ANSWERS: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "Slips for print.",
        "content": {
            "text/html": {"schema": {"type": "string"}},
            "application/pdf": {"schema": {"type": "string", "format": "binary"}},
        },
    }
}
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; sandbox"
"""The page's one style sheet stands in it, so that it can be saved; nothing else runs or loads."""


class SlipsQuery(Strict):
    """Which slips, and in which form."""

    date: Day | None = Field(None, description="Local day; today when left out.")
    district: Word | None = None
    worker: Annotated[str, Field(min_length=1, max_length=64), AfterValidator(clean)] | None = Field(
        None, description="A worker or a team."
    )
    format: Literal["html", "pdf"] = "html"


@router.get("/slips", summary="Print dispatch slips 派工单", response_class=Response, responses=_ANSWERS)
async def print_slips(house: InHouse, caller: InCaller, query: Annotated[SlipsQuery, Query()]) -> Response:
    """Orders on their way, by district and worker; a worker gets his own and those of his teams."""
    day = _day(query.date, house.clock.now_ms())
    try:
        found = await house.read(partial(_sheets, caller=caller, day=day, query=query))
    except slips.TooManyError as error:
        raise ProblemError(422, "too-many", str(error)) from error
    body = await house.workers.run(lambda: _print(found, day, query.format))
    headers = {
        "cache-control": "no-store",
        "content-security-policy": _POLICY,
        "content-disposition": f'inline; filename="slips-{day.isoformat()}.{query.format}"',
    }
    return Response(body, media_type=_TYPES[query.format], headers=headers)


def _day(text: str | None, now_ms: int) -> date:
    if text is None:
        return datetime.fromtimestamp(now_ms / 1000, UTC).astimezone(ZoneInfo(DEFAULT_TZ)).date()
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        raise invalid("date", text, "there is no such day") from error


def _sheets(connection: Connection, *, caller: Actor, day: date, query: SlipsQuery) -> list[slips.Sheet]:
    seen = seen_by(connection, caller)
    return slips.sheets(connection, day, district=query.district, worker=query.worker, seen=seen)


def _print(found: list[slips.Sheet], day: date, form: str) -> bytes:
    return slips_print.to_pdf(found, day) if form == "pdf" else slips_print.to_html(found, day).encode()
