"""A `Shard`: meters of one interval and time zone, with their interval matrix and their folded days.

A `View` is what a rule may look at: some of those meters as they stood at the end of one local day. Nothing in it
lies behind that day, so a verdict cannot look ahead.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from functools import cached_property
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from anomaly.days import DAY_S, local_date, near_new_year
from anomaly.features import CONTEXT_HOURS, DAILY, HOURLY, fold_days, fold_hours
from anomaly.intervals import Grid, GridShape, Rows
from anomaly.meters import CLASSES, MEDIA, MeterTable
from anomaly.statistics import known_more, quantiles, sum_rows
from anomaly.thresholds import Thresholds

Floats = NDArray[Any]
ALL: Final = slice(None)
HISTORY: Final = 45
"""[d] days a daily rule looks back."""
PEER_SAMPLE: Final = 2000
"""Meters of a group that are enough for its median."""
FEWEST_PEERS: Final = 8
BOILER_PER_DAY: Final = 1.8
"""[m³/d] median from which a home on gas is taken to heat (cooking and hot water alone stay near 1)."""
HEATING_LIMIT_C: Final = 17.0
"""[°C] daily mean below which homes are heated; degree days count from here."""
BASE_DEGREES: Final = 3.0
"""[K] what hot water and cooking amount to, in degree days."""


class Shard:
    """Matrix, folded days and calendar of the meters `rows` of the fleet."""

    def __init__(
        self,
        table: MeterTable,
        rows: Rows,
        thresholds: Thresholds,
        *,
        origin_s: int,
        tz: str,
        grid_days: int,
        feature_days: int,
        dtype: Any = np.float64,
        temperature: Mapping[date, float] | None = None,
    ) -> None:
        """rows: numbers of these meters in the fleet. origin_s: a local midnight. *_days: kept in memory.
        temperature: [°C] daily mean by local date."""
        self.temperature = temperature or {}
        self.table, self.rows, self.thresholds, self.tz = table, rows, thresholds, tz
        self.slot_s = int(table.interval_s[0])
        self.per_day = DAY_S // self.slot_s
        self.hourly = self.slot_s <= 3600
        self.per_hour = max(1, 3600 // self.slot_s)
        lead = self.slot_s // 2 if self.slot_s < DAY_S else 8 * 3600
        shape = GridShape(self.slot_s, origin_s, grid_days * self.per_day + 2, lead)
        limits = table.limits(over_factor=thresholds.number("engine.over_factor"))
        self.grid = Grid(shape, limits, replaced_s=table.replaced_s, dtype=dtype)
        self.names = HOURLY if self.hourly else DAILY
        self.first_day = 0
        self.day = -1
        """Last local day that is folded and judged."""
        self.kept_days = feature_days
        self.days = {name: np.full((feature_days, len(table)), np.nan, dtype) for name in self.names}
        late = "engine.late_h" if self.slot_s < DAY_S else "engine.late_daily_h"
        self.late_s = int(thresholds.number(late) * 3600)
        codes, self.group = np.unique(table.medium.astype(np.int64) * 16 + table.customer_class, return_inverse=True)
        self.groups = codes.size
        boilers = np.flatnonzero(codes == MEDIA.index("gas") * 16 + CLASSES.index("residential_heating"))
        self.heating_group = int(boilers[0]) if boilers.size else -1
        self.heated = np.array([code % 16 == CLASSES.index("residential_heating") for code in codes.tolist()], bool)
        self.electric = table.medium == MEDIA.index("electricity")
        self.still_hour = 0.5 * table.resolution
        self._peers: dict[int, Floats] = {}
        self._values: dict[tuple[str, date], NDArray[np.float64]] = {}
        self._changes = thresholds.change_days()

    def set_thresholds(self, thresholds: Thresholds) -> None:
        """Take over changed values; what the engine as a whole is built with (engine.…) waits for a restart."""
        self.thresholds, self._changes = thresholds, thresholds.change_days()
        self._values.clear()

    # --- time ----------------------------------------------------------------------------------------------------

    def frontier_at(self, now_s: int) -> int:
        """Last slot that is judged at `now_s`: late data have had their time."""
        return (now_s - self.late_s - self.grid.shape.origin_s) // self.slot_s

    def day_start_s(self, day: int) -> int:
        """[s since 1970] local midnight at which the day begins."""
        return self.grid.shape.origin_s + day * DAY_S

    def date_of(self, day: int) -> date:
        """Local date of a day number."""
        return local_date(self.day_start_s(day), self.tz)

    def values(self, name: str, day: date) -> NDArray[np.float64]:
        """Threshold per meter on a day."""
        since = max((change for change in self._changes if change <= day), default=date.min)
        if (name, since) not in self._values:
            self._values[name, since] = self.thresholds.resolve(name, self.table, day)
        return self._values[name, since]

    # --- hours ---------------------------------------------------------------------------------------------------

    def hours(self, first: int, last: int, rows: Any = ALL) -> tuple[Floats, NDArray[np.uint8]]:
        """(consumption, span) of the hours [first, last) counted from the origin, [hours, meters]; NaN, 0 outside."""
        p = self.per_hour
        use, span = self.cells(first * p, last * p, rows)
        if p == 1:
            return use, span
        parts = span.reshape(-1, p, span.shape[1])
        known = (parts > 0).all(axis=1)
        wide = np.where(known, -(-parts.max(axis=1).astype(np.int16) // p), 0).astype(np.uint8)
        sums = np.where(parts > 0, use.reshape(parts.shape), 0.0).sum(axis=1)
        return np.where(known, sums, np.nan), wide

    def cells(self, first: int, last: int, rows: Any = ALL) -> tuple[Floats, NDArray[np.uint8]]:
        """The same for slots: what passed between boundary i and i + 1 for i in [first, last)."""
        g = self.grid
        low, high = first + 1 - g.first, last + 1 - g.first
        a, b = max(low, 0), max(min(high, g.shape.slots, g.frontier + 1 - g.first), 0)
        use, span = g.use[a:b][:, rows], g.span[a:b][:, rows]
        before, after = min(max(-low, 0), high - low), max(high - max(b, low, 0), 0)
        if b <= a:
            before, after, use, span = high - low, 0, use[:0], span[:0]
        if before or after:
            pad = ((before, after), (0, 0))
            use, span = np.pad(use, pad, constant_values=np.nan), np.pad(span, pad)
        return use, span

    def flags(self, first: int, last: int, rows: Any = ALL) -> NDArray[np.uint8]:
        """Status bits of the readings at boundaries [first, last), 0 outside the grid."""
        g = self.grid
        a, b = first - g.first, last - g.first
        part = g.flags[max(a, 0) : max(b, 0)][:, rows]
        return np.pad(part, ((b - a - part.shape[0], 0), (0, 0))) if part.shape[0] < b - a else part

    # --- days ----------------------------------------------------------------------------------------------------

    def complete_day(self) -> int:
        """Newest local day whose last boundary the machine has passed."""
        return self.grid.frontier // self.per_day - 1

    def fold(self, day: int, rows: Any = ALL) -> None:
        """Fold one local day of some meters (again)."""
        if day < self.first_day:
            return
        if self.hourly:
            use, span = self.hours(day * 24 - CONTEXT_HOURS, day * 24 + 24, rows)
            folded = fold_hours(use, span, self.still_hour[rows])
        elif self.slot_s == DAY_S:
            use, span = self.cells(day, day + 1, rows)
            folded = fold_days(use[0], span[0])
        else:
            use, span = self.cells(day * self.per_day, (day + 1) * self.per_day, rows)
            folded = fold_days(sum_rows(use), np.where((span > 0).all(axis=0), 1, 0).astype(np.uint8))
        at = day - self.first_day
        for name, values in folded.items():
            self.days[name][at, rows] = values

    def make_room(self) -> None:
        """Forget the oldest days when matrix or folded days are full."""
        g = self.grid
        if g.frontier - g.first > g.shape.slots - 2 * self.per_day:
            keep = (g.frontier - g.first) // self.per_day * 3 // 4
            g.drop(max(1, (g.frontier - g.first) // self.per_day - keep) * self.per_day)
        if self.day - self.first_day >= self.kept_days - 2:
            gone = max(1, self.kept_days // 4)
            for array in self.days.values():
                array[:-gone] = array[gone:]
                array[-gone:] = np.nan
            self.first_day += gone

    def history(self, name: str, day: int, length: int, rows: Any = ALL) -> Floats:
        """A feature on the `length` days up to `day`, [days, meters], NaN before the first kept day."""
        end = day + 1 - self.first_day
        part = self.days[name][max(end - length, 0) : max(end, 0)][:, rows]
        short = length - part.shape[0]
        return np.pad(part, ((short, 0), (0, 0)), constant_values=np.nan) if short else part

    def peers(self, day: int) -> Floats:
        """[HISTORY days, groups]: use of the group on each day against its members' own medians of that time."""
        if day not in self._peers:
            for old in [d for d in self._peers if d < day - 60]:
                del self._peers[old]
            self._peers[day] = self._movement(day)
        return self._peers[day]

    def _movement(self, day: int) -> Floats:
        out = np.ones((HISTORY, self.groups))
        for group in range(self.groups):
            members = np.flatnonzero(self.group == group)
            members = members[:: max(1, members.size // PEER_SAMPLE)]
            if members.size < FEWEST_PEERS:
                if self.heated[group]:
                    out[:, group] = self._weather(day)
                continue
            total = self.history("total", day, HISTORY, members)
            own = quantiles(total, (0.5,), fewest=7)[0]
            ratio = np.where(known_more(own, 0)[None, :], total / np.where(own > 0, own, 1.0), np.nan)
            middle = quantiles(ratio.T, (0.5,), fewest=FEWEST_PEERS)[0]
            out[:, group] = np.where(np.isnan(middle), 1.0, np.clip(middle, 0.02, 50))
        return out

    def _weather(self, day: int) -> Floats:
        """Movement of heating by degree days, for boilers without peers; 1 where the temperature is not known."""
        dates = [self.date_of(day - back) for back in range(HISTORY - 1, -1, -1)]
        degrees = np.array([self.temperature.get(date, np.nan) for date in dates])
        need = BASE_DEGREES + np.maximum(HEATING_LIMIT_C - degrees, 0.0)
        middle = quantiles(need[:, None], (0.5,), fewest=7)[0][0]
        return np.where(np.isnan(need) | np.isnan(middle), 1.0, need / middle)


class View:
    """Meters `rows` of a shard at the end of local day `day`."""

    def __init__(self, shard: Shard, day: int, rows: Any = ALL) -> None:
        self.shard, self.day, self.rows = shard, day, rows
        self.date = shard.date_of(day)
        self.meters = shard.group[rows].size

    def history(self, name: str, length: int = HISTORY) -> Floats:
        """A feature on the last `length` days, [days, meters]."""
        return self.shard.history(name, self.day, length, self.rows)

    def value(self, name: str) -> NDArray[np.float64]:
        """A threshold per meter."""
        out: NDArray[np.float64] = self.shard.values(name, self.date)[self.rows]
        return out

    def of(self, array: NDArray[Any]) -> NDArray[Any]:
        """The part of a per-meter array of the shard that belongs to these meters."""
        part: NDArray[Any] = array[self.rows]
        return part

    @cached_property
    def peers(self) -> Floats:
        """Movement of each meter's group, [HISTORY days, meters]."""
        shard = self.shard
        groups = np.where(self._heats(), shard.heating_group, shard.group[self.rows])
        return shard.peers(self.day)[:, groups]

    def _heats(self) -> NDArray[np.bool_]:
        """Homes on gas that use as much as a boiler does, whatever the master data say: they move with boilers."""
        shard = self.shard
        if shard.heating_group < 0:
            return np.zeros(self.meters, bool)
        homes = (self.of(shard.table.medium) == MEDIA.index("gas")) & (
            self.of(shard.table.customer_class) == CLASSES.index("residential")
        )
        usual = quantiles(self.history("total"), (0.5,), fewest=7)[0]
        return np.asarray(homes & known_more(usual, BOILER_PER_DAY), np.bool_)

    def festival(self, length: int, name: str) -> NDArray[np.bool_]:
        """[days] True near the first day of the Spring Festival; name: festival (away, closed) or guests."""
        number = self.shard.thresholds.number
        before, after = int(number(f"{name}.before_days")), int(number(f"{name}.after_days"))
        dates = [self.shard.date_of(self.day - back) for back in range(length - 1, -1, -1)]
        return np.array([near_new_year(day, before=before, after=after) for day in dates])
