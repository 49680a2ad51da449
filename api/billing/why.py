"""Why is a period short? Every expected reading of a meter: received, late, quarantined, waiting or missing, and why.

A reading is expected in each reading interval of the period while the meter hung there. Neighbours with the same
answer are told as one stretch with its times.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from api.billing.calendars import Bounds, check_period
from api.billing.causes import outage_text, outages
from api.billing.classes import bounds_at
from api.billing.load import calendars_of
from metering.clock import rfc3339
from metering.settings import nearest
from metering.store import ReadingStore
from registry.models import Closing, EventRecord, GatewayStatus, Installation, Meter, Quarantine, UsagePoint
from registry.refusals import RefusedError

RECEIVED: Final = "received"
LATE: Final = "late"
QUARANTINED: Final = "quarantined"
WAITING: Final = "waiting"
MISSING: Final = "missing"
NOT_DUE: Final = "not_due"
STATES: Final = (RECEIVED, LATE, QUARANTINED, WAITING, MISSING, NOT_DUE)
_DAY_MS: Final = 86_400_000


@dataclass(frozen=True, slots=True)
class Stretch:
    """Expected readings that share one answer. first, last: [ms UTC] of the time they cover. count: how many."""

    meter: str
    state: str
    cause: str
    detail: str
    first: int
    last: int
    count: int


@dataclass(frozen=True, slots=True)
class _Seat:
    """A meter at the usage point during the period. first, last: [ms UTC]; step: [ms] between readings."""

    meter: str
    gateway: str
    quantity: str
    first: int
    last: int
    step: int


def why(
    connection: Connection, store: ReadingStore, name: str, period: str, *, now: int, shortest_s: int = 1
) -> tuple[str, Bounds, list[Stretch]]:
    """Return (usage point, period's bounds, stretches) for a meter or usage point. Raises: RefusedError.

    shortest_s: [s] of a meter that is read more often one reading in so long is expected.
    """
    place = _place(connection, name)
    bounds = bounds_at(connection, calendars_of(connection), place, check_period(period))
    if bounds is None:
        raise RefusedError(
            "unknown", f"no period of {place.id} ends in {period}: its calendar is not due in that month"
        )
    seats = _seats(connection, place.id, name if name != place.id else "", bounds, shortest_s)
    found = [stretch for seat in seats for stretch in _stretches(connection, store, seat, now)]
    return place.id, bounds, found


def _place(connection: Connection, name: str) -> Any:
    table = UsagePoint.__table__
    found = connection.execute(sa.select(table).where(table.c.id == name)).first()
    if found is None:
        stay = connection.execute(
            sa.select(Installation.usage_point_id)
            .where(Installation.meter_id == name)
            .order_by(Installation.installed_at.desc())
        ).scalar()
        found = connection.execute(sa.select(table).where(table.c.id == stay)).first() if stay else None
    if found is None:
        known = connection.execute(sa.select(table.c.id).order_by(table.c.id).limit(5000)).scalars().all()
        raise RefusedError("unknown", f'no meter and no usage point "{name}"; {nearest(name, list(known))}')
    return found


def _seats(connection: Connection, point: str, meter: str, bounds: Bounds, shortest_s: int) -> list[_Seat]:
    stay, facts = Installation.__table__, Meter.__table__
    statement = (
        sa.select(stay.c.installed_at, stay.c.removed_at, facts)
        .join(facts, facts.c.id == stay.c.meter_id)
        .where(stay.c.usage_point_id == point, stay.c.installed_at < bounds.end)
        .where(sa.or_(stay.c.removed_at.is_(None), stay.c.removed_at > bounds.start))
        .order_by(stay.c.installed_at, stay.c.id)
    )
    if meter:
        statement = statement.where(stay.c.meter_id == meter)
    return [
        _Seat(
            row.id,
            row.gateway_id or "",
            row.quantity,
            max(bounds.start, row.installed_at),
            min(bounds.end, row.removed_at or bounds.end),
            max(row.interval_s or 3600, shortest_s) * 1000,
        )
        for row in connection.execute(statement)
    ]


def _stretches(connection: Connection, store: ReadingStore, seat: _Seat, now: int) -> Iterator[Stretch]:
    answers = list(_answers(connection, store, seat, now))
    begin = 0
    for place, answer in enumerate(answers):
        if place + 1 < len(answers) and answers[place + 1][1:] == answer[1:]:
            continue
        first, last = answers[begin][0], min(answer[0] + seat.step, seat.last)
        yield Stretch(seat.meter, *answer[1:], first, last, place + 1 - begin)
        begin = place + 1


def _answers(
    connection: Connection, store: ReadingStore, seat: _Seat, now: int
) -> Iterator[tuple[int, str, str, str]]:
    """Yield (start of the interval, state, cause, detail) for each expected reading; (start, end] holds it."""
    size = -(-(seat.last - seat.first) // seat.step)
    delay: dict[int, int] = {}
    for reading in store.range([seat.meter], seat.first + 1, seat.last + 1):
        slot = (reading.read_at - 1 - seat.first) // seat.step
        waited = (reading.received_at or reading.read_at) - reading.read_at
        delay[slot] = min(waited, delay.get(slot, waited))
    ledger = _Ledger(connection, seat, [slot for slot in range(size) if slot not in delay])
    for slot in range(size):
        start = seat.first + slot * seat.step
        if slot in delay:
            late = delay[slot] > max(2 * seat.step, 3_600_000)
            yield (start, LATE, *ledger.late(start)) if late else (start, RECEIVED, "", "")
        elif start + seat.step > now:
            yield start, NOT_DUE, "", ""
        else:
            yield (start, *ledger.absent(start, start + seat.step))


class _Ledger:
    """What is known of the times in which nothing came."""

    def __init__(self, connection: Connection, seat: _Seat, holes: Sequence[int]) -> None:
        self._seat = seat
        first, last = seat.first, seat.last
        refused = connection.execute(
            sa.select(Quarantine.read_at, Quarantine.reason)
            .where(Quarantine.meter == seat.meter, Quarantine.read_at > first, Quarantine.read_at <= last)
            .order_by(Quarantine.read_at)
        ).all()
        self._refused = [(int(row.read_at or 0), str(row.reason)) for row in refused]
        failed = connection.execute(
            sa.select(EventRecord.at, EventRecord.cause, EventRecord.count)
            .where(EventRecord.meter == seat.meter, EventRecord.kind == "read_failed")
            .where(EventRecord.at > first, EventRecord.at <= last)
            .order_by(EventRecord.at)
        ).all()
        self._failed = [(int(row.at), str(row.cause)) for row in failed]
        self._away = outages(connection, [seat.gateway], first, last).get(seat.gateway, [])
        self._waiting = self._oldest_waiting(connection)
        self._silent = _silences(connection, seat) if holes else []

    def _oldest_waiting(self, connection: Connection) -> int | None:
        health = connection.execute(
            sa.select(GatewayStatus.health).where(GatewayStatus.gateway == self._seat.gateway)
        ).scalar()
        return int(health["oldest_at"]) if health and health.get("waiting") and health.get("oldest_at") else None

    def late(self, start: int) -> tuple[str, str]:
        """(cause, detail) of a reading that came late."""
        for outage in self._away:
            if outage[0] <= start + self._seat.step and start < outage[1]:
                return "gateway_down", f"gateway {self._seat.gateway} was away {outage_text(outage)}"
        return "backlog", f"came from the outbox of gateway {self._seat.gateway}"

    def absent(self, start: int, end: int) -> tuple[str, str, str]:
        """(state, cause, detail) of a reading that is not in the store; the first that holds speaks."""
        gateway = self._seat.gateway
        reasons = [reason for at, reason in self._refused if start < at <= end]
        if reasons:
            return QUARANTINED, reasons[0], "the row lies in quarantine"
        for outage in self._away:
            if outage[0] < end and start < outage[1]:
                return MISSING, "gateway_down", f"gateway {gateway} was away {outage_text(outage)}"
        if self._waiting is not None and self._waiting <= end:
            return WAITING, "waiting", f"rows since {rfc3339(self._waiting)} wait at gateway {gateway}"
        causes = [cause for at, cause in self._failed if start < at <= end]
        if causes:
            return MISSING, "meter_silent", f"the meter did not answer: {causes[0]}"
        for first, last in self._silent:
            if first < end and start < last:
                text = f"no meter of gateway {gateway} was read between {rfc3339(first)} and {rfc3339(last)}"
                return MISSING, "gateway_silent", text
        return MISSING, "meter_silent", "the gateway read others, and nothing of this meter came"


def _silences(connection: Connection, seat: _Seat) -> list[tuple[int, int]]:
    """Times of more than a day without a closing of any meter of the gateway: it was away, whoever noticed."""
    if not seat.gateway:
        return []
    rows = connection.execute(
        sa.select(sa.func.min(Closing.read_at).label("first"), sa.func.max(Closing.read_at).label("last"))
        .join(Meter, Meter.id == Closing.meter)
        .where(Meter.gateway_id == seat.gateway)
        .where(Closing.read_at >= seat.first - 40 * _DAY_MS, Closing.read_at <= seat.last + 40 * _DAY_MS)
        .group_by(Closing.day)
        .order_by(Closing.day)
    ).all()
    found = []
    for before, after in pairwise(rows):
        if after.first - before.last > _DAY_MS + 2 * seat.step:
            found.append((before.last, after.first))
    if rows and seat.last - rows[-1].last > _DAY_MS + 2 * seat.step:
        found.append((rows[-1].last, seat.last))
    return found


def spoken(stretch: Stretch) -> dict[str, Any]:
    """Return a stretch as it leaves the house."""
    out: dict[str, Any] = {"meter": stretch.meter, "state": stretch.state}
    out |= {name: value for name in ("cause", "detail") if (value := getattr(stretch, name))}
    return out | {"from": rfc3339(stretch.first), "to": rfc3339(stretch.last), "readings": stretch.count}


def counts(stretches: Sequence[Stretch]) -> dict[str, int]:
    """Return how many expected readings are in each state."""
    return {state: sum(s.count for s in stretches if s.state == state) for state in STATES}
