"""Boundary indexes: the last at or before a moment within a tolerance, else missing; never interpolated.

A manual reading some days after the boundary may close a period and open the next: the same choice is made at both
sides of a boundary, so that nothing is billed twice or not at all. Where a utility switches estimation on, an index
between two known ones is drawn by a straight line and marked. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from api.billing.chain import Chain, Mark, Sample
from api.billing.rules import LINEAR, Rules
from metering.clock import rfc3339

BY_HAND: Final = ("manual", "import")
NO_READING: Final = "no_reading"


@dataclass(frozen=True, slots=True)
class Boundary:
    """The index that stands for a moment, or why there is none: cause, and what to say of it."""

    mark: Mark | None
    cause: str = ""
    detail: str = ""


def choose(chain: Chain, moment: int, rules: Rules, *, window_end: int = 0) -> Boundary:
    """Return the index of a boundary [ms UTC]. window_end: [ms UTC] end of the reading days, when it has several."""
    before = chain.last_until(moment)
    since = before.at if before else 0
    if held := [at for at in chain.held if since < at <= moment]:
        return Boundary(
            None, "unconfirmed_jump", f"an index at {rfc3339(held[0])} does not follow from the one before"
        )
    if before is not None and moment - before.at <= rules.tolerance_ms:
        return Boundary(before)
    latest = max(moment + rules.manual_ms, window_end)
    for mark in chain.marks[chain.first_after(moment) :]:
        if mark.at > latest:
            break
        if mark.sample.source in BY_HAND:
            return Boundary(mark)
    if rules.estimation == LINEAR and (drawn := _drawn(chain, moment)) is not None:
        return Boundary(drawn)
    return Boundary(None, NO_READING)


def _drawn(chain: Chain, moment: int) -> Mark | None:
    """Return the index on the straight line between two known ones, rounded down to 10⁻⁶; None across a stop."""
    before, place = chain.last_until(moment), chain.first_after(moment)
    if before is None or place >= len(chain.marks) or chain.marks[place].segment != before.segment:
        return None
    after = chain.marks[place]
    moved = (after.passed - before.passed) * (moment - before.at) // (after.at - before.at)
    sample = Sample(moment, before.sample.index + moved, "estimated", "estimate")
    return Mark(sample, before.passed + moved, before.reverse, before.rollovers, before.segment)
