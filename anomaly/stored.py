"""A stored period as the engine takes it: usage points from the registry, readings from the store.

The same two tables as `anomaly.files` makes of files. A row of the table is a usage point with the meters that were
installed there one after the other, named by the last one. What differs from files: a store keeps one reading per
meter and time, so a duplicate was merged and a differing second value refused when it came in; a reading whose clock
lies outside the period is not in it; an import counts as arrived when it was read.
"""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, Final

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray
from sqlalchemy.engine import Connection

from anomaly.files import FLAG_BITS, Readings
from anomaly.meters import DEFAULT_QMAX, OTHER_CLASS, Meter, MeterTable
from metering.errors import SettingsError
from metering.messages import part_of
from metering.quantities import UNITS, Quantity, to_micro
from metering.reading import Reading
from metering.store import ReadingStore
from registry import models

_NAMES: Final = 500  # meters asked of the store at once
_FLAGS: Final = sum(FLAG_BITS.values())
_DAY_S: Final = 86_400
_SLOTS_S: Final = (900, 3600, _DAY_S)
_FOR_EVER: Final = 2**62
Stay = tuple[int, int, int]
"""(installed_at, removed_at [ms UTC], row of the table): whose readings these are while the meter hangs there."""


@dataclass(frozen=True, slots=True)
class Places:
    """What the registry knows of a period. stays: by meter, oldest first. quantity: the one each meter bills.
    usage_points: per row of the table."""

    table: MeterTable
    stays: dict[str, list[Stay]]
    quantity: dict[str, Quantity]
    notes: list[str]
    usage_points: list[str]


# --- the registry -------------------------------------------------------------------------------------------------


def city_zone(connection: Connection) -> str:
    """Return the time zone of most usage points, "UTC" when there are none."""
    zone, place = models.UsagePoint.tz, models.UsagePoint.id
    found = connection.execute(sa.select(zone).group_by(zone).order_by(sa.func.count(place).desc(), zone).limit(1))
    return str(found.scalar() or "UTC")


def read_places(connection: Connection, t0: int, t1: int, *, parts: Collection[int] | None = None) -> Places:
    """Return the usage points that had a meter in t0 <= time < t1 [ms UTC], in a stable order.

    parts: only those whose last meter hangs on a gateway of these parts of the city; None: all. Notes say which facts
    are absent and what is assumed. Raises: SettingsError when no meter was installed.
    """
    rows = _installations(connection, t0, t1)
    if not rows:
        raise SettingsError("the registry names no meter that was installed in this period")
    dated = any(row.commissioned_at is not None for row in rows)
    chains = [chain for chain in _chains(rows) if parts is None or part_of(chain[-1].gateway_id or "") in parts]
    rows = [row for chain in chains for row in chain]
    if not rows:
        raise SettingsError("the registry names no meter that was installed in these parts of the city")
    stays: dict[str, list[Stay]] = {}
    for number, chain in enumerate(chains):
        for row in chain:
            removed = _FOR_EVER if row.removed_at is None else row.removed_at
            stays.setdefault(row.meter, []).append((row.installed_at, removed, number))
    for own in stays.values():
        own.sort()
    table = MeterTable([_meter(chain, t1, dated=dated) for chain in chains])
    points = [chain[0].usage_point_id for chain in chains]
    return Places(table, stays, {row.meter: row.quantity for row in rows}, _notes(rows, chains, dated), points)


def _installations(connection: Connection, t0: int, t1: int) -> list[Any]:
    stay, meter, place = models.Installation, models.Meter, models.UsagePoint
    columns = (
        meter.gateway_id,
        *(stay.usage_point_id, stay.installed_at, stay.removed_at, meter.id.label("meter"), meter.quantity),
        *(meter.index_digits, meter.resolution, meter.qmax, meter.interval_s, meter.commissioned_at),
        *(place.medium, place.customer_class, place.district, place.tz),
    )
    statement = (
        sa.select(*columns)
        .join(meter, meter.id == stay.meter_id)
        .join(place, place.id == stay.usage_point_id)
        .where(stay.installed_at < t1, sa.or_(stay.removed_at.is_(None), stay.removed_at > t0))
        .order_by(stay.usage_point_id, stay.installed_at, stay.id)
    )
    return list(connection.execute(statement))


def _chains(rows: list[Any]) -> Iterator[list[Any]]:
    """Meters of one usage point that followed each other; two that hang side by side are two chains."""
    for _, group in groupby(rows, key=lambda row: row.usage_point_id):
        chains: list[list[Any]] = []
        for row in group:
            before = next((chain for chain in chains if _follows(chain[-1], row)), None)
            if before is None:
                chains.append([row])
            else:
                before.append(row)
        yield from chains


def _follows(old: Any, new: Any) -> bool:
    same = UNITS[old.quantity] == UNITS[new.quantity]
    return same and old.removed_at is not None and old.removed_at <= new.installed_at


def _meter(chain: list[Any], t1: int, *, dated: bool) -> Meter:
    """The last meter of a chain. dated: False when the registry holds no commissioning date at all."""
    last = chain[-1]
    return Meter(
        last.meter,
        last.medium,
        last.customer_class or OTHER_CLASS,
        UNITS[last.quantity],
        index_digits=last.index_digits or 6,
        resolution=last.resolution or 10_000,
        interval_s=slot_s(last.interval_s),
        qmax_per_h=last.qmax or to_micro(str(DEFAULT_QMAX[last.medium])),
        tz=last.tz,
        district=last.district,
        commissioned=not dated or any(r.commissioned_at is not None and r.commissioned_at < t1 for r in chain),
        replaced_s=last.installed_at // 1000 if len(chain) > 1 else 0,
        until_s=0 if last.removed_at is None else last.removed_at // 1000,
    )


def slot_s(interval_s: int | None) -> int:
    """Return the step [s] in which a meter is judged: its own where that divides a day, at least 15 minutes."""
    wanted = 3600 if interval_s is None else interval_s
    if _SLOTS_S[0] <= wanted <= _DAY_S and _DAY_S % wanted == 0:
        return wanted
    return next((slot for slot in _SLOTS_S if slot >= wanted), _DAY_S)


def _notes(rows: list[Any], chains: list[list[Any]], dated: bool) -> list[str]:
    notes = []
    for name in ("index_digits", "resolution", "qmax", "interval_s"):
        if absent := sum(getattr(row, name) is None for row in rows):
            notes.append(f"registry: {absent} of {len(rows)} meters have no {name}: a default is used")
    if not dated:
        notes.append("registry: no commissioning dates: nothing counts as used before commissioning")
    if often := sum(len(chain) > 2 for chain in chains):
        notes.append(f"registry: {often} usage points had more than one exchange; only the last counts as recorded")
    return notes


# --- the store ----------------------------------------------------------------------------------------------------


def some_places(places: Places, rows: NDArray[np.int64]) -> Places:
    """Return only these rows of the table, renumbered, with the meters that hang there."""
    number = {int(row): new for new, row in enumerate(rows)}
    stays = {
        meter: [(start, end, number[row]) for start, end, row in own if row in number]
        for meter, own in places.stays.items()
    }
    stays = {meter: own for meter, own in stays.items() if own}
    quantity = {meter: places.quantity[meter] for meter in stays}
    points = [places.usage_points[int(row)] for row in rows]
    return Places(places.table.part(rows), stays, quantity, [*places.notes], points)


def read_period(
    store: ReadingStore,
    places: Places,
    t0: int,
    t1: int,
    *,
    strangers: bool = True,
    progress: Callable[[int, int], None] | None = None,
) -> Readings:
    """Return the readings of a period in order of arrival: t0 <= read_at < t1 [ms UTC], arrived before t1.

    Streamed meter by meter, 29 bytes a row are kept. Without received_at, and for imports, read_at counts as arrival.
    What is not judged (estimates, late arrivals, meters without a place) is counted in places.notes.
    strangers: count the meters without a place as well. progress: called with meters read and meters to read.
    Raises: StoreError; SettingsError when nothing is left.
    """
    rows, done = _Columns(places.stays, t1), 0
    for quantity, meters in _by_quantity(places.quantity).items():
        for start in range(0, len(meters), _NAMES):
            for reading in store.range(meters[start : start + _NAMES], t0, t1, quantities=[quantity]):
                rows.add(reading, reading.values[quantity])
            done += len(meters[start : start + _NAMES])
            if progress is not None:
                progress(done, len(places.quantity))
    unknown = _strangers(store, places, t0, t1) if strangers else 0
    places.notes.extend(f"store: {count} readings {why} are not judged" for why, count in sorted(rows.left.items()))
    if not rows.meter:
        raise SettingsError("the store holds no readings of these meters in this period")
    return rows.ordered(unknown)


def _strangers(store: ReadingStore, places: Places, t0: int, t1: int) -> int:
    """Count readings of meters without a place, and say so."""
    found = {meter: n for meter, n in store.counts(t0, t1).items() if meter not in places.stays}
    if found:
        places.notes.append(
            f"store: {sum(found.values())} readings of {len(found)} meters that are not installed in the "
            f"registry are not judged, {min(found)} for example"
        )
    return sum(found.values())


def _by_quantity(quantities: dict[str, Quantity]) -> dict[Quantity, list[str]]:
    groups: dict[Quantity, list[str]] = {}
    for meter in sorted(quantities):
        groups.setdefault(quantities[meter], []).append(meter)
    return groups


@dataclass(slots=True)
class _Columns:
    """Rows as they come from the store. left: why a row was left out -> how many."""

    stays: dict[str, list[Stay]]
    t1: int
    meter: array[int] = field(default_factory=lambda: array("i"))
    ts: array[int] = field(default_factory=lambda: array("q"))
    received: array[int] = field(default_factory=lambda: array("q"))
    micro: array[int] = field(default_factory=lambda: array("q"))
    flags: array[int] = field(default_factory=lambda: array("B"))
    left: Counter[str] = field(default_factory=Counter)

    def add(self, reading: Reading, micro: int) -> None:
        arrived = reading.received_at
        if arrived is None or reading.source == "import":
            arrived = reading.read_at
        row = self._row(reading.meter, reading.read_at)
        if row is None:
            self.left["from before or after the meter's installation"] += 1
        elif reading.quality == "estimated":
            self.left["that are estimates"] += 1
        elif arrived >= self.t1:
            self.left["that arrived after the period"] += 1
        else:
            self.meter.append(row)
            self.ts.append(reading.read_at // 1000)
            self.received.append(arrived // 1000)
            self.micro.append(micro)
            self.flags.append(reading.flags & _FLAGS)

    def _row(self, meter: str, at: int) -> int | None:
        """The row a reading belongs to; the reading at the very moment of removal is the old meter's last."""
        return next((row for start, end, row in self.stays[meter] if start <= at <= end), None)

    def ordered(self, unknown: int) -> Readings:
        rows = Readings(
            np.frombuffer(self.meter, np.int32),
            np.frombuffer(self.ts, np.int64),
            np.frombuffer(self.received, np.int64),
            np.frombuffer(self.micro, np.int64),
            np.frombuffer(self.flags, np.uint8),
            unknown,
        )
        return rows.take(np.argsort(rows.received, kind="stable"))
