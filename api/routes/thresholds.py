"""/api/v1/thresholds and /api/v1/threshold-changes: what the rules judge by, and how that is changed."""

from __future__ import annotations

from datetime import date
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Query, Request
from pydantic import Field
from sqlalchemy.engine import Connection
from starlette.responses import Response

from anomaly import changes
from anomaly.changes import FloodError, StaleChangeError
from anomaly.thresholds import Thresholds, load_thresholds
from api import paging, thresholds
from api.access.caller import InCaller
from api.house import House, InHouse
from api.jobs import book
from api.parameters import Day, Nothing, PageQuery, Strict, Word
from api.preconditions import IfMatch, wanted_version, with_etag
from api.problems import ProblemError, invalid
from api.queries import jobs
from api.queries import thresholds as queries
from api.replies import reply
from api.routes.documented import answers
from api.schemas_thresholds import (
    BacktestIn,
    CancelIn,
    ChangeIn,
    ChangeOut,
    ChangePage,
    ConfirmIn,
    JobOut,
    ThresholdsOut,
)
from metering.errors import SettingsError

router = APIRouter(prefix="/api/v1", tags=["findings"])

NumberPath = Annotated[int, Path(ge=1, le=2**63 - 1, description="The change's id.", examples=[1])]
_LONGEST_D = 400


class ThresholdsQuery(Strict):
    """Of which meters, and on which day."""

    on: Day | None = Field(None, description="A local day; left out: today.")
    medium: Literal["gas", "water", "electricity"] | None = None
    customer_class: Word | None = Field(None, alias="class", description="Class of customers.")
    meter: Word | None = Field(None, description="One meter; medium and class then follow from it.")


class ChangesQuery(PageQuery):
    """Filters of the list of changes."""

    state: Literal["proposed", "tested", "confirmed", "cancelled"] | None = None


@router.get("/thresholds", summary="Thresholds in force 阈值", **answers(ThresholdsOut))
async def list_thresholds(
    request: Request, house: InHouse, caller: InCaller, query: Annotated[ThresholdsQuery, Query()]
) -> Response:
    """Every value with where it comes from: built-in, an entry of the settings' file, or a change."""
    day = _date(query.on)
    laid = base(house)
    now = house.clock.now_ms()
    found = await house.read(
        lambda c: queries.in_force(
            c, caller, laid, day=day, medium=query.medium or "", customer_class=query.customer_class or "",
            meter=query.meter or "", now_ms=now,
        )
    )  # fmt: skip
    return reply(request, found)


@router.get("/threshold-changes", summary="List changes of thresholds", **answers(ChangePage))
async def list_threshold_changes(
    request: Request, house: InHouse, caller: InCaller, query: Annotated[ChangesQuery, Query()]
) -> Response:
    """Newest first."""
    before = paging.number_key("threshold-changes", query.cursor)
    now = house.clock.now_ms()
    page = await house.read(
        lambda c: queries.list_changes(c, caller, state=query.state, before=before, limit=query.limit, now_ms=now)
    )
    return reply(request, ChangePage(items=page.items, next_cursor=page.next_cursor))


@router.post("/threshold-changes", summary="Propose a change", status_code=201, **answers(ChangeOut, status=201))
async def propose_threshold_change(
    request: Request, house: InHouse, caller: InCaller, body: ChangeIn, query: Annotated[Nothing, Query()]
) -> Response:
    """It counts once it was tried on the past and somebody else has confirmed it, from its date on."""
    laid, now = base(house), house.clock.now_ms()

    def work(connection: Connection) -> ChangeOut:
        number = changes.propose(
            connection, caller, thresholds=laid, effective=body.effective, scope=body.scope.words(),
            values=body.values, reason=body.reason, now_ms=now,
        )  # fmt: skip
        return queries.one_change(connection, caller, number, now_ms=now)

    made = await house.write(work)
    answer = _answer(request, made)
    answer.status_code = 201
    answer.headers["location"] = f"/api/v1/threshold-changes/{made.id}"
    return answer


@router.get("/threshold-changes/{number}", summary="One change of thresholds", **answers(ChangeOut))
async def one_threshold_change(
    request: Request, house: InHouse, caller: InCaller, number: NumberPath, query: Annotated[Nothing, Query()]
) -> Response:
    """With what the back-test found; its ETag goes into If-Match."""
    now = house.clock.now_ms()
    return _answer(request, await house.read(lambda c: queries.one_change(c, caller, number, now_ms=now)))


@router.post(
    "/threshold-changes/{number}/backtest", summary="Try it on the past", status_code=202,
    **answers(JobOut, status=202),
)  # fmt: skip
async def backtest_threshold_change(
    request: Request,
    house: InHouse,
    caller: InCaller,
    number: NumberPath,
    query: Annotated[Nothing, Query()],
    body: BacktestIn | None = None,
) -> Response:
    """A background job; what it finds is kept with the change."""
    wanted, now = body or BacktestIn(), house.clock.now_ms()
    t0, t1 = thresholds.period(now, wanted.from_, wanted.to)
    if not 0 < t1 - t0 <= _LONGEST_D * 86_400_000 or t1 > now:
        raise invalid("from", t0, f"the period must end before now and last up to {_LONGEST_D} days", place="body")

    def work(connection: Connection) -> JobOut:
        job = thresholds.submit_backtest(
            connection, caller, number, t0=t0, t1=t1, most_meters=wanted.most_meters, now_ms=now,
            settings=house.workshop.settings,
        )  # fmt: skip
        return jobs.job_out(book.row_of(connection, caller, job))

    made = await house.write(work)
    house.workshop.wake()
    answer = reply(request, made, cached=False)
    answer.status_code = 202
    answer.headers["location"] = f"/api/v1/jobs/{made.id}"
    return answer


@router.post("/threshold-changes/{number}/confirm", summary="Let a change count 确认", **answers(ChangeOut))
async def confirm_threshold_change(
    request: Request,
    house: InHouse,
    caller: InCaller,
    number: NumberPath,
    query: Annotated[Nothing, Query()],
    body: ConfirmIn | None = None,
    if_match: IfMatch = None,
) -> Response:
    """By somebody else than its author. One that would flag much of the city needs the number said."""
    wanted, version, now = body or ConfirmIn(), wanted_version(if_match), house.clock.now_ms()

    def work(connection: Connection) -> ChangeOut:
        changes.confirm(
            connection, caller, number, now_ms=now, most_share=house.alarms.most_flagged_share,
            accept=wanted.accept_flagged, note=wanted.note, version=version,
        )  # fmt: skip
        return queries.one_change(connection, caller, number, now_ms=now)

    return _answer(request, await _decided(house, work))


@router.post("/threshold-changes/{number}/cancel", summary="Give a change up", **answers(ChangeOut))
async def cancel_threshold_change(
    request: Request,
    house: InHouse,
    caller: InCaller,
    number: NumberPath,
    query: Annotated[Nothing, Query()],
    body: CancelIn | None = None,
    if_match: IfMatch = None,
) -> Response:
    """One that waits, or a confirmed one before its date."""
    wanted, version, now = body or CancelIn(), wanted_version(if_match), house.clock.now_ms()

    def work(connection: Connection) -> ChangeOut:
        changes.cancel(connection, caller, number, now_ms=now, note=wanted.note, version=version)
        return queries.one_change(connection, caller, number, now_ms=now)

    return _answer(request, await _decided(house, work))


async def _decided(house: House, work: Any) -> ChangeOut:
    try:
        done: ChangeOut = await house.write(work)
    except FloodError as error:
        raise ProblemError(409, "would-flag-too-many", str(error)) from error
    except StaleChangeError as error:
        raise ProblemError(412, "changed-meanwhile", str(error)) from error
    return done


def _answer(request: Request, change: ChangeOut) -> Response:
    return with_etag(reply(request, change, cached=False), change.version)


def base(house: House) -> Thresholds:
    """Return the file's thresholds. Raises: ProblemError 503 when the file cannot be used."""
    try:
        return load_thresholds(house.workshop.thresholds)
    except SettingsError as error:
        raise ProblemError(503, "thresholds-unreadable", f"the file of thresholds cannot be used: {error}") from error


def _date(day: str | None) -> date | None:
    try:
        return None if day is None else date.fromisoformat(day)
    except ValueError as error:
        raise invalid("on", day, "no such date") from error
