"""What ingest knows of each meter: whose it is, its newest key, and what of it waits for the next flush.

Latest readings and daily closing indexes are coalesced here in memory and handed out once a second by `take`. Only
rows that the store has confirmed come in (`note`), and an older one never becomes the latest.
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from ingest.days import Day, Days
from metering.messages import part_of
from metering.reading import Reading
from registry.ledger import ClosingRow, LatestRow, MeterFacts

_NEVER = -1


class MeterState:
    """One meter. Plain slots: the loop over every reading of the city lives on these."""

    __slots__ = (
        "clock",
        "clock_since",
        "closing",
        "day",
        "first_at",
        "gateway",
        "last_at",
        "latest",
        "meter",
        "newest",
        "part",
        "quantity",
        "replaces",
        "stored_at",
        "tz",
    )

    def __init__(self, meter: str, facts: MeterFacts) -> None:
        self.meter = meter
        self.newest = _NEVER
        """Highest read_at that was ever sent to the store: a key above it is certainly new."""
        self.stored_at = _NEVER
        """Highest read_at that the store has confirmed."""
        self.latest: Reading | None = None
        """The reading at `stored_at`, while it waits for the flush."""
        self.replaces = False
        """`latest` has the same read_at as the one that was flushed before."""
        self.day: Day | None = None
        self.closing: Reading | None = None
        self.clock: int | None = None
        """What the meter's own clock said last [ms UTC], and the read_at at which it said so first."""
        self.clock_since = _NEVER
        self.first_at = sys.maxsize
        """Range of read_at since the last flush; `last_at` is negative when there was nothing."""
        self.last_at = _NEVER
        self.set_facts(facts)

    def set_facts(self, facts: MeterFacts) -> None:
        self.gateway = facts.gateway
        self.part = part_of(facts.gateway)
        self.quantity = facts.quantity
        self.tz = facts.tz


@dataclass(slots=True)
class Changes:
    """What one flush writes. replaced: latest readings that gained a quantity. touched: part -> (meters, t0, t1)."""

    latest: list[LatestRow] = field(default_factory=list)
    replaced: list[LatestRow] = field(default_factory=list)
    closings: list[ClosingRow] = field(default_factory=list)
    touched: dict[int, tuple[list[str], int, int]] = field(default_factory=dict)

    def drop(self, meters: Collection[str]) -> None:
        """Leave out what belongs to meters that another worker works on now."""
        self.latest = [row for row in self.latest if row.meter not in meters]
        self.replaced = [row for row in self.replaced if row.meter not in meters]
        self.closings = [row for row in self.closings if row.meter not in meters]


class MeterTable:
    """All meters of the registry that hang on a gateway."""

    def __init__(self) -> None:
        self.states: dict[str, MeterState] = {}
        self.gateways: set[str] = set()
        self._days = Days()
        self._dirty: list[MeterState] = []
        self._closed: dict[tuple[str, str], ClosingRow] = {}

    def set_facts(self, facts: Mapping[str, MeterFacts]) -> list[str]:
        """Take over what changed of known meters; return the ids that are new and need `add`."""
        unknown = []
        for meter, fact in facts.items():
            state = self.states.get(meter)
            if state is None:
                unknown.append(meter)
            else:
                state.set_facts(fact)
        return unknown

    def add(self, meter: str, facts: MeterFacts, newest: Reading | None) -> MeterState:
        """Get to know a meter. newest: its last reading in the store, which alone can tell which keys are new."""
        state = MeterState(meter, facts)
        if newest is not None:
            state.newest = state.stored_at = newest.read_at
            state.clock, state.clock_since = newest.meter_time, newest.read_at
        self.states[meter] = state
        return state

    def keep_only(self, meters: Iterable[str]) -> None:
        """Forget meters that the registry no longer has."""
        for meter in self.states.keys() - set(meters):
            del self.states[meter]

    def let_go(self, parts: Collection[int]) -> set[str]:
        """Forget the meters of parts that another worker works on now; return their ids."""
        gone = {meter for meter, state in self.states.items() if state.part in parts}
        for meter in gone:
            del self.states[meter]
        self._dirty = [state for state in self._dirty if state.part not in parts]
        self._closed = {key: row for key, row in self._closed.items() if key[0] not in gone}
        return gone

    def note(self, readings: Iterable[Reading]) -> None:
        """Take in readings that the store has confirmed, each with all its quantities."""
        states = self.states
        for reading in readings:
            state = states.get(reading.meter)
            if state is None:
                continue
            at = reading.read_at
            if state.last_at < 0:
                self._dirty.append(state)
                state.first_at = state.last_at = at
            elif at > state.last_at:
                state.last_at = at
            elif at < state.first_at:
                state.first_at = at
            if at >= state.stored_at:
                state.replaces = at == state.stored_at
                state.stored_at = at
                state.latest = reading
            if state.quantity in reading.values:
                day = state.day
                if day is None or not day.start < at <= day.end:
                    self._turn_to(state, at)
                closing = state.closing
                if closing is None or at >= closing.read_at:
                    state.closing = reading

    def take(self) -> Changes:
        """Hand out everything that was noted since the last call."""
        changes = Changes()
        for state in self._dirty:
            if state.latest is not None:
                rows = changes.replaced if state.replaces else changes.latest
                rows.append(latest_row(state.latest))
            self._put_aside(state)
            meters, t0, t1 = changes.touched.get(state.part) or ([], state.first_at, state.last_at)
            meters.append(state.meter)
            changes.touched[state.part] = meters, min(t0, state.first_at), max(t1, state.last_at)
            state.latest, state.replaces = None, False
            state.first_at, state.last_at = sys.maxsize, _NEVER
        changes.closings = list(self._closed.values())
        self._dirty.clear()
        self._closed.clear()
        return changes

    def _turn_to(self, state: MeterState, at: int) -> None:
        """Change the day that a meter's closing index is collected for; backlog and live rows may alternate."""
        self._put_aside(state)
        state.day = self._days.find(state.tz, at)

    def _put_aside(self, state: MeterState) -> None:
        closing, day = state.closing, state.day
        state.closing = None
        if closing is None or day is None:
            return
        known = self._closed.get((state.meter, day.text))
        if known is None or closing.read_at >= known.read_at:
            self._closed[state.meter, day.text] = ClosingRow(
                state.meter,
                day.text,
                state.quantity,
                closing.read_at,
                closing.values[state.quantity],  # type: ignore[index]  # a text of the registry, checked by `note`
                closing.quality,
            )


def latest_row(reading: Reading) -> LatestRow:
    """Return a reading in the form of the registry's table."""
    return LatestRow(
        meter=reading.meter,
        read_at=reading.read_at,
        received_at=reading.received_at or reading.read_at,
        meter_time=reading.meter_time,
        quality=reading.quality,
        reason=reading.reason,
        source=reading.source,
        flags=reading.flags,
        values={str(quantity): micro for quantity, micro in reading.values.items()},
    )
