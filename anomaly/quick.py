"""The rules that need few readings, asked as soon as a reading is there, without the tolerance for late data.

A tick judges event time hours behind the clock, so that late readings give the same findings in any order. A burst
cannot wait for that. So the meters that were touched are run ahead on a copy of their newest slots: burst, reverse
flow, unauthorised use, bad value, change of unit. What such a look has found is held against the matrix when the
ticks come to the same hour: with every reading that arrived until then it stands, or it is withdrawn.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from anomaly import live
from anomaly.events import CODES_OF, EVENT_RULES
from anomaly.findings import RULES, Finding
from anomaly.intervals import MISSING, Grid, Rows
from anomaly.register import Register
from anomaly.shard import ALL, Floats, Shard
from anomaly.verdict import Verdict
from metering.reading import Flag
from metering.steps import Step

EVENTS: Final = frozenset({"spike", "unit_error"})
"""Events that do not wait; rollovers and exchanges do."""
AHEAD_SLOTS: Final = 2
"""A meter that is read more often than its slot shows its two newest readings as slots of their own."""


class Peek(Shard):
    """A shard as it will be when what has arrived is believed: some meters, up to their newest slots."""

    def __init__(self, shard: Shard, grid: Grid, columns: Rows) -> None:
        """grid: copy of these meters, run ahead. columns: of it, one for each row that is asked for later."""
        self.__dict__.update(shard.__dict__)
        self.grid, self._columns = grid, columns

    def cells(self, first: int, last: int, rows: Any = ALL) -> tuple[Floats, NDArray[np.uint8]]:
        """Of the columns, whatever `rows` says: their numbers are those of the whole shard."""
        return super().cells(first, last, self._columns)

    def flags(self, first: int, last: int, rows: Any = ALL) -> NDArray[np.uint8]:
        """The same for status bits."""
        return super().flags(first, last, self._columns)


class Quick:
    """Looks ahead. `unsure` are the findings that no tick has come to yet."""

    def __init__(self, register: Register, *, enabled: bool) -> None:
        self.register, self.enabled = register, enabled
        self.meters, self.shards, self.book = register.meters, register.shards, register.book
        self.unsure: list[Finding] = []
        self.since_s = -(2**62)
        """[s since 1970] older readings are not noted (a restart reads months)."""
        meters = len(self.meters) if enabled else 0
        self._times = np.full((2, meters), -1, np.int64)
        self._micro = np.zeros((2, meters), np.int64)

    # --- the two newest readings -----------------------------------------------------------------------------------

    def note(self, meter: NDArray[np.int32], ts: Rows, micro: Rows) -> None:
        """Keep the two newest readings of each meter, in whatever order they come."""
        if not self.enabled or not ts.size or ts.max() < self.since_s:
            return
        order = np.lexsort((ts, meter))
        names, ts, micro = meter[order], ts[order], micro[order]
        last = np.flatnonzero(np.append(names[1:] != names[:-1], True))
        before = np.maximum(last - 1, 0)
        two = (last > 0) & (names[before] == names[last])
        rows = names[last]
        times = np.stack([*self._times[:, rows], ts[last], np.where(two, ts[before], -1)])
        values = np.stack([*self._micro[:, rows], micro[last], np.where(two, micro[before], 0)])
        rank = np.argsort(-times, axis=0, kind="stable")
        times, values = np.take_along_axis(times, rank, 0), np.take_along_axis(values, rank, 0)
        second = np.argmax(times < times[0], axis=0)  # 0 when all are the same
        at = np.arange(rows.size)
        self._times[:, rows] = times[0], np.where(second > 0, times[second, at], -1)
        self._micro[:, rows] = values[0], values[second, at]

    # --- a look ahead ----------------------------------------------------------------------------------------------

    def judge(self, meter: Rows, now_s: int) -> None:
        """Ask the quick rules about these meters (numbers of the fleet, each once) with what has arrived by now."""
        home = self.register.home[meter]
        for number, shard in enumerate(self.shards):
            rows = self.register.place[meter[home == number]]
            if rows.size and shard.grid.frontier >= shard.grid.first:
                self._look(number, shard, rows, now_s)

    def _look(self, number: int, shard: Shard, rows: Rows, now_s: int) -> None:
        grid = shard.grid
        base = grid.frontier + 1 - grid.first
        tail = grid.raw[base:][:, rows] != MISSING
        some = tail.any(axis=0)
        if not some.any():
            return
        rows, tail = rows[some], tail[:, some]
        newest = grid.frontier + tail.shape[0] - np.argmax(tail[::-1], axis=0)
        reach = (live.REVERSE_HOURS * 3600) // shard.slot_s + live.REVERSE_DAYS + 1
        first = max(grid.first, grid.frontier - reach)
        copy = grid.excerpt(rows, first, int(newest.max()) - first + 1 + AHEAD_SLOTS)
        ends = self._show_newest(shard, copy, rows, newest)
        copy.advance(int(ends.max()))
        self._tell_events(shard, copy, rows, newest, now_s)
        for slot in np.unique(newest).tolist():
            columns = np.flatnonzero(newest == slot)
            self._tell_states(shard, Peek(shard, copy, columns), rows[columns], slot, now_s)
        self._tell_falls(number, shard, copy, rows, ends, newest, now_s)

    def _show_newest(self, shard: Shard, copy: Grid, rows: Rows, newest: Rows) -> Rows:
        """Give readings that share a slot with an earlier one a slot of their own; return the last slot of each."""
        fleet, ends = shard.rows[rows], newest.copy()
        known = copy.time_of(newest) + copy.offset[newest - copy.first, np.arange(rows.size)]
        for back in (1, 0):
            extra = np.flatnonzero(self._times[back, fleet] > known)
            ends[extra] += 1
            at, who = ends[extra] - copy.first, fleet[extra]
            copy.raw[at, extra] = self._micro[back, who]
            copy.offset[at, extra] = self._times[back, who] - copy.time_of(ends[extra])
        return ends

    # --- what it tells ---------------------------------------------------------------------------------------------

    def _tell_events(self, shard: Shard, copy: Grid, rows: Rows, newest: Rows, now_s: int) -> None:
        for columns, slots, codes in copy.marks:
            for column, slot, code in zip(columns.tolist(), slots.tolist(), codes.tolist(), strict=True):
                rule = EVENT_RULES.get(Step(code))
                ahead = shard.grid.frontier < slot <= newest[column]
                if rule not in EVENTS or not ahead or copy.code[slot - copy.first, column] != code:
                    continue
                at, row = int(copy.offset[slot - copy.first, column]), int(shard.rows[rows[column]])
                if self.book.recent(rule, row, int(copy.time_of(slot)) + at):
                    continue  # a repeat is counted once, by the tick
                index = copy.raw[slot - copy.first, column].item() / 1e6
                proof = {"index": index, "step": Step(code).name.lower()}
                started = int(copy.time_of(slot)) + at
                self._raise(rule, row, started, started, now_s, slot, proof)

    def _tell_states(self, shard: Shard, peek: Peek, rows: Rows, slot: int, now_s: int) -> None:
        if shard.hourly and slot % shard.per_hour == 0:
            verdict = live.burst_verdict(peek, slot, rows, before=live.day_before_burst(shard, slot))
            self._tell(shard, "burst", rows, verdict, slot, now_s)
        bits = peek.flags(slot, slot + 1)[0]
        barred = np.flatnonzero(~shard.table.commissioned[rows] | ((bits & Flag.VALVE_CLOSED) > 0))
        if barred.size:
            part = Peek(shard, peek.grid, peek._columns[barred])
            verdict = live.unauthorised_verdict(part, slot, rows[barred])
            self._tell(shard, "unauthorised", rows[barred], verdict, slot, now_s)

    def _tell_falls(
        self, number: int, shard: Shard, copy: Grid, rows: Rows, ends: Rows, newest: Rows, now_s: int
    ) -> None:
        fell = (copy.code == Step.REVERSE).any(axis=0)
        for slot in np.unique(ends[fell]).tolist():
            columns = np.flatnonzero(fell & (ends == slot))
            verdict = live.reverse_verdict(Peek(shard, copy, columns), slot, rows[columns])
            for own in (True, False):  # a slot that only the look ahead has is not there for a tick to come to
                part = np.flatnonzero((newest[columns] == slot) == own)
                self._tell(
                    shard,
                    "reverse_flow",
                    rows[columns[part]],
                    verdict.take(part),
                    slot,
                    now_s,
                    times=None if own else self._times[0, shard.rows[rows[columns[part]]]],
                )

    def _tell(
        self,
        shard: Shard,
        rule: str,
        rows: Rows,
        verdict: Verdict,
        slot: int,
        now_s: int,
        *,
        times: Rows | None = None,
    ) -> None:
        for i in np.flatnonzero(verdict.on).tolist():
            at = int(shard.grid.time_of(slot)) if times is None else int(times[i])
            started = at - int(float(verdict.back_h[i]) * 3600)
            known = slot if times is None else -1
            self._raise(rule, int(shard.rows[rows[i]]), started, at, now_s, known, verdict.proof(i))

    def _raise(
        self, rule: str, row: int, started_s: int, at_s: int, now_s: int, slot: int, evidence: dict[str, Any]
    ) -> None:
        before = len(self.book.findings)
        name = self.meters.meters[row].meter_id
        finding = self.book.raise_(
            RULES[rule], row, name, started_s=started_s, at_s=at_s, now_s=now_s, evidence=evidence, slot=slot
        )
        if finding is not None and len(self.book.findings) > before and slot >= 0:
            self.unsure.append(finding)

    # --- when the tick comes ---------------------------------------------------------------------------------------

    def take_up(self) -> None:
        """After a restart: which of the findings in the book has no tick come to yet?"""
        rules = EVENTS | {"burst", "reverse_flow", "unauthorised"}
        self.unsure = [
            f
            for f in self.book.findings
            if f.rule in rules and f.row >= 0 and f.withdrawn_s is None and f.slot > self._shard_of(f).grid.frontier
        ]

    def _shard_of(self, finding: Finding) -> Shard:
        return self.shards[int(self.register.home[finding.row])]

    def confirm(self, shard: Shard, now_s: int) -> None:
        """Hold findings against the matrix that has come to their hour; withdraw those that late data disproved."""
        left = []
        for finding in self.unsure:
            if self._shard_of(finding) is not shard or self._undecided(shard, finding):
                left.append(finding)
            elif finding.withdrawn_s is None and not self.stands(shard, finding):
                self.book.withdraw(finding, now_s)
        self.unsure = left

    def _undecided(self, shard: Shard, finding: Finding) -> bool:
        """True while the ticks have not come there, or the next reading has yet to say what the step was."""
        at, row = finding.slot - shard.grid.first, int(self.register.place[finding.row])
        if finding.slot > shard.grid.frontier:
            return True
        return finding.rule in EVENTS and at >= 0 and int(shard.grid.code[at, row]) == Step.PENDING

    def stands(self, shard: Shard, finding: Finding) -> bool:
        """True while the matrix supports a finding of a quick rule at the slot at which it was raised."""
        slot = finding.slot if finding.slot >= 0 else int((finding.at_s - shard.grid.shape.origin_s) // shard.slot_s)
        if not shard.grid.first <= slot <= shard.grid.frontier:
            return True  # nobody can tell any more, or not yet
        rows = np.array([self.register.place[finding.row]], np.int64)
        if finding.rule in CODES_OF:
            return int(shard.grid.code[slot - shard.grid.first, rows[0]]) in CODES_OF[finding.rule]
        if finding.rule == "burst":
            verdict = live.burst_verdict(shard, slot, rows, before=live.day_before_burst(shard, slot))
        elif finding.rule == "reverse_flow":
            verdict = live.reverse_verdict(shard, slot, rows)
        else:
            verdict = live.unauthorised_verdict(shard, slot, rows)
        return bool(verdict.on[0])
