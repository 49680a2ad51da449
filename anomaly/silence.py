"""Silence: communication loss of a meter, outage of a district, and losses that late data disprove."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from anomaly.days import DAY_S
from anomaly.findings import RULES
from anomaly.intervals import MISSING, Rows
from anomaly.register import Register
from anomaly.rules import comms_loss
from anomaly.shard import Shard
from anomaly.thresholds import Thresholds

AHEAD_S: Final = 2 * DAY_S
"""[s] readings lie at most so far ahead of what is judged: the tolerance for late data, and some."""


def _limit(shard: Shard) -> NDArray[Any]:
    """[h] silence that is a loss, per meter of the shard."""
    name = "comms_loss.min_hours" + ("_daily" if shard.slot_s >= DAY_S else "")
    return np.asarray(shard.values(name, shard.date_of(max(shard.day, 0))))


class Silence:
    """Watches that every meter is heard; one that was never read, or whose observation ended, is not missed.

    until_s: [s since 1970] end of observation, per meter.
    """

    def __init__(self, register: Register, thresholds: Thresholds) -> None:
        self.register, self.thresholds = register, thresholds
        self.meters, self.shards, self.book = register.meters, register.shards, register.book
        self.until_s = np.array([meter.until_s or 2**62 for meter in self.meters.meters], np.int64)

    def judge(self, now_s: int) -> None:
        """Communication loss, and parents that are quiet as a whole."""
        silent = np.full(len(self.meters), np.nan)
        watched = np.zeros(len(self.meters), bool)
        for shard in self.shards:
            front = shard.grid.frontier
            silent[shard.rows] = (front - shard.grid.seen) * shard.slot_s / 3600.0
            watched[shard.rows] = (shard.grid.seen >= 0) & (shard.grid.time_of(front) < self.until_s[shard.rows])
        silent = np.where(watched, silent, 0.0)
        down = self._outages(silent, watched, now_s)
        for shard in self.shards:
            verdict = comms_loss.comms_loss(silent[shard.rows], min_hours=_limit(shard))
            verdict.on &= ~down[shard.rows]
            at = int(shard.grid.time_of(shard.grid.frontier))
            self.register.apply(
                shard, "comms_loss", np.arange(shard.rows.size), verdict, at, now_s, slots=shard.grid.seen
            )

    def coming(self) -> NDArray[np.bool_]:
        """True for meters that are read again after a silence in which a timer still to come finds a loss."""
        found = np.zeros(len(self.meters), bool)
        for shard in self.shards:
            grid = shard.grid
            first = grid.frontier + 1 - grid.first
            heard = grid.raw[first : first + AHEAD_S // shard.slot_s + 1] != MISSING
            if heard.any():
                silent = (grid.frontier + np.argmax(heard, axis=0) - grid.seen) * shard.slot_s / 3600.0
                again = heard.any(axis=0) & (grid.seen >= 0)
                found[shard.rows] = again & comms_loss.comms_loss(silent, min_hours=_limit(shard)).on
        return found

    def _outages(self, silent: NDArray[Any], watched: NDArray[np.bool_], now_s: int) -> NDArray[np.bool_]:
        """True for meters of a district that is quiet as a whole; the district gets the finding."""
        down = np.zeros(len(self.meters), bool)
        inside = np.flatnonzero(watched & (self.meters.interval_s <= 3600))
        if len(self.meters.districts) < 2 or not inside.size:
            return down
        number, group = self.thresholds.number, self.meters.district[inside]
        down[inside] = comms_loss.outage(
            silent[inside],
            group,
            min_hours=number("outage.min_hours"),
            min_share=number("outage.min_share"),
            fewest_meters=int(number("outage.fewest_meters")),
        )
        self._name_outages(down, silent, now_s)
        return down

    def _name_outages(self, down: NDArray[np.bool_], silent: NDArray[Any], now_s: int) -> None:
        """Open and clear the findings of districts; their row is -1 for the first district, -2 for the second, …"""
        quiet = set(np.unique(self.meters.district[down]).tolist())
        for finding in self.book.open_of("outage"):
            if -1 - finding.row not in quiet:
                self.book.clear(finding, now_s)
        for district in quiet:
            members = down & (self.meters.district == district)
            hours = float(silent[members].max())
            self.book.raise_(
                RULES["outage"],
                -1 - district,
                self.meters.districts[district],
                started_s=now_s - int(hours * 3600),
                at_s=now_s,
                now_s=now_s,
                evidence={"meters": int(np.count_nonzero(members)), "silent_h": hours},
            )

    def withdraw(self, shard: Shard, rows: Rows, now_s: int) -> None:
        """A loss whose gap late data have filled never was one."""
        grid, fleet = shard.grid, dict(zip(shard.rows[rows].tolist(), rows.tolist(), strict=True))
        for finding in self.book.open_among(fleet):
            last = (finding.at_s - grid.shape.origin_s) // shard.slot_s
            if finding.kind != "comms_loss" or finding.slot < grid.first or last <= finding.slot:
                continue
            row = fleet[finding.row]
            cells = grid.raw[finding.slot - grid.first : last + 1 - grid.first, row]
            gaps = np.diff(np.concatenate([np.flatnonzero(cells != MISSING), [last - finding.slot]]))
            if gaps.max(initial=0) < 0.75 * (last - finding.slot):
                self.book.withdraw(finding, now_s)
