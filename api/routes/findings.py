"""/api/v1/findings: what is wrong, since when, why, and what was done about it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial
from typing import Annotated, Any, Final, Literal, TypeVar

from fastapi import APIRouter, Path, Query, Request
from pydantic import AfterValidator, Field
from sqlalchemy.engine import Connection
from starlette.responses import Response

from api import formats
from api.access.caller import InCaller
from api.formats import Form, FormatParameter
from api.house import House, InHouse
from api.parameters import Moment, Nothing, PageQuery, Word, clean
from api.preconditions import IfMatch, wanted_version, with_etag
from api.problems import ProblemError, invalid, not_found
from api.queries import findings
from api.queries.findings import Filters
from api.replies import reply
from api.routes.documented import answers
from api.schemas_findings import (
    AcknowledgeIn,
    BackIn,
    CommentIn,
    FindingDetail,
    FindingOut,
    FindingPage,
    ManyIn,
    ManyOut,
    OneOfMany,
    UntilIn,
)
from metering.clock import rfc3339
from registry import findings_actions
from registry.alarm_states import AlarmEvent, AlarmState, TransitionError
from registry.findings_actions import StaleFindingError, UnknownFindingError
from registry.findings_words import Change, Priority, Severity
from registry.roles import Actor

router = APIRouter(prefix="/api/v1/findings", tags=["findings"])
T = TypeVar("T")

NumberPath = Annotated[int, Path(ge=1, le=2**63 - 1, description="The finding's id.", examples=[1])]
Key = Annotated[str, Field(min_length=1, max_length=160), AfterValidator(clean)]
_CSV: Final = tuple(name for name in FindingOut.model_fields)


class FindingsQuery(PageQuery):
    """Filters; several must all hold."""

    state: Literal["NORM", "UNACK", "ACKED", "RTNUN", "SHLVD", "DSUPR", "OOSRV"] | None = None
    kind: Word | None = Field(None, examples=["leak"])
    priority: Priority | None = None
    severity: Severity | None = None
    district: Word | None = None
    gateway: Word | None = None
    meter: Word | None = None
    usage_point: Word | None = None
    parent: Key | None = Field(None, description="Key of an outage: the findings that it explains.")
    from_: Moment | None = Field(None, alias="from", description="First detected_at, included.")
    to: Moment | None = Field(None, description="Last detected_at, not included.")
    open: Literal["true", "false"] = Field("false", description="Only those whose condition still holds.")
    parents: Literal["true", "false"] = Field("false", description="Only outages of gateways, buses, districts.")
    unacknowledged: Literal["true", "false"] = Field("false", description="Only those that somebody must confirm.")
    suppressed: Literal["true", "false"] = Field(
        "false", description="Also those that are shelved, explained by an outage, or out of service."
    )
    format: FormatParameter = None

    def filters(self) -> Filters:
        """The same for the query."""
        return Filters(
            state=self.state,
            kind=self.kind,
            priority=self.priority,
            severity=self.severity,
            district=self.district,
            gateway=self.gateway,
            meter=self.meter,
            usage_point=self.usage_point,
            parent=self.parent,
            t0=self.from_,
            t1=self.to,
            open_only=self.open == "true",
            parents_only=self.parents == "true",
            unacknowledged=self.unacknowledged == "true",
            suppressed=self.suppressed == "true",
        )


@router.get("", summary="List findings", **answers(FindingPage, streams=True))
async def list_findings(
    request: Request, house: InHouse, caller: InCaller, query: Annotated[FindingsQuery, Query()]
) -> Response:
    """Newest first: a page as JSON, or all as NDJSON or CSV. What is put aside or explained comes on request."""
    fmt = formats.negotiate(request, query.format)
    if fmt == "json":
        page = await house.read(
            lambda c: findings.list_findings(
                c, areas=caller.areas, filters=query.filters(), limit=query.limit, cursor=query.cursor
            )
        )
        return reply(request, FindingPage(items=page.items, next_cursor=page.next_cursor))
    if {"cursor", "limit"} & query.model_fields_set:
        raise invalid("format", fmt, "a stream gives everything and takes neither cursor nor limit")
    form = _FORMS[fmt]
    return await formats.stream(house, _all(house, caller, query.filters(), form), form, "findings")


async def _all(house: House, caller: Actor, filters: Filters, form: Form) -> AsyncIterator[bytes]:
    def encoded(cursor: str | None, connection: Connection) -> tuple[bytes, str | None]:
        page = findings.list_findings(
            connection, areas=caller.areas, filters=filters, limit=formats.STREAM_PAGE, cursor=cursor
        )
        return form.encode(page.items), page.next_cursor

    cursor: str | None = None
    while True:
        body, cursor = await house.read(partial(encoded, cursor))
        yield body
        if cursor is None:
            return


def _json_lines(rows: Sequence[FindingOut]) -> bytes:
    return "".join(row.model_dump_json() + "\n" for row in rows).encode()


def _csv_lines(rows: Sequence[FindingOut]) -> bytes:
    return formats.csv_lines(
        ["" if (value := getattr(row, name)) is None else str(value) for name in _CSV] for row in rows
    )


_FORMS: Final = {
    "ndjson": Form("ndjson", bytes, _json_lines),
    "csv": Form("csv", lambda: formats.csv_lines([_CSV]), _csv_lines),
}


@router.get("/{number}", summary="One finding", **answers(FindingDetail))
async def one_finding(
    request: Request, house: InHouse, caller: InCaller, number: NumberPath, query: Annotated[Nothing, Query()]
) -> Response:
    """With the numbers that prove it, its history, and what a person can do now. Its ETag goes into If-Match."""
    found = await house.read(lambda c: findings.one_finding(c, number, areas=caller.areas))
    return with_etag(reply(request, found, cached=False), found.version)


@router.post("/{number}/acknowledge", summary="Acknowledge a finding 确认", **answers(FindingDetail))
async def acknowledge_finding(
    request: Request,
    house: InHouse,
    caller: InCaller,
    number: NumberPath,
    query: Annotated[Nothing, Query()],
    body: AcknowledgeIn | None = None,
    if_match: IfMatch = None,
) -> Response:
    """Say that somebody knows. With If-Match: 412 when it changed since."""
    return await _act(request, house, caller, number, AlarmEvent.ACKNOWLEDGE, if_match, body.note if body else "")


@router.post("/{number}/comment", summary="Comment on a finding 备注", **answers(FindingDetail))
async def comment_finding(
    request: Request,
    house: InHouse,
    caller: InCaller,
    number: NumberPath,
    body: CommentIn,
    query: Annotated[Nothing, Query()],
    if_match: IfMatch = None,
) -> Response:
    """Add a line to its history; allowed in every state."""
    version = wanted_version(if_match)

    def work(connection: Connection) -> Change:
        now = house.clock.now_ms()
        return findings_actions.comment(connection, caller, number, body.note, now_ms=now, version=version)

    return await _done(request, house, caller, number, work)


@router.post("/{number}/shelve", summary="Shelve a finding 搁置", **answers(FindingDetail))
async def shelve_finding(
    request: Request,
    house: InHouse,
    caller: InCaller,
    number: NumberPath,
    body: UntilIn,
    query: Annotated[Nothing, Query()],
    if_match: IfMatch = None,
) -> Response:
    """Put it aside until a time; then it is shown again as what it has become."""
    _check_until(house, body.until, house.alarms.shelve_max_h)
    return await _act(request, house, caller, number, AlarmEvent.SHELVE, if_match, body.note, body.until)


@router.post("/{number}/unshelve", summary="Unshelve a finding 取消搁置", **answers(FindingDetail))
async def unshelve_finding(
    request: Request,
    house: InHouse,
    caller: InCaller,
    number: NumberPath,
    query: Annotated[Nothing, Query()],
    body: BackIn | None = None,
    if_match: IfMatch = None,
) -> Response:
    """Show it again before its time."""
    return await _act(request, house, caller, number, AlarmEvent.UNSHELVE, if_match, body.note if body else "")


@router.post("/{number}/out-of-service", summary="Take a finding out of service 停用", **answers(FindingDetail))
async def take_out_finding(
    request: Request,
    house: InHouse,
    caller: InCaller,
    number: NumberPath,
    body: UntilIn,
    query: Annotated[Nothing, Query()],
    if_match: IfMatch = None,
) -> Response:
    """Take it out of service until a time, for work on site; for more than one use a maintenance window."""
    _check_until(house, body.until, house.alarms.out_of_service_max_h)
    return await _act(request, house, caller, number, AlarmEvent.OUT_OF_SERVICE, if_match, body.note, body.until)


@router.post("/{number}/return-to-service", summary="Return a finding to service 恢复投用", **answers(FindingDetail))
async def return_finding(
    request: Request,
    house: InHouse,
    caller: InCaller,
    number: NumberPath,
    query: Annotated[Nothing, Query()],
    body: BackIn | None = None,
    if_match: IfMatch = None,
) -> Response:
    """Bring it back before its time."""
    return await _act(request, house, caller, number, AlarmEvent.RETURN, if_match, body.note if body else "")


@router.post("/acknowledge", summary="Acknowledge several findings 批量确认", **answers(ManyOut))
async def acknowledge_findings(
    request: Request, house: InHouse, caller: InCaller, body: ManyIn, query: Annotated[Nothing, Query()]
) -> Response:
    """Each by itself: what became of it stands in the answer, and a refusal of one stops no other."""
    done = [await house.write(partial(_one_of_many, house, caller, number, body.note)) for number in body.ids]
    return reply(request, ManyOut(items=done), cached=False)


def _one_of_many(house: House, caller: Actor, number: int, note: str, connection: Connection) -> OneOfMany:
    now = house.clock.now_ms()
    try:
        change = findings_actions.act(connection, caller, number, AlarmEvent.ACKNOWLEDGE, now_ms=now, note=note)
    except UnknownFindingError as error:
        return OneOfMany(id=number, status=404, state=None, detail=str(error))
    except TransitionError as error:
        return OneOfMany(id=number, status=409, state=error.state, detail=str(error))
    return OneOfMany(id=number, status=200, state=AlarmState(change.new_state), detail="")


def _check_until(house: House, until: int, longest_h: float) -> None:
    left_ms = until - house.clock.now_ms()
    if left_ms <= 0:
        raise invalid("until", rfc3339(until), "must lie in the future", place="body")
    if left_ms > longest_h * 3_600_000:
        raise invalid("until", rfc3339(until), f"may lie at most {longest_h:g} h ahead", place="body")


async def _act(
    request: Request,
    house: House,
    caller: Actor,
    number: int,
    event: AlarmEvent,
    if_match: str | None,
    note: str,
    until: int | None = None,
) -> Response:
    version = wanted_version(if_match)

    def work(connection: Connection) -> Change:
        now = house.clock.now_ms()  # of the transaction: what waited for a hand-over belongs to the next shift
        return findings_actions.act(
            connection, caller, number, event, now_ms=now, note=note, until=until, version=version
        )

    return await _done(request, house, caller, number, work)


async def _done(
    request: Request, house: House, caller: Actor, number: int, work: Callable[[Connection], Any]
) -> Response:
    """Do it, and answer with the finding as it is afterwards, read in the same transaction."""

    def both(connection: Connection) -> FindingDetail:
        work(connection)
        return findings.one_finding(connection, number, areas=caller.areas)

    try:
        found = await house.write(both)
    except UnknownFindingError as error:
        raise not_found("finding", number) from error
    except StaleFindingError as error:
        raise ProblemError(412, "changed-meanwhile", str(error), headers={"etag": f'"v{error.version}"'}) from error
    except TransitionError as error:
        raise ProblemError(409, "not-permitted-now", str(error)) from error
    return with_etag(reply(request, found, cached=False), found.version)
