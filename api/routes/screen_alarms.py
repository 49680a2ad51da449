"""/alarms: the list, one alarm with its proof and history, and what a person does about it, as plain forms."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Query, Request
from sqlalchemy.engine import Connection
from starlette.responses import RedirectResponse, Response

from api.access.caller import InCaller
from api.access.forms import checked_fields
from api.house import House, InHouse
from api.parameters import Cursor, Strict, Word, clean
from api.problems import ProblemError
from api.queries import findings
from api.queries.findings import Filters
from api.routes.findings import NumberPath
from api.screens.frame import attempt, own_address, page
from registry import findings_actions
from registry.alarm_states import AlarmEvent, TransitionError
from registry.findings_actions import StaleFindingError, UnknownFindingError
from registry.findings_rate import alarm_rate
from registry.findings_words import Priority
from registry.roles import Actor

router = APIRouter(include_in_schema=False)
_ROWS: Final = 100
_CHILDREN: Final = 200
_LONGEST_NOTE: Final = 1000
SHELVE_HOURS: Final = (1, 8, 24, 72)
Refused = Literal["changed", "not_now", "unknown", "note", "until"]


class AlarmsQuery(Strict):
    """Filters of the list; an empty field of the form narrows nothing."""

    view: Literal["open", "unacknowledged", "suppressed", "outages", "all"] = "open"
    priority: Priority | Literal[""] = ""
    kind: Word | Literal[""] = ""
    district: Word | Literal[""] = ""
    cursor: Cursor | None = None
    refused: Refused | None = None

    def filters(self) -> Filters:
        """The same for the query."""
        return Filters(
            priority=self.priority or None,
            kind=self.kind or None,
            district=self.district or None,
            unacknowledged=self.view == "unacknowledged",
            suppressed=self.view in ("suppressed", "all"),
            parents_only=self.view == "outages",
            shown_only=self.view == "open",
        )


class AlarmQuery(Strict):
    """What became of the form that led here."""

    refused: Refused | None = None


@router.get("/alarms")
async def alarms_page(
    request: Request, house: InHouse, caller: InCaller, query: Annotated[AlarmsQuery, Query()]
) -> Response:
    """What waits for a person first; newest first."""
    now = house.clock.now_ms()

    def look(connection: Connection) -> Any:
        page_of = findings.list_findings(
            connection, areas=caller.areas, filters=query.filters(), limit=_ROWS, cursor=query.cursor
        )
        return page_of, alarm_rate(connection, now, house.alarms)

    found, trouble = await attempt(house.read(look))
    return await page(
        house,
        request,
        caller,
        "alarms.html",
        topics="findings",
        found=found[0] if found else None,
        rate=found[1] if found else None,
        manageable=house.alarms.rate_manageable,
        query=query,
        trouble=trouble,
    )


@router.get("/alarms/{number}")
async def alarm_page(
    request: Request, house: InHouse, caller: InCaller, number: NumberPath, query: Annotated[AlarmQuery, Query()]
) -> Response:
    """One alarm: why, since when, what was done, what it explains."""

    def look(connection: Connection) -> Any:
        alarm = findings.one_finding(connection, number, areas=caller.areas)
        children = (
            findings.list_findings(
                connection, areas=caller.areas, filters=Filters(parent=alarm.key), limit=_CHILDREN, cursor=None
            ).items
            if alarm.children
            else []
        )
        return alarm, children

    found, trouble = await attempt(house.read(look))
    return await page(
        house,
        request,
        caller,
        "alarm.html",
        topics="findings",
        number=number,
        alarm=found[0] if found else None,
        children=found[1] if found else [],
        hours=[hours for hours in SHELVE_HOURS if hours <= house.alarms.shelve_max_h],
        query=query,
        trouble=trouble,
    )


@router.post("/alarms/{number}/acknowledge")
async def acknowledge(request: Request, house: InHouse, caller: InCaller, number: NumberPath) -> Response:
    """Say that somebody knows."""
    return await _act(request, house, caller, number, AlarmEvent.ACKNOWLEDGE)


@router.post("/alarms/{number}/shelve")
async def shelve(request: Request, house: InHouse, caller: InCaller, number: NumberPath) -> Response:
    """Put it aside for some hours."""
    return await _act(request, house, caller, number, AlarmEvent.SHELVE)


@router.post("/alarms/{number}/unshelve")
async def unshelve(request: Request, house: InHouse, caller: InCaller, number: NumberPath) -> Response:
    """Show it again before its time."""
    return await _act(request, house, caller, number, AlarmEvent.UNSHELVE)


@router.post("/alarms/{number}/comment")
async def comment(request: Request, house: InHouse, caller: InCaller, number: NumberPath) -> Response:
    """Add a line to its history."""
    fields = await checked_fields(request)
    note, now = _note(fields), house.clock.now_ms()
    if not note:
        return _back(fields, "note")
    version = _version(fields)
    return await _done(
        house, fields, lambda c: findings_actions.comment(c, caller, number, note, now_ms=now, version=version)
    )


async def _act(request: Request, house: House, caller: Actor, number: int, event: AlarmEvent) -> Response:
    fields = await checked_fields(request)
    note, now = _note(fields), house.clock.now_ms()
    if note is None:
        return _back(fields, "note")
    until = None
    if event is AlarmEvent.SHELVE:
        hours = fields.get("hours", "")
        if hours not in map(str, SHELVE_HOURS) or int(hours) > house.alarms.shelve_max_h:
            return _back(fields, "until")
        until = now + int(hours) * 3_600_000
    return await _done(
        house,
        fields,
        lambda c: findings_actions.act(
            c, caller, number, event, now_ms=now, note=note, until=until, version=_version(fields)
        ),
    )


async def _done(house: House, fields: dict[str, str], work: Callable[[Connection], Any]) -> Response:
    """Do it and go back to where the form stood; what was refused is said there."""
    try:
        await house.write(work)
    except StaleFindingError:
        return _back(fields, "changed")
    except TransitionError:
        return _back(fields, "not_now")
    except UnknownFindingError:
        return _back(fields, "unknown")
    return _back(fields)


def _note(fields: dict[str, str]) -> str | None:
    """Return the note of a form, None when it cannot be kept as it is."""
    note = " ".join(fields.get("note", "").split())
    try:
        return clean(note) if len(note) <= _LONGEST_NOTE else None
    except ValueError:
        return None


def _version(fields: dict[str, str]) -> int | None:
    text = fields.get("version", "")
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 16):
        raise ProblemError(422, "invalid-form", "version must be a whole number")
    return int(text)


def _back(fields: dict[str, str], refused: Refused | None = None) -> Response:
    address = own_address(fields.get("back", "/alarms"))
    path, _, query = address.partition("?")
    kept = [pair for pair in query.split("&") if pair and not pair.startswith("refused=")]
    pairs = kept + ([f"refused={refused}"] if refused else [])
    address = path + ("?" + "&".join(pairs) if pairs else "")
    return RedirectResponse(address, 303, headers={"cache-control": "no-store"})
