"""/admin/thresholds: what the rules judge by, and changes: proposed, tried on the past, confirmed by another."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Query
from sqlalchemy.engine import Connection
from starlette.responses import Response

from anomaly import changes
from anomaly.meters import CLASSES, MEDIA, OTHER_CLASS
from api import paging
from api import thresholds as trials
from api.access.forms import checked_lists
from api.here import Here, InHere
from api.jobs import book
from api.parameters import Cursor, Day, Strict, Word
from api.problems import ProblemError
from api.queries import thresholds as queries
from api.routes.screen_parts import NoQuery, admin_form_page
from api.routes.thresholds import NumberPath, base
from api.schemas_thresholds import ChangeOut
from api.screens.admin import back_to, first, tried
from api.screens.admin_thresholds import Proposal, accepted, checked, scope_words, typed, version_of
from api.screens.frame import attempt
from registry.refusals import RefusedError

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
async def thresholds_page(here: InHere, query: Annotated[ThresholdsPageQuery, Query()]) -> Response:
    """Every threshold with where it comes from, the changes, and a form for a proposal."""
    return await _list(here, query)


async def _list(
    here: Here,
    query: ThresholdsPageQuery,
    *,
    form: Proposal | None = None,
    refused: str = "",
) -> Response:
    before = paging.number_key("threshold-changes", query.cursor)

    def look(connection: Connection) -> Any:
        day = changes.local_day(connection, here.now) if not query.on else _day(query.on)
        known = queries.in_force(
            connection, here.caller, base(here.house), day=day, medium=query.medium,
            customer_class=query.customer_class, meter=query.meter, now_ms=here.now,
        )  # fmt: skip
        return known, queries.list_changes(
            connection, here.caller, state=None, before=before, limit=_CHANGES, now_ms=here.now
        )

    found, trouble = await attempt(here.house.read(look))
    return await admin_form_page(
        here, "admin_thresholds.html", refused=refused,
        known=found[0] if found else None, changes=found[1] if found else None, trouble=trouble, query=query,
        form=form or Proposal(), media=MEDIA, classes=_CLASSES, scope_words=scope_words,
    )  # fmt: skip


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise ProblemError(422, "invalid-parameter", f"on: {text} is no day") from None


@router.post("/admin/thresholds")
async def propose(here: InHere, query: NoQuery) -> Response:
    """Write a proposal; it counts for nothing until it was tried and somebody else confirmed it."""
    lists = await checked_lists(here.request)

    def work(connection: Connection) -> int:
        wanted = checked(lists)
        return changes.propose(
            connection, here.caller, thresholds=base(here.house), effective=wanted.effective, scope=wanted.scope,
            values=wanted.values, reason=wanted.reason, now_ms=here.now,
        )  # fmt: skip

    number, refused = await tried(here.house.write(work))
    if number is None:
        return await _list(here, ThresholdsPageQuery(), form=typed(lists), refused=refused)
    return back_to(f"{_ADDRESS}/changes/{number}")


@router.get("/admin/thresholds/changes/{number}")
async def change_page(
    here: InHere, number: NumberPath,
    query: Annotated[ChangePageQuery, Query()],
) -> Response:  # fmt: skip
    """One change: what it would have done to the past, and who decides."""
    return await _one(here, number, done=query.done)


async def _one(
    here: Here,
    number: int,
    *,
    refused: str = "",
    note: str = "",
    done: str | None = None,
) -> Response:

    def look(connection: Connection) -> tuple[ChangeOut, Any, dict[str, float]]:
        change = queries.one_change(connection, here.caller, number, now_ms=here.now)
        job = None if change.job is None else book.any_row(connection, change.job)
        return change, job, _present(connection, here, change)

    found, trouble = await attempt(here.house.read(look))
    change, job, present = found or (None, None, {})
    alive = job is not None and job["state"] in book.ALIVE
    return await admin_form_page(
        here, "admin_change.html", refused=refused, topics="jobs" if alive else "",
        number=number, change=change, job=job, alive=alive, present=present, trouble=trouble,
        note=note, done=done, mine=change is not None and change.author == here.caller.name, scope_words=scope_words,
        most_share=here.house.alarms.most_flagged_share,
    )  # fmt: skip


def _present(connection: Connection, here: Here, change: ChangeOut) -> dict[str, float]:
    """The values that hold today for what the change is for."""
    try:
        known = queries.in_force(
            connection, here.caller, base(here.house), day=None, medium=change.scope.get("medium", ""),
            customer_class=change.scope.get("class", ""), meter=change.scope.get("meter", ""),
            now_ms=here.now,
        )  # fmt: skip
    except ProblemError:
        return {}
    return {item.name: item.value for item in known.items if item.name in change.values}


@router.post("/admin/thresholds/changes/{number}/backtest")
async def try_on_the_past(here: InHere, number: NumberPath, query: NoQuery) -> Response:
    """Begin a back-test of the last 30 days in the background."""
    await checked_lists(here.request)
    t0, t1 = trials.period(here.now, None, None)
    settings = here.house.workshop.settings

    def work(connection: Connection) -> object:
        return trials.submit_backtest(
            connection, here.caller, number, t0=t0, t1=t1, now_ms=here.now, settings=settings
        )

    _, refused = await tried(here.house.write(work))
    here.house.workshop.wake()
    if refused:
        return await _one(here, number, refused=refused)
    return back_to(f"{_ADDRESS}/changes/{number}")


@router.post("/admin/thresholds/changes/{number}/confirm")
async def confirm(here: InHere, number: NumberPath, query: NoQuery) -> Response:
    """Let it count from its date on; by somebody else than its author."""
    lists = await checked_lists(here.request)

    def work(connection: Connection) -> None:
        changes.confirm(
            connection, here.caller, number, now_ms=here.now, most_share=here.house.alarms.most_flagged_share,
            accept=accepted(lists), note=first(lists, "note", 500), version=version_of(lists),
        )  # fmt: skip

    return await _decide(here, number, work, "confirmed", lists.get("note", [""])[0][:500])


@router.post("/admin/thresholds/changes/{number}/cancel")
async def cancel(here: InHere, number: NumberPath, query: NoQuery) -> Response:
    """Give it up; also a confirmed one before its date."""
    lists = await checked_lists(here.request)

    def work(connection: Connection) -> None:
        note = first(lists, "note", 500)
        if not note:
            raise RefusedError("invalid", "note: say why it is given up")
        changes.cancel(connection, here.caller, number, now_ms=here.now, note=note, version=version_of(lists))

    return await _decide(here, number, work, "cancelled", lists.get("note", [""])[0][:500])


async def _decide(
    here: Here,
    number: int,
    work: Callable[[Connection], None],
    done: str,
    note: str,
) -> Response:
    _, refused = await tried(here.house.write(work))
    if refused:
        return await _one(here, number, refused=refused, note=note)
    return back_to(f"{_ADDRESS}/changes/{number}", done)
