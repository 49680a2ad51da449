"""Readings for the live engine: the past at the start, and afterwards what ingest's log says was touched."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from anomaly.days import DAY_S
from anomaly.engine import BEHIND_S
from anomaly.files import FLAG_BITS, Readings, joined
from anomaly.stored import Places
from metering.quantities import Quantity
from metering.store import Columns, ColumnStore, ReadingStore
from registry.watch import Change

_NAMES: Final = 500  # meters asked of the store at once
_FLAGS: Final = sum(FLAG_BITS.values())
Spans = Mapping[tuple[int, int], set[str]]
"""(t0, t1) of read_at [ms UTC, inclusive] -> meters that got readings there."""


@dataclass(slots=True)
class Feed:
    """Reads what the places of the registry bill. newest_at: [ms UTC] newest reading seen, per row of the table."""

    store: ReadingStore
    places: Places
    newest_at: NDArray[np.int64]
    left: Counter[str]

    @classmethod
    def of(cls, store: ReadingStore, places: Places) -> Feed:
        return cls(store, places, np.zeros(len(places.table), np.int64), Counter())

    def days(self, since_s: int, until_s: int, meters: Iterable[str] | None = None) -> Iterator[tuple[int, Readings]]:
        """Yield (end of the day [s since 1970], its rows), oldest first. meters: only these; None: all."""
        names = sorted(self.places.quantity if meters is None else meters)
        for start in range(since_s, until_s, DAY_S):
            end = min(start + DAY_S, until_s)
            yield end, self._rows(names, start * 1000, end * 1000)

    def touched(self, changes: Sequence[Change]) -> Readings | None:
        """Return the rows that changes of the log speak of, in order of arrival; None when there are none of ours."""
        parts = [self._rows(sorted(names), t0, t1 + 1) for (t0, t1), names in self.spans(changes).items()]
        parts = [part for part in parts if len(part)]
        if not parts:
            return None
        rows = joined(parts)
        return rows.take(np.argsort(rows.received, kind="stable"))

    def spans(self, changes: Sequence[Change]) -> Spans:
        """Return where and when changes touched meters of ours."""
        groups: dict[tuple[int, int], set[str]] = {}
        for change in changes:
            ours = self.places.quantity.keys() & set(change.meters)
            if ours:
                groups.setdefault((change.t0, change.t1), set()).update(ours)
        return _merged(groups)

    def _rows(self, names: Sequence[str], t0: int, t1: int) -> Readings:
        parts = [_empty()]
        groups: dict[Quantity, list[str]] = {}
        for name in names:
            groups.setdefault(self.places.quantity[name], []).append(name)
        for quantity, meters in groups.items():
            for start in range(0, len(meters), _NAMES):
                part = meters[start : start + _NAMES]
                parts += self._placed(part, read_columns(self.store, part, quantity, t0, t1))
        return joined(parts) if len(parts) > 1 else parts[0]

    def _placed(self, names: Sequence[str], columns: Columns) -> Iterator[Readings]:
        """Rows with their places; meters that moved are looked up stay by stay."""
        if not columns.read_at.size:
            return
        row = self._row_of(names, columns)
        arrived = np.where((columns.received_at > 0) & ~columns.imported, columns.received_at, columns.read_at)
        keep = (row >= 0) & ~columns.estimated & (columns.read_at >= arrived - BEHIND_S * 1000)
        self.left["rows_left_out"] += int(np.count_nonzero(~keep))
        row = row[keep]
        np.maximum.at(self.newest_at, row, columns.read_at[keep])
        yield Readings(
            row,
            columns.read_at[keep] // 1000,
            arrived[keep] // 1000,
            columns.micro[keep],
            (columns.flags[keep] & _FLAGS).astype(np.uint8),
        )

    def _row_of(self, names: Sequence[str], columns: Columns) -> NDArray[np.int32]:
        """Row of the table that each reading belongs to, -1 for none."""
        stays = [self.places.stays.get(name, [])[:1] or [(1, 0, -1)] for name in names]
        first = np.array([stay[0] for stay in stays], np.int64)[columns.meter]
        inside = (first[:, 0] <= columns.read_at) & (columns.read_at <= first[:, 1])
        row = np.where(inside, first[:, 2], -1).astype(np.int32)
        moved = [number for number, name in enumerate(names) if len(self.places.stays.get(name, ())) > 1]
        for number in moved:  # the oldest stay wins where two touch: the reading of the very moment is the old one's
            mine = np.flatnonzero((columns.meter == number) & (row < 0))
            for start, end, place in self.places.stays[names[number]][1:]:
                at = columns.read_at[mine]
                row[mine[(at >= start) & (at <= end) & (row[mine] < 0)]] = place
        return row


def _merged(groups: dict[tuple[int, int], set[str]]) -> dict[tuple[int, int], set[str]]:
    """Join ranges that overlap or lie within a minute: one question instead of many."""
    out: dict[tuple[int, int], set[str]] = {}
    for (t0, t1), names in sorted(groups.items()):
        last = next(reversed(out), None)
        if last is not None and t0 <= last[1] + 60_000 and max(t1, last[1]) - last[0] <= 3_600_000:
            names = out.pop(last) | names
            t0, t1 = last[0], max(t1, last[1])
        out[t0, t1] = out.get((t0, t1), set()) | names
    return out


def _empty() -> Readings:
    numbers = np.zeros(0, np.int64)
    return Readings(np.zeros(0, np.int32), numbers, numbers, numbers, np.zeros(0, np.uint8))


def pending(rows: Readings, places: Places, spans: Spans) -> NDArray[np.bool_]:
    """True for rows in ranges that were touched and not judged yet."""
    out = np.zeros(len(rows), bool)
    if not len(rows):
        return out
    low, high = int(rows.ts.min()), int(rows.ts.max())
    for (t0, t1), names in spans.items():
        if t1 // 1000 < low or t0 // 1000 > high:
            continue
        inside = np.flatnonzero((rows.ts >= t0 // 1000) & (rows.ts <= t1 // 1000))
        theirs = {row for name in names for _, _, row in places.stays.get(name, ())}
        out[inside] |= np.isin(rows.meter[inside], list(theirs))
    return out


def read_columns(store: ReadingStore, meters: Sequence[str], quantity: Quantity, t0: int, t1: int) -> Columns:
    """Return readings of one quantity as arrays: by the store's own way where it has one, else row by row."""
    if isinstance(store, ColumnStore):
        return store.columns(meters, quantity, t0, t1)
    number = {name: i for i, name in enumerate(meters)}
    rows: list[tuple[Any, ...]] = [
        (
            number[r.meter],
            r.read_at,
            r.received_at or 0,
            r.values[quantity],
            r.flags,
            r.source == "import",
            r.quality == "estimated",
        )
        for r in store.range(meters, t0, t1, quantities=[quantity])
    ]
    return columns_of(rows)


def columns_of(rows: Sequence[tuple[Any, ...]]) -> Columns:
    """Turn (meter, read_at, received_at, micro, flags, imported, estimated) into columns."""
    table = np.array(rows, np.int64).reshape(len(rows), 7)
    meter, read_at, received_at, micro, flags, imported, estimated = table.T
    return Columns(meter, read_at, received_at, micro, flags, imported.astype(bool), estimated.astype(bool))
