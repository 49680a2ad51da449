"""The engine: readings in by arrival, findings out, in event time.

A `tick` at wall time `now` judges event time up to `now` minus the tolerance for late data, so readings that arrive
within the tolerance give the same findings in any order. Readings that come later touch their own cells; findings
that no longer hold on any day since they were raised are withdrawn. The engine knows no file, store or clock: rows
and `now` come in, findings go out, and `snapshot` holds all that a restart needs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from anomaly import judge, live
from anomaly.days import DAY_S, local_midnight_s
from anomaly.events import CODES_OF, EVENT_RULES
from anomaly.findings import RULES, Book, Finding, RuleInfo
from anomaly.intervals import Rows
from anomaly.meters import MeterTable
from anomaly.quick import Quick
from anomaly.rebuild import rebuild, refold
from anomaly.register import Register
from anomaly.rules import states
from anomaly.shard import ALL, Shard, View
from anomaly.silence import Silence
from anomaly.thresholds import Thresholds
from anomaly.verdict import Verdict
from metering.reading import Flag
from metering.steps import Step

AHEAD_S: Final = 3600
"""[s] a meter's clock may run ahead of the arrival before its time is not believed."""
BEHIND_S: Final = 45 * DAY_S
"""[s] older times than this at arrival are not believed (2000-01-01 after a battery change)."""
BAD_CLOCK_RUN: Final = 3
"""Rows in a row with an impossible time after which the time of arrival stands in (a clock that never recovers)."""


@dataclass(frozen=True, slots=True)
class EngineShape:
    """grid_days: indexes kept, so the oldest reading that can still change anything. feature_days: folded days kept.
    dtype: of consumption (float64; float32 for a city). lead_days: matrix before the start, for older rows."""

    grid_days: int = 48
    feature_days: int = 240
    lead_days: int = 8
    dtype: Any = np.float64


class Engine:
    """Judges a fleet. start_s: [s since 1970] time of the first arrival."""

    def __init__(
        self,
        meters: MeterTable,
        thresholds: Thresholds,
        *,
        start_s: int,
        shape: EngineShape | None = None,
        weather: dict[date, float] | None = None,
        quick: bool = False,
    ) -> None:
        """quick: `judge_now` will be called when rows have arrived, see `anomaly.quick`."""
        self.meters, self.thresholds, self.shape = meters, thresholds, shape or EngineShape()
        self.weather = weather or {}
        self.start_s = start_s
        self.shards = self._make_shards(start_s)
        self.book = Book(
            thresholds.version_at,
            repeat_s=int(thresholds.number("engine.repeat_days") * DAY_S),
            spike_repeat_s=int(thresholds.number("engine.spike_repeat_days") * DAY_S),
        )
        self.register = Register(meters, self.shards, self.book)
        self.silence = Silence(self.register, thresholds)
        self.quick = Quick(self.register, enabled=quick)
        self.bad_clocks = 0
        self._bad_run = np.zeros(len(meters), np.int32)
        self._clock_marks: list[tuple[int, int]] = []
        self._fell: list[set[int]] = [set() for _ in self.shards]
        self._balanced = -1
        self._parent = np.array([meters.rows.get(m.parent, -1) if m.parent else -1 for m in meters.meters], np.int64)
        self._suppliers = np.unique(self._parent[self._parent >= 0])

    def _make_shards(self, start_s: int) -> list[Shard]:
        keys = sorted({(meter.tz, meter.interval_s) for meter in self.meters.meters})
        shards = []
        for tz, interval in keys:
            rows = np.array(
                [i for i, m in enumerate(self.meters.meters) if (m.tz, m.interval_s) == (tz, interval)], np.int64
            )
            long = interval >= DAY_S
            shards.append(
                Shard(
                    self.meters.part(rows),
                    rows,
                    self.thresholds,
                    origin_s=local_midnight_s(start_s - self.shape.lead_days * DAY_S, tz),
                    tz=tz,
                    grid_days=self.shape.grid_days * (4 if long else 1),
                    feature_days=self.shape.feature_days,
                    dtype=self.shape.dtype,
                    temperature=self.weather,
                )
            )
        return shards

    # --- rows in ---------------------------------------------------------------------------------------------------

    def push(
        self,
        meter: NDArray[np.int32],
        ts: NDArray[np.int64],
        received: NDArray[np.int64],
        micro: NDArray[np.int64],
        flags: NDArray[np.uint8],
    ) -> None:
        """Take rows that have arrived. meter: rows of the table. ts, received: [s since 1970]. micro: [10⁻⁶ unit]."""
        wrong = (ts > received + AHEAD_S) | (ts < received - BEHIND_S)
        if wrong.any():
            meter, ts, micro, flags = self._without_bad_clocks(wrong, meter, ts, received, micro, flags)
        else:
            self._bad_run[meter] = 0
        self.quick.note(meter, ts, micro)
        home = self.register.home[meter]
        for number, shard in enumerate(self.shards):
            part = np.flatnonzero(home == number)
            if part.size:
                shard.grid.put(self.register.place[meter[part]], ts[part], micro[part], flags[part])

    def _without_bad_clocks(
        self, wrong: NDArray[np.bool_], meter: Any, ts: Any, received: Any, micro: Any, flags: Any
    ) -> tuple[Any, Any, Any, Any]:
        """Rows whose time can be used; a clock that stays wrong is replaced by the time of arrival."""
        ts, keep = ts.copy(), ~wrong
        self._bad_run[meter[keep]] = 0
        for i in np.flatnonzero(wrong).tolist():
            row = int(meter[i])
            self._bad_run[row] += 1
            self.bad_clocks += 1
            self._clock_marks.append((row, int(received[i])))
            if self._bad_run[row] > BAD_CLOCK_RUN:
                ts[i], keep[i] = received[i], True
        return meter[keep], ts[keep], micro[keep], flags[keep]

    # --- restart ---------------------------------------------------------------------------------------------------

    def resume(
        self,
        meter: NDArray[np.int32],
        ts: NDArray[np.int64],
        received: NDArray[np.int64],
        micro: NDArray[np.int64],
        flags: NDArray[np.uint8],
        *,
        findings: list[Finding],
        now_s: int,
    ) -> None:
        """Rebuild the state of an engine that had ticked at `now_s`, from the stored rows that had arrived by then.

        Only for a fresh engine with the same `start_s`. findings: all of the earlier run. The matrix does not depend
        on the order of arrival, so the rows are taken by event time, a day at a time; no rule is asked.
        """
        order = np.lexsort((received, np.clip(ts, received - BEHIND_S, None)))
        times = np.clip(ts, received - BEHIND_S, received + AHEAD_S)[order]
        start = 0
        first = self.start_s - self.shape.lead_days * DAY_S
        for end_s in range(first, now_s + 2 * DAY_S, DAY_S):
            end = int(np.searchsorted(times, end_s, side="right"))
            part = order[start:end]
            self.absorb(meter[part], ts[part], received[part], micro[part], flags[part], upto_s=end_s, now_s=now_s)
            start = end
        self.resumed(findings, now_s)

    def absorb(
        self,
        meter: NDArray[np.int32],
        ts: NDArray[np.int64],
        received: NDArray[np.int64],
        micro: NDArray[np.int64],
        flags: NDArray[np.uint8],
        *,
        upto_s: int,
        now_s: int,
    ) -> None:
        """One part of `resume`: rows up to event time `upto_s`, after all that are older."""
        self.quick.since_s = now_s - 2 * DAY_S
        if meter.size:
            self.push(meter, ts, received, micro, flags)
        for shard in self.shards:
            rebuild(shard, shard.frontier_at(min(now_s, upto_s)))

    def resumed(self, findings: list[Finding], now_s: int) -> None:
        """End of `resume`: take the findings over."""
        for number, shard in enumerate(self.shards):
            rebuild(shard, shard.frontier_at(now_s))
            self._fell[number] = live.fallen(shard)
        self._clock_marks.clear()
        self.book.load(findings)
        self.quick.take_up()

    def set_thresholds(self, thresholds: Thresholds) -> None:
        """Judge by other thresholds from the next tick on; what is open stays open until they let it go."""
        self.thresholds = self.silence.thresholds = thresholds
        self.book.version_at = thresholds.version_at
        for shard in self.shards:
            shard.set_thresholds(thresholds)

    # --- time ------------------------------------------------------------------------------------------------------

    def judge_now(self, meter: NDArray[np.int32], now_s: int) -> None:
        """Ask the quick rules about meters whose rows have just been pushed; `book.changed` tells what came of it."""
        self.quick.judge(np.unique(meter).astype(np.int64), now_s)

    def tick(self, now_s: int) -> list[Finding]:
        """Judge everything up to `now_s` minus the tolerance. Return findings that changed."""
        self.book.changed = []
        for row, at in self._clock_marks:
            self._event(RULES["clock"], row, at, now_s, slot=at, evidence={})
        self._clock_marks.clear()
        for number, shard in enumerate(self.shards):
            self._advance(number, shard, now_s)
        self.silence.judge(now_s)
        if self._suppliers.size:
            self._balance(now_s)
        return self.book.changed

    def _advance(self, number: int, shard: Shard, now_s: int) -> None:
        shard.make_room()
        before = shard.grid.frontier
        late, since = shard.grid.advance(shard.frontier_at(now_s))
        self._events(number, shard, now_s)
        refold(shard)
        if late.size:
            self._late(shard, late, since, now_s)
        self.quick.confirm(shard, now_s)
        frontier = shard.grid.frontier
        if frontier > before:
            self._hourly(number, shard, frontier, now_s)
        for day in range(max(shard.day, -1) + 1, shard.complete_day() + 1):
            shard.make_room()
            shard.day = day
            shard.fold(day)
            self._daily(shard, day, ALL, now_s)

    # --- events: what one step says --------------------------------------------------------------------------------

    def _events(self, number: int, shard: Shard, now_s: int) -> None:
        grid = shard.grid
        for rows, slots, codes in grid.marks:
            for row, slot, code in zip(rows.tolist(), slots.tolist(), codes.tolist(), strict=True):
                if slot < grid.first or grid.code[slot - grid.first, row] != code:
                    continue
                if code == Step.REVERSE:
                    self._fell[number].add(row)
                rule = EVENT_RULES.get(Step(code))
                if rule is not None:
                    proof = {"index": grid.raw[slot - grid.first, row].item() / 1e6, "step": Step(code).name.lower()}
                    at = int(grid.time_of(slot)) + int(grid.offset[slot - grid.first, row])
                    self._event(RULES[rule], int(shard.rows[row]), at, now_s, slot=slot, evidence=proof)
        grid.marks.clear()

    def _event(self, info: RuleInfo, row: int, at_s: int, now_s: int, *, slot: int, evidence: dict[str, Any]) -> None:
        name = self.meters.meters[row].meter_id
        self.book.raise_(info, row, name, started_s=at_s, at_s=at_s, now_s=now_s, evidence=evidence, slot=slot)

    # --- late readings ---------------------------------------------------------------------------------------------

    def _late(self, shard: Shard, rows: Rows, since: Rows, now_s: int) -> None:
        """Fold the days of late meters again, withdraw what they disprove, judge the last day anew."""
        self._withdraw_events(shard, rows, since, now_s)
        self.silence.withdraw(shard, rows, now_s)
        first = np.maximum((since - 1) // shard.per_day, shard.first_day)
        for day in range(int(first.min()), shard.day + 1):
            part = rows[first <= day]
            if part.size:
                shard.fold(day, part)
        touched = rows[first <= shard.day]
        if not touched.size:
            return
        self._withdraw_daily(shard, touched, now_s)
        if shard.day >= 0:
            self._daily(shard, shard.day, touched, now_s)

    def _withdraw_events(self, shard: Shard, rows: Rows, since: Rows, now_s: int) -> None:
        fleet = dict(zip(shard.rows[rows].tolist(), zip(rows.tolist(), since.tolist(), strict=True), strict=True))
        for rule, codes in CODES_OF.items():
            for finding in self.book.events_of(RULES[rule].kind, fleet):
                row, slot = fleet[finding.row]
                at = finding.slot - shard.grid.first
                passed = max(slot, shard.grid.first) <= finding.slot <= shard.grid.frontier
                if passed and shard.grid.code[at, row] not in codes:
                    self.book.withdraw(finding, now_s)

    def _withdraw_daily(self, shard: Shard, rows: Rows, now_s: int) -> None:
        """Findings of daily rules that hold on no day since they were raised never were."""
        fleet = dict(zip(shard.rows[rows].tolist(), rows.tolist(), strict=True))
        doubts = [f for f in self.book.open_among(fleet) if f.rule in DAILY_RULES]
        if shard.hourly:  # there a burst is a matter of hours
            for finding in [f for f in doubts if f.rule == "burst" and not self.quick.stands(shard, f)]:
                self.book.withdraw(finding, now_s)
            doubts = [f for f in doubts if f.rule != "burst"]
        for day in sorted({self._day_of(shard, f) for f in doubts}):
            group = [f for f in doubts if self._day_of(shard, f) == day]
            self._recheck(shard, group, day, [fleet[f.row] for f in group], now_s)

    def _recheck(self, shard: Shard, group: list[Finding], day: int, rows: list[int], now_s: int) -> None:
        held = np.zeros(len(group), bool)
        numbers = np.array(rows, np.int64)
        for later in range(day, shard.day + 1):
            verdicts = judge.daily_verdicts(View(shard, later, numbers), self._excluded(shard, later, numbers))
            for i, finding in enumerate(group):
                held[i] |= finding.rule in verdicts and bool(verdicts[finding.rule].on[i])
            if held.all():
                return
        for i, finding in enumerate(group):
            if not held[i]:
                self.book.withdraw(finding, now_s)

    def _day_of(self, shard: Shard, finding: Finding) -> int:
        day = (finding.at_s - shard.grid.shape.origin_s) // DAY_S - 1
        return int(np.clip(day, shard.first_day, shard.day))

    # --- rules -----------------------------------------------------------------------------------------------------

    def _daily(self, shard: Shard, day: int, rows: Any, now_s: int) -> None:
        numbers = np.arange(shard.rows.size) if isinstance(rows, slice) else rows
        verdicts = judge.daily_verdicts(View(shard, day, rows), self._excluded(shard, day, rows))
        at = shard.day_start_s(day + 1)
        for rule in DAILY_RULES:
            if rule in verdicts:
                self.register.apply(shard, rule, numbers, verdicts[rule], at, now_s)

    def _excluded(self, shard: Shard, day: int, rows: Any) -> NDArray[np.bool_]:
        bits = shard.flags(day * shard.per_day + 1, (day + 1) * shard.per_day + 1, rows)
        closed = (bits & Flag.VALVE_CLOSED).any(axis=0)
        return np.asarray(closed | ~shard.table.commissioned[rows])

    def _hourly(self, number: int, shard: Shard, slot: int, now_s: int) -> None:
        at = int(shard.grid.time_of(slot))
        if shard.hourly:
            hour = slot // shard.per_hour * shard.per_hour
            everyone = np.arange(shard.rows.size)
            self.register.apply(shard, "burst", everyone, live.burst_verdict(shard, hour), at, now_s)
        fell = np.array(sorted(self._fell[number] | self.register.open_rows(shard, "reverse_flow")), np.int64)
        if fell.size:
            verdict = live.reverse_verdict(shard, slot, fell)
            self.register.apply(shard, "reverse_flow", fell, verdict, at, now_s)
            self._fell[number] -= set(fell[~verdict.hold].tolist())
        bits = shard.grid.flags[slot - shard.grid.first]
        barred = ~shard.table.commissioned | ((bits & Flag.VALVE_CLOSED) > 0)
        self._some(shard, "unauthorised", barred, slot, now_s, live.unauthorised_verdict)
        marked = np.flatnonzero(bits & (Flag.MAGNET | Flag.COVER | Flag.LOW_BATTERY | Flag.VALVE_CLOSED))
        others = set[int]().union(
            *(self.register.open_rows(shard, rule) for rule in ("tamper_flags", "low_battery", "valve"))
        )
        rows = np.array(sorted(set(marked.tolist()) | others), np.int64)
        if rows.size:
            for rule, verdict in live.flag_verdicts(shard, slot, rows).items():
                self.register.apply(shard, rule, rows, verdict, at, now_s)

    def _some(
        self,
        shard: Shard,
        rule: str,
        mask: NDArray[np.bool_],
        slot: int,
        now_s: int,
        judge_rows: Callable[[Shard, int, Rows], Verdict],
    ) -> None:
        rows = np.array(sorted(set(np.flatnonzero(mask).tolist()) | self.register.open_rows(shard, rule)), np.int64)
        if rows.size:
            verdict = judge_rows(shard, slot, rows)
            self.register.apply(shard, rule, rows, verdict, int(shard.grid.time_of(slot)), now_s)

    # --- supply balance --------------------------------------------------------------------------------------------

    def _balance(self, now_s: int) -> None:
        """Hold each supplying meter against the meters behind it, once every shard has the day."""
        day = min(shard.day for shard in self.shards)
        if day <= self._balanced:
            return
        self._balanced = day
        total = np.full(len(self.meters), np.nan)
        for shard in self.shards:
            total[shard.rows] = shard.history("total", day, 1)[0]
        sums, known = states.group_sums(total, self._parent, len(self.meters))
        rows = self._suppliers
        limit = self.thresholds.number("supply_balance.max_loss")
        verdict = states.supply_balance(total[rows], sums[rows], known[rows], max_loss=limit)
        for number, shard in enumerate(self.shards):
            own = np.flatnonzero(self.register.home[rows] == number)
            if own.size:
                self.register.apply(
                    shard,
                    "supply_balance",
                    self.register.place[rows[own]],
                    verdict.take(own),
                    shard.day_start_s(day + 1),
                    now_s,
                )


DAILY_RULES: Final = (
    "stuck",
    "zero_use",
    "long_zero",
    "leak_continuous",
    "leak_floor",
    "burst",
    "leak_daily",
    "micro_leak",
    "leak_intermittent",
    "tamper_drop",
    "high_use",
    "month_over_limit",
    "month_over_first",
    "drift",
    "over_range",
)
"""In the order in which they are asked: an earlier one explains a later one."""
