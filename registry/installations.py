"""Meters at usage points: install, exchange 换表, test meters, removal 拆表, sealing 封表, states, opening indexes.

Each function is one entry of the books, checked against the history of meter and usage point, audited in the same
transaction (`Database.begin`), and can be undone by `book_changes.undo`. Times [ms UTC]: `at` when it happened, `now`
when it is recorded. Indexes [10⁻⁶] of the billed quantity; None: nobody read it, and billing will say so.
All raise BookError with a sentence for the clerk; then nothing was changed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from registry.book_changes import (
    Book,
    BookError,
    change,
    check_index,
    check_meter_is_free,
    check_place_is_free,
    check_time,
    meter_row,
    standing,
    usage_point_row,
)
from registry.models import Installation, Meter
from registry.roles import Actor

SettableState = Literal["registered", "installed", "in_service", "unused"]
_LINE: Final = ("gateway_id", "bus_id", "address", "profile", "interval_s")
"""How a meter is reached: the new one in an exchange is wired like the old one, unless its own line is known."""
_KIND: Final = ("quantity", "index_digits", "resolution", "qmax", "inlet")


def register_meter(
    connection: Connection, meter: str, *, like: str, serial: str = "", digits: int | None = None
) -> None:
    """Make a meter that the books do not have yet, of the same kind as `like`; harmless when it is there."""
    if connection.execute(sa.select(Meter.id).where(Meter.id == meter)).first() is not None:
        return
    if not 1 <= len(meter) <= 64 or not meter.isprintable():
        raise BookError("a meter's id has 1 to 64 characters and no control character")
    model = meter_row(connection, like)
    facts = {name: model[name] for name in _KIND} | {
        "medium": model["medium"],
        "index_digits": digits or model["index_digits"],
    }
    new = {"id": meter, "serial": serial, "state": "registered", "profile": "", "address": ""}
    connection.execute(sa.insert(Meter).values({**new, **facts}))


def install(
    connection: Connection,
    actor: Actor,
    usage_point: str,
    meter: str,
    *,
    at: int,
    start_index: int | None,
    now: int,
    beside: bool = False,
    in_service: bool = True,
    note: str = "",
    batch: int | None = None,
) -> int:
    """A meter comes to a usage point (also: comes back, re-commissioning). beside: other meters stay there too."""
    check_time(at, now)
    place, facts = usage_point_row(connection, usage_point), meter_row(connection, meter)
    _check_medium(place, facts)
    check_index(start_index, facts, "start index")
    said: dict[str, Any] = {"start_index": start_index, "beside": beside}
    with change(connection, actor, "install", usage_point=usage_point, meter=meter, at=at, now=now, note=note,
                batch=batch, **said) as book:  # fmt: skip
        check_meter_is_free(connection, meter, at)
        if not beside:
            check_place_is_free(connection, usage_point, at)
        _put_in(book, usage_point, facts, at, start_index, "normal", in_service=in_service)
    return book.number


def exchange(
    connection: Connection,
    actor: Actor,
    usage_point: str,
    *,
    old_meter: str,
    new_meter: str,
    at: int,
    final_index: int | None,
    start_index: int | None,
    now: int,
    note: str = "",
    batch: int | None = None,
    kind: Literal["exchange", "temporary", "test_return"] = "exchange",
) -> int:
    """The old meter goes with its final index, the new one starts from its own; both at `at`.

    kind: temporary puts in a test meter (the old one is away to be tested), test_return takes it out again.
    The same id twice is an exchange that the head-end does not see: the readings go on under one id.
    """
    check_time(at, now)
    place, old, new = (
        usage_point_row(connection, usage_point),
        *(meter_row(connection, m) for m in (old_meter, new_meter)),
    )
    _check_medium(place, new)
    check_index(final_index, old, "final index")
    check_index(start_index, new, "start index")
    said: dict[str, Any] = {"new_meter": new_meter, "final_index": final_index, "start_index": start_index}
    with change(connection, actor, kind, usage_point=usage_point, meter=old_meter, at=at, now=now, note=note,
                batch=batch, **said) as book:  # fmt: skip
        stay = standing(connection, usage_point, old_meter, at)
        if kind == "test_return" and stay["kind"] != "temporary":
            raise BookError(f"meter {old_meter} is no test meter; record an exchange")
        if new_meter != old_meter:
            check_meter_is_free(connection, new_meter, at)
        _take_out(book, stay, at, final_index)
        how = "temporary" if kind == "temporary" else "normal"
        _put_in(book, usage_point, new, at, start_index, how, wired_like=old)
    return book.number


def remove(
    connection: Connection,
    actor: Actor,
    usage_point: str,
    meter: str,
    *,
    at: int,
    final_index: int | None,
    now: int,
    note: str = "",
    batch: int | None = None,
) -> int:
    """The meter goes and nothing takes its place 拆表."""
    check_time(at, now)
    check_index(final_index, meter_row(connection, meter), "final index")
    with change(connection, actor, "remove", usage_point=usage_point, meter=meter, at=at, now=now, note=note,
                batch=batch, final_index=final_index) as book:  # fmt: skip
        _take_out(book, standing(connection, usage_point, meter, at), at, final_index)
    return book.number


def seal(
    connection: Connection,
    actor: Actor,
    usage_point: str,
    meter: str,
    *,
    at: int,
    index: int | None,
    now: int,
    open_again: bool = False,
    note: str = "",
) -> int:
    """Seal a meter where it hangs 封表, or open it again; the index is what it showed."""
    check_time(at, now)
    facts = meter_row(connection, meter)
    check_index(index, facts, "index")
    wanted, becomes = ("sealed", "in_service") if open_again else (None, "sealed")
    kind = "unseal" if open_again else "seal"
    with change(connection, actor, kind, usage_point=usage_point, meter=meter, at=at, now=now, note=note,
                index=index) as book:  # fmt: skip
        standing(connection, usage_point, meter, at)
        if (facts["state"] == "sealed") != (wanted == "sealed"):
            raise BookError(f"meter {meter} is {facts['state']}", meter=meter)
        book.update(Meter, meter, state=becomes)
    return book.number


def set_state(
    connection: Connection, actor: Actor, meter: str, state: SettableState, *, at: int, now: int, note: str = ""
) -> int:
    """Say in what state a meter is; in_service notes the first gas-on. Sealing and removal: see there."""
    check_time(at, now)
    facts = meter_row(connection, meter)
    if facts["state"] == "sealed":
        raise BookError(f"meter {meter} is sealed; open the seal first", meter=meter)
    stay = connection.execute(
        sa.select(Installation.usage_point_id).where(
            Installation.meter_id == meter, Installation.removed_at.is_(None)
        )
    ).scalar_one_or_none()
    if state in ("installed", "in_service") and stay is None:
        raise BookError(f"meter {meter} is at no usage point; install it first", meter=meter)
    first = {"commissioned_at": at} if state == "in_service" and facts["commissioned_at"] is None else {}
    with change(connection, actor, "state", usage_point=stay or "", meter=meter, at=at, now=now, note=note,
                state=state) as book:  # fmt: skip
        book.update(Meter, meter, state=state, **first)
    return book.number


def take_over(
    connection: Connection,
    actor: Actor,
    usage_point: str,
    meter: str,
    *,
    at: int,
    index: int,
    now: int,
    note: str = "",
    batch: int | None = None,
) -> int:
    """Opening index from an old system: totals begin here. What was before `at` stays, and ends with this index."""
    check_time(at, now)
    facts = meter_row(connection, meter)
    check_index(index, facts, "opening index")
    with change(connection, actor, "take_over", usage_point=usage_point, meter=meter, at=at, now=now, note=note,
                batch=batch, start_index=index) as book:  # fmt: skip
        stay = standing(connection, usage_point, meter, at)
        if stay["installed_at"] == 0 and stay["start_index"] is None:
            book.update(Installation, stay["id"], installed_at=at, start_index=index)
        else:
            book.update(Installation, stay["id"], removed_at=at, final_index=index)
            _insert(book, usage_point, meter, at, index, stay["kind"])
    return book.number


def _check_medium(place: Mapping[str, Any], meter: Mapping[str, Any]) -> None:
    if place["medium"] != meter["medium"]:
        raise BookError(
            f"usage point {place['id']} is for {place['medium']}, meter {meter['id']} is for {meter['medium']}"
        )


def _put_in(
    book: Book,
    usage_point: str,
    meter: Mapping[str, Any],
    at: int,
    index: int | None,
    kind: str,
    *,
    wired_like: Mapping[str, Any] | None = None,
    in_service: bool = True,
) -> None:
    _insert(book, usage_point, meter["id"], at, index, kind)
    values: dict[str, Any] = {"state": "in_service" if in_service else "installed"}
    if in_service and meter["commissioned_at"] is None:
        values["commissioned_at"] = at
    if wired_like is not None and meter["gateway_id"] is None:
        values |= {name: wired_like[name] for name in _LINE}
    book.update(Meter, meter["id"], **values)


def _insert(book: Book, usage_point: str, meter: str, at: int, index: int | None, kind: str) -> None:
    book.insert(
        Installation,
        meter_id=meter,
        usage_point_id=usage_point,
        installed_at=at,
        removed_at=None,
        start_index=index,
        final_index=None,
        kind=kind,
    )


def _take_out(book: Book, stay: Mapping[str, Any], at: int, index: int | None) -> None:
    book.update(Installation, stay["id"], removed_at=at, final_index=index)
    book.update(Meter, stay["meter_id"], state="removed")
