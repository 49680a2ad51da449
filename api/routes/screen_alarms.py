"""/alarms: the list, one alarm with its proof and history, and what a person does about it, as plain forms."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Query
from sqlalchemy.engine import Connection
from starlette.responses import Response

from api import words
from api.access.forms import checked_fields, checked_lists
from api.here import Here, InHere
from api.parameters import Cursor, Strict, Word
from api.queries import findings
from api.queries.alarm_parents import folded
from api.queries.findings import Filters
from api.routes.findings import NumberPath
from api.routes.screen_parts import show
from api.screens import alarm_forms as forms
from api.screens.alarm_rate_chart import rate_chart
from api.screens.frame import attempt, surroundings
from api.screens.orders import quantity_of
from registry import findings_actions
from registry.alarm_states import AlarmEvent, TransitionError
from registry.findings_actions import StaleFindingError, UnknownFindingError
from registry.findings_rate import alarm_rate, rate_series
from registry.findings_words import Priority

router = APIRouter(include_in_schema=False)
_ROWS: Final = 100
_CHILDREN: Final = 200
_PICK_FIELDS: Final = forms.MOST_PICKED + 10
SHELVE_HOURS: Final = (1, 8, 24, 72)


class AlarmsQuery(Strict):
    """Filters of the list; an empty field of the form narrows nothing."""

    view: Literal["open", "unacknowledged", "suppressed", "outages", "all"] = "open"
    priority: Priority | Literal[""] = ""
    kind: Word | Literal[""] = ""
    district: Word | Literal[""] = ""
    cursor: Cursor | None = None
    refused: forms.Refused | None = None

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

    refused: forms.Refused | None = None


@router.get("/alarms")
async def alarms_page(here: InHere, query: Annotated[AlarmsQuery, Query()]) -> Response:
    """What waits for a person first; newest first."""
    limits = here.house.alarms

    def look(connection: Connection) -> Any:
        page_of = findings.list_findings(
            connection, areas=here.caller.areas, filters=query.filters(), limit=_ROWS, cursor=query.cursor
        )
        children = folded(connection, (alarm.key for alarm in page_of.items), areas=here.caller.areas)
        chart = rate_chart(
            rate_series(connection, here.now), manageable=limits.rate_manageable, flood=limits.flood_begins
        )
        return page_of, alarm_rate(connection, here.now, limits), children, chart

    found, trouble = await attempt(here.house.read(look))
    return await show(
        here,
        "alarms.html",
        topics="findings",
        found=found[0] if found else None,
        rate=found[1] if found else None,
        children=found[2] if found else {},
        chart=found[3] if found else None,
        limits=limits,
        query=query,
        trouble=trouble,
    )


@router.get("/alarms/{number}")
async def alarm_page(here: InHere, number: NumberPath, query: Annotated[AlarmQuery, Query()]) -> Response:
    """One alarm: why, since when, what was done, what it explains."""
    return await _alarm(here, number, query.refused)


async def _alarm(
    here: Here,
    number: int,
    refused: forms.Refused | None = None,
    typed: dict[str, str] | None = None,
) -> Response:
    """The page of one alarm. refused: why a form was, with what was typed into it."""

    def look(connection: Connection) -> Any:
        alarm = findings.one_finding(connection, number, areas=here.caller.areas)
        children = (
            findings.list_findings(
                connection, areas=here.caller.areas, filters=Filters(parent=alarm.key), limit=_CHILDREN, cursor=None
            ).items
            if alarm.children
            else []
        )
        return alarm, children, words.unit_of(quantity_of(connection, alarm.meter))

    found, trouble = await attempt(here.house.read(look))
    return await show(
        here,
        "alarm.html",
        topics="findings",
        status=422 if typed else 200,
        at=f"/alarms/{number}",
        number=number,
        alarm=found[0] if found else None,
        children=found[1] if found else [],
        unit=found[2] if found else "",
        hours=[hours for hours in SHELVE_HOURS if hours <= here.house.alarms.shelve_max_h],
        out_max_h=f"{here.house.alarms.out_of_service_max_h:g}",
        refused=refused,
        typed=typed or {},
        trouble=trouble,
    )


@router.post("/alarms/acknowledge")
async def acknowledge_many(here: InHere) -> Response:
    """Say of every alarm that was ticked that somebody knows; a refusal of one stops no other."""
    lists = await checked_lists(here.request, most=_PICK_FIELDS)
    fields = {name: values[0] for name, values in lists.items()}
    numbers, note = forms.picked(lists.get("pick", [])), forms.note_of(fields)
    if not numbers or note is None:
        return forms.back(fields, "note" if note is None else "nothing")
    acknowledged = [await here.house.write(partial(_acknowledged, here, number, note)) for number in numbers]
    return forms.back(fields, None if all(acknowledged) else "some")


def _acknowledged(here: Here, number: int, note: str, connection: Connection) -> bool:
    try:
        now = here.house.clock.now_ms()
        findings_actions.act(connection, here.caller, number, AlarmEvent.ACKNOWLEDGE, now_ms=now, note=note)
    except (TransitionError, UnknownFindingError):
        return False
    return True


@router.post("/alarms/{number}/acknowledge")
async def acknowledge(here: InHere, number: NumberPath) -> Response:
    """Say that somebody knows."""
    return await _act(here, number, AlarmEvent.ACKNOWLEDGE)


@router.post("/alarms/{number}/shelve")
async def shelve(here: InHere, number: NumberPath) -> Response:
    """Put it aside for some hours."""
    return await _act(here, number, AlarmEvent.SHELVE)


@router.post("/alarms/{number}/unshelve")
async def unshelve(here: InHere, number: NumberPath) -> Response:
    """Show it again before its time."""
    return await _act(here, number, AlarmEvent.UNSHELVE)


@router.post("/alarms/{number}/out-of-service")
async def take_out(here: InHere, number: NumberPath) -> Response:
    """Take it out of service until a time and for a reason, both needed."""
    fields = await checked_fields(here.request)
    zone = (await surroundings(here.house)).zone
    note = forms.note_of(fields)
    until = forms.moment_of(
        fields.get("until", ""), zone, now_ms=here.now, longest_h=here.house.alarms.out_of_service_max_h
    )
    if until is None or not note:
        return await _alarm(here, number, "until" if until is None else "reason", fields)
    return await _change(here, number, AlarmEvent.OUT_OF_SERVICE, fields, note, until)


@router.post("/alarms/{number}/return")
async def return_to_service(here: InHere, number: NumberPath) -> Response:
    """Bring it back into service before its time."""
    return await _act(here, number, AlarmEvent.RETURN)


@router.post("/alarms/{number}/comment")
async def comment(here: InHere, number: NumberPath) -> Response:
    """Add a line to its history."""
    fields = await checked_fields(here.request)
    note = forms.note_of(fields)
    if not note:
        return forms.back(fields, "note")
    version = forms.version_of(fields)

    def work(connection: Connection) -> object:
        now = here.house.clock.now_ms()
        return findings_actions.comment(connection, here.caller, number, note, now_ms=now, version=version)

    return await _done(here, fields, work)


async def _act(here: Here, number: int, event: AlarmEvent) -> Response:
    fields = await checked_fields(here.request)
    note = forms.note_of(fields)
    if note is None:
        return forms.back(fields, "note")
    until = None
    if event is AlarmEvent.SHELVE:
        hours = fields.get("hours", "")
        if hours not in map(str, SHELVE_HOURS) or int(hours) > here.house.alarms.shelve_max_h:
            return forms.back(fields, "until")
        until = here.now + int(hours) * 3_600_000
    return await _change(here, number, event, fields, note, until)


async def _change(
    here: Here, number: int, event: AlarmEvent, fields: dict[str, str], note: str, until: int | None
) -> Response:
    version = forms.version_of(fields)

    def work(connection: Connection) -> object:
        now = here.house.clock.now_ms()  # of the transaction: what waited for a hand-over belongs to the next shift
        return findings_actions.act(
            connection, here.caller, number, event, now_ms=now, note=note, until=until, version=version
        )

    return await _done(here, fields, work)


async def _done(here: Here, fields: dict[str, str], work: Callable[[Connection], Any]) -> Response:
    """Do it and go back to where the form stood; what was refused is said there."""
    try:
        await here.house.write(work)
    except StaleFindingError:
        return forms.back(fields, "changed")
    except TransitionError:
        return forms.back(fields, "not_now")
    except UnknownFindingError:
        return forms.back(fields, "unknown")
    return forms.back(fields)
