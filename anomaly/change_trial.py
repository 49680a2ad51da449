"""A change of thresholds tried on a stored period, before it counts: how many meters would have an open alarm?

The same rows run through the rules twice, with the thresholds in force and with the change laid over them. Rules
learn a meter's habit from the weeks before, so reading begins `LEARN_DAYS` before the days that count. In a large
city a fixed sample is tried: the meters of the change first, then others of the same kinds, for their peers.
"""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from sqlalchemy.engine import Connection

from anomaly.books import override_of, with_changes
from anomaly.days import DAY_S
from anomaly.files import Readings
from anomaly.findings import Finding
from anomaly.meters import MeterTable
from anomaly.run import run
from anomaly.stored import Places, read_period, read_places, some_places
from anomaly.thresholds import Override, Thresholds
from metering.clock import rfc3339
from metering.store import ReadingStore
from registry.database import Database

LEARN_DAYS: Final = 60
DEFAULT_DAYS: Final = 30
MOST_METERS: Final = 2000
_EXAMPLES: Final = 50
_READ_SHARE: Final = 20
"""[%] of the progress that reading takes."""
_ANY_DAY: Final = date(2000, 1, 1)
Progress = Callable[[int, str], None]


@dataclass(frozen=True, slots=True)
class Side:
    """What one set of thresholds did in the period. alarms: by rule. flagged: (meter, kind).

    worst: the most meters that had an open alarm at one moment.
    """

    alarms: dict[str, int]
    flagged: frozenset[tuple[str, str]]
    worst: int


def try_change(
    database: Database,
    store: ReadingStore,
    change: Mapping[str, Any],
    *,
    base: Thresholds,
    t0: int,
    t1: int,
    most_meters: int = MOST_METERS,
    progress: Progress = lambda percent, text: None,
) -> dict[str, Any]:
    """Try a change (a row of the registry) on t0 <= time < t1 [ms UTC] and return the result that is kept with it.

    base: the file's thresholds; confirmed changes are laid over them. Raises: SettingsError, StoreError.
    """
    learn_from = t0 - LEARN_DAYS * DAY_S * 1000
    with database.read() as connection:
        now, entry, places = _read(connection, change, base, learn_from, t1)
    fits = fitting(places.table, entry)
    rows = sample(places.table, fits, most_meters)
    part = some_places(places, rows)
    readings = read_period(
        store, part, learn_from, t1, strangers=False,
        progress=lambda done, of: progress(_READ_SHARE * done // max(of, 1), f"{done} of {of} meters read"),
    )  # fmt: skip
    mine = frozenset(part.table.meters[i].meter_id for i in np.flatnonzero(fits[rows]).tolist())
    sides = [
        _side(part.table, readings, used, mine, t0 // 1000, t1 // 1000, _report(progress, number, len(readings)))
        for number, used in enumerate((now, now.with_override(entry, version=f"{now.version}+change")))
    ]
    found = _result(sides[0], sides[1], len(places.table), int(fits.sum()), len(mine))
    period = {"from": rfc3339(t0), "to": rfc3339(t1), "tested": len(part.table), "readings": len(readings)}
    return {**period, **found, "notes": part.notes}


def _read(
    connection: Connection, change: Mapping[str, Any], base: Thresholds, t0: int, t1: int
) -> tuple[Thresholds, Override, Places]:
    now = with_changes(connection, base, without=int(change["id"]))
    entry = override_of(int(change["id"]), change["scope"], change["values"], None)
    return now, entry, read_places(connection, t0, t1)


def fitting(table: MeterTable, entry: Override) -> NDArray[np.bool_]:
    """Mark the meters that a change is for."""
    name = "change"
    marks = Thresholds("", {name: 0.0}).with_override(
        Override({name: 1.0}, entry.medium, entry.customer_class, entry.meter), version=""
    )
    return np.asarray(marks.resolve(name, table, _ANY_DAY) > 0)


def sample(table: MeterTable, fits: NDArray[np.bool_], most: int) -> NDArray[np.int64]:
    """Return the rows to try, ascending: all, or by a hash of the id at most half of them others than those meant.

    The others are of the media and classes that the change is for.
    """
    if len(table) <= most:
        return np.arange(len(table), dtype=np.int64)
    order = np.array([zlib.crc32(m.meter_id.encode()) for m in table.meters], np.int64)
    kind = table.medium.astype(np.int64) * 100 + table.customer_class
    peers = ~fits & np.isin(kind, kind[fits])
    chosen = _first(order, fits, most if not peers.any() else most - min(most // 2, int(peers.sum())))
    return np.sort(np.concatenate([chosen, _first(order, peers, most - chosen.size)]))


def _first(order: NDArray[np.int64], mask: NDArray[np.bool_], most: int) -> NDArray[np.int64]:
    rows = np.flatnonzero(mask)
    return rows[np.argsort(order[rows], kind="stable")][: max(most, 0)]


def _report(progress: Progress, number: int, rows: int) -> Callable[[int], None]:
    share = (100 - _READ_SHARE) / 2

    def say(done: int) -> None:
        words = ("with the thresholds in force", "with the change")[number]
        progress(round(_READ_SHARE + share * (number + done / max(rows, 1))), f"{words}: {done} of {rows} readings")

    return say


def _side(
    table: MeterTable,
    readings: Readings,
    thresholds: Thresholds,
    mine: frozenset[str],
    t0_s: int,
    t1_s: int,
    progress: Callable[[int], None],
) -> Side:
    engine = run(table, readings, thresholds, progress=progress)
    shown = [f for f in engine.book.findings if f.meter_id in mine and not f.kind.startswith("info")]
    inside = [f for f in shown if f.detected_s < t1_s and end_of(f, t1_s) > t0_s]
    alarms = Counter(f.rule for f in inside if f.detected_s >= t0_s)
    return Side(
        dict(sorted(alarms.items())), frozenset((f.meter_id, f.kind) for f in inside), worst(inside, t0_s, t1_s)
    )


def end_of(finding: Finding, t1_s: int) -> int:
    """[s] when a finding was over, at the latest the end of the period."""
    ends = [t1_s, finding.cleared_s, finding.withdrawn_s]
    return min(end for end in ends if end is not None)


def worst(findings: list[Finding], t0_s: int, t1_s: int) -> int:
    """Return the most meters that had an open finding at one moment of t0_s <= time < t1_s."""
    steps: list[tuple[int, int, str]] = []
    for finding in findings:
        start, end = max(finding.detected_s, t0_s), end_of(finding, t1_s)
        if start < end:
            steps += [(start, 1, finding.meter_id), (end, -1, finding.meter_id)]
    open_: Counter[str] = Counter()
    most = 0
    for _, step, meter in sorted(steps):  # at one moment ends come before starts
        open_[meter] += step
        if not open_[meter]:
            del open_[meter]
        most = max(most, len(open_))
    return most


def _result(now: Side, then: Side, city: int, in_scope: int, tested: int) -> dict[str, Any]:
    """The numbers of a sample speak for all meters that the change is for."""
    factor = in_scope / max(tested, 1)
    new, gone = sorted(then.flagged - now.flagged), sorted(now.flagged - then.flagged)
    return {
        "meters": city,
        "in_scope": in_scope,
        "tested_in_scope": tested,
        "flagged_now": round(now.worst * factor),
        "would_flag": round(then.worst * factor),
        "alarms_now": now.alarms,
        "alarms_then": then.alarms,
        "new": len(new),
        "gone": len(gone),
        "new_examples": [list(pair) for pair in new[:_EXAMPLES]],
        "gone_examples": [list(pair) for pair in gone[:_EXAMPLES]],
    }
