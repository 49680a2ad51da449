"""Turns verdicts into findings: which meters of which shard they speak of, opening, holding and clearing."""

from __future__ import annotations

import numpy as np

from anomaly.findings import RULES, Book, Finding, RuleInfo
from anomaly.intervals import Rows
from anomaly.meters import MeterTable
from anomaly.shard import Shard
from anomaly.verdict import Verdict


class Register:
    """The book of findings together with the place of each meter in the shards.

    home: number of the shard that holds the meter. place: its row there.
    """

    def __init__(self, meters: MeterTable, shards: list[Shard], book: Book) -> None:
        self.meters, self.shards, self.book = meters, shards, book
        self.home = np.zeros(len(meters), np.int32)
        self.place = np.zeros(len(meters), np.int64)
        for number, shard in enumerate(shards):
            self.home[shard.rows], self.place[shard.rows] = number, np.arange(shard.rows.size)

    def open_rows(self, shard: Shard, rule: str) -> set[int]:
        number = self.shards.index(shard)
        return {int(self.place[row]) for row in self.book.by_rule[rule] if self.home[row] == number}

    def apply(
        self,
        shard: Shard,
        rule: str,
        rows: Rows,
        verdict: Verdict,
        at_s: int,
        now_s: int,
        *,
        slots: Rows | None = None,
    ) -> None:
        """Turn flags into findings: open, hold, clear with hysteresis."""
        info = RULES[rule]
        if self.book.by_rule[rule]:
            local = np.full(shard.rows.size, -1, np.int64)
            local[rows] = np.arange(rows.size)
            number = self.shards.index(shard)
            for finding in self.book.open_of(rule):
                i = local[self.place[finding.row]] if self.home[finding.row] == number else -1
                if i >= 0:
                    self._keep(finding, info, bool(verdict.hold[i]), at_s, now_s)
        for i in np.flatnonzero(verdict.on).tolist():
            row = int(shard.rows[rows[i]])
            self.book.raise_(
                info,
                row,
                self.meters.meters[row].meter_id,
                started_s=at_s - int(float(verdict.back_h[i]) * 3600),
                at_s=at_s,
                now_s=now_s,
                evidence=verdict.proof(i),
                slot=-1 if slots is None else int(slots[i]),
            )

    def _keep(self, finding: Finding, info: RuleInfo, holds: bool, at_s: int, now_s: int) -> None:
        if holds:
            finding.held_s = max(finding.held_s, at_s)
        elif at_s - finding.held_s >= info.clear_h * 3600:
            self.book.clear(finding, now_s)
