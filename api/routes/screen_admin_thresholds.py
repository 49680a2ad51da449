"""/admin/thresholds: what the rules judge by, and changes: proposed, tried on the past, confirmed by another."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Query, Request
from sqlalchemy.engine import Connection
from starlette.responses import Response

from anomaly import changes
from anomaly.meters import CLASSES, MEDIA, OTHER_CLASS
from api import paging
from api import thresholds as trials
from api.access.caller import InCaller
from api.access.forms import checked_lists
from api.house import House, InHouse
from api.jobs import book
from api.parameters import Cursor, Day, Nothing, Strict, Word
from api.problems import ProblemError
from api.queries import thresholds as queries
from api.routes.thresholds import NumberPath, base
from api.schemas_thresholds import ChangeOut
from api.screens.admin import admin_page, back_to, first, tried
from api.screens.admin_thresholds import Proposal, accepted, checked, scope_words, typed, version_of
from api.screens.frame import attempt
from registry.refusals import RefusedError
from registry.roles import Actor

router = APIRouter(include_in_schema=False)
_ADDRESS: Final = "/admin/thresholds"
_CHANGES: Final = 50
_CLASSES: Final = (*CLASSES, OTHER_CLASS)
_Done = Literal["confirmed", "cancelled"]


class ThresholdsPageQuery(Strict):
    """Of which meters, on which day, and where the list of changes goes on."""

    on: Day | Literal[""] = ""
    medium: Literal["", "gas", "water", "electricity", "heat"] = ""
    customer_class: Word | Literal[""] = ""
    meter: Word | Literal[""] = ""
    cursor: Cursor | None = None


class ChangePageQuery(Strict):
    """What became of the form that led here."""

    done: _Done | None = None


@router.get("/admin/thresholds")
async def thresholds_page(
    request: Request, house: InHouse, caller: InCaller, query: Annotated[ThresholdsPageQuery, Query()]
) -> Response:
    """Every threshold with where it comes from, the changes, and a form for a proposal."""
    return await _list(request, house, caller, query)


async def _list(
    request: Request,
    house: House,
    caller: Actor,
    query: ThresholdsPageQuery,
    *,
    form: Proposal | None = None,
    refused: str = "",
) -> Response:
    now = house.clock.now_ms()
    before = paging.number_key("threshold-changes", query.cursor)

    def look(connection: Connection) -> Any:
        day = changes.local_day(connection, now) if not query.on else _day(query.on)
        known = queries.in_force(
            connection, caller, base(house), day=day, medium=query.medium, customer_class=query.customer_class,
            meter=query.meter, now_ms=now,
        )  # fmt: skip
        return known, queries.list_changes(connection, caller, state=None, before=before, limit=_CHANGES, now_ms=now)

    found, trouble = await attempt(house.read(look))
    return await admin_page(
        house, request, caller, "admin_thresholds.html", status=422 if refused else 200,
        known=found[0] if found else None, changes=found[1] if found else None, trouble=trouble, query=query,
        form=form or Proposal(), refused=refused, media=MEDIA, classes=_CLASSES, scope_words=scope_words,
    )  # fmt: skip


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise ProblemError(422, "invalid-parameter", f"on: {text} is no day") from None


@router.post("/admin/thresholds")
async def propose(request: Request, house: InHouse, caller: InCaller, query: Annotated[Nothing, Query()]) -> Response:
    """Write a proposal; it counts for nothing until it was tried and somebody else confirmed it."""
    lists, now = await checked_lists(request), house.clock.now_ms()

    def work(connection: Connection) -> int:
        wanted = checked(lists)
        return changes.propose(
            connection, caller, thresholds=base(house), effective=wanted.effective, scope=wanted.scope,
            values=wanted.values, reason=wanted.reason, now_ms=now,
        )  # fmt: skip

    number, refused = await tried(house.write(work))
    if number is None:
        return await _list(request, house, caller, ThresholdsPageQuery(), form=typed(lists), refused=refused)
    return back_to(f"{_ADDRESS}/changes/{number}")


@router.get("/admin/thresholds/changes/{number}")
async def change_page(
    request: Request, house: InHouse, caller: InCaller, number: NumberPath,
    query: Annotated[ChangePageQuery, Query()],
) -> Response:  # fmt: skip
    """One change: what it would have done to the past, and who decides."""
    return await _one(request, house, caller, number, done=query.done)


async def _one(
    request: Request,
    house: House,
    caller: Actor,
    number: int,
    *,
    refused: str = "",
    note: str = "",
    done: str | None = None,
) -> Response:
    now = house.clock.now_ms()

    def look(connection: Connection) -> tuple[ChangeOut, Any, dict[str, float]]:
        change = queries.one_change(connection, caller, number, now_ms=now)
        job = None if change.job is None else book.any_row(connection, change.job)
        return change, job, _present(connection, house, caller, change)

    found, trouble = await attempt(house.read(look))
    change, job, present = found or (None, None, {})
    alive = job is not None and job["state"] in book.ALIVE
    return await admin_page(
        house, request, caller, "admin_change.html", status=422 if refused else 200, topics="jobs" if alive else "",
        number=number, change=change, job=job, alive=alive, present=present, trouble=trouble, refused=refused,
        note=note, done=done, mine=change is not None and change.author == caller.name, scope_words=scope_words,
        most_share=house.alarms.most_flagged_share,
    )  # fmt: skip


def _present(connection: Connection, house: House, caller: Actor, change: ChangeOut) -> dict[str, float]:
    """The values that hold today for what the change is for."""
    try:
        known = queries.in_force(
            connection, caller, base(house), day=None, medium=change.scope.get("medium", ""),
            customer_class=change.scope.get("class", ""), meter=change.scope.get("meter", ""),
            now_ms=house.clock.now_ms(),
        )  # fmt: skip
    except ProblemError:
        return {}
    return {item.name: item.value for item in known.items if item.name in change.values}


@router.post("/admin/thresholds/changes/{number}/backtest")
async def try_on_the_past(
    request: Request, house: InHouse, caller: InCaller, number: NumberPath, query: Annotated[Nothing, Query()]
) -> Response:
    """Begin a back-test of the last 30 days in the background."""
    await checked_lists(request)
    now = house.clock.now_ms()
    t0, t1 = trials.period(now, None, None)
    settings = house.workshop.settings
    _, refused = await tried(
        house.write(lambda c: trials.submit_backtest(c, caller, number, t0=t0, t1=t1, now_ms=now, settings=settings))
    )
    house.workshop.wake()
    if refused:
        return await _one(request, house, caller, number, refused=refused)
    return back_to(f"{_ADDRESS}/changes/{number}")


@router.post("/admin/thresholds/changes/{number}/confirm")
async def confirm(
    request: Request, house: InHouse, caller: InCaller, number: NumberPath, query: Annotated[Nothing, Query()]
) -> Response:
    """Let it count from its date on; by somebody else than its author."""
    lists, now = await checked_lists(request), house.clock.now_ms()

    def work(connection: Connection) -> None:
        changes.confirm(
            connection, caller, number, now_ms=now, most_share=house.alarms.most_flagged_share,
            accept=accepted(lists), note=first(lists, "note", 500), version=version_of(lists),
        )  # fmt: skip

    return await _decide(request, house, caller, number, work, "confirmed", lists.get("note", [""])[0][:500])


@router.post("/admin/thresholds/changes/{number}/cancel")
async def cancel(
    request: Request, house: InHouse, caller: InCaller, number: NumberPath, query: Annotated[Nothing, Query()]
) -> Response:
    """Give it up; also a confirmed one before its date."""
    lists, now = await checked_lists(request), house.clock.now_ms()

    def work(connection: Connection) -> None:
        note = first(lists, "note", 500)
        if not note:
            raise RefusedError("invalid", "note: say why it is given up")
        changes.cancel(connection, caller, number, now_ms=now, note=note, version=version_of(lists))

    return await _decide(request, house, caller, number, work, "cancelled", lists.get("note", [""])[0][:500])


async def _decide(
    request: Request,
    house: House,
    caller: Actor,
    number: int,
    work: Callable[[Connection], None],
    done: str,
    note: str,
) -> Response:
    _, refused = await tried(house.write(work))
    if refused:
        return await _one(request, house, caller, number, refused=refused, note=note)
    return back_to(f"{_ADDRESS}/changes/{number}", done)
