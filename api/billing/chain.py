"""The indexes of one installation, walked by `metering.steps`: what passed up to each of them, and where it breaks.

A chain is cut into segments at every step after which the consumption is not known (an index change without a
recorded exchange, a reset, another unit, more than the meter can pass). Inside a segment the difference of two marks'
`passed` is what the meter counted between them, to the last digit. Pure.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final, NamedTuple

import numpy as np

from metering.steps import (
    PLAIN,
    Ints,
    Step,
    StepLimits,
    classify,
    classify_many,
    is_plain,
    limit_arrays,
    limits_of,
    sure,
)

HOUSEHOLD: Final = ("residential", "residential_heating")
_QMAX: Final = {"gas": 6_000_000, "water": 5_000_000, "electricity": 15_000_000, "heat": 15_000_000}
_LARGE: Final = 100
"""How much more than a household's a meter of unknown size may pass at other customers."""
CAUSES: Final = {
    Step.RESET: "reset",
    Step.EXCHANGE: "index_change",
    Step.UNIT_CHANGE: "unit_change",
    Step.OVER_RANGE: "over_range",
    Step.CONFLICT: "conflict",
    Step.TRANSIENT: "conflict",
    Step.PENDING: "unconfirmed_jump",
}
"""Why billing stops, by the step that stopped it."""
STOPS: Final = frozenset({*CAUSES.values(), "index_exceeds_digits", "final_index_contradicts"})


class Sample(NamedTuple):
    """One index as billing takes it. index: [micro]. source "installation": a start or final index of the books.

    edited: a correction stands in for what was read.
    """

    at: int
    index: int  # type: ignore[assignment]  # the meter's word; nobody asks a sample for tuple.index
    quality: str = "valid"
    source: str = "poll"
    edited: bool = False


class Mark(NamedTuple):
    """An index that was believed. passed, reverse: [micro] since the chain's beginning; reverse is what ran back.

    sure: False when only a following index can confirm it and there is none yet.
    """

    sample: Sample
    passed: int
    reverse: int
    rollovers: int
    segment: int
    sure: bool = True

    @property
    def at(self) -> int:
        """[ms UTC]."""
        return self.sample.at


class Stop(NamedTuple):
    """A step across which nobody knows what passed. at: [ms UTC] of the first index of the new level."""

    at: int
    cause: str
    before: int
    after: int


@dataclass(slots=True)
class Chain:
    """marks: by time. stops: stop i separates segment i from i + 1. held: [ms UTC] of jumps not settled yet.

    peaks: [ms UTC] of indexes beyond what the meter can pass that the next one confirmed.
    """

    marks: list[Mark] = field(default_factory=list)
    stops: list[Stop] = field(default_factory=list)
    held: list[int] = field(default_factory=list)
    peaks: list[int] = field(default_factory=list)

    def last_until(self, moment: int) -> Mark | None:
        """Return the last mark at or before a moment [ms UTC]."""
        place = bisect_right(self.marks, moment, key=_at)
        return self.marks[place - 1] if place else None

    def first_after(self, moment: int) -> int:
        """Return the place of the first mark behind a moment."""
        return bisect_right(self.marks, moment, key=_at)


def _at(mark: Mark) -> int:
    return mark.sample.at


@lru_cache(maxsize=10_000)
def limits_for(
    medium: str, customer_class: str, digits: int | None, resolution: int | None, qmax: int | None
) -> StepLimits:
    """What a meter can do, with a household's or a large customer's flow where the books do not say.

    Without digits a counter never rolls over: a fall to 0 then stops billing instead of being guessed.
    """
    default = _QMAX.get(medium, _QMAX["heat"]) * (1 if customer_class in HOUSEHOLD else _LARGE)
    return limits_of(digits=digits or 12, resolution=resolution or 1_000, qmax=qmax or default)


def walk(samples: Sequence[Sample], limits: StepLimits) -> Chain:
    """Walk samples in order of time (start and final index included). Times differ, except against the books."""
    if len(samples) >= 3 and (plain := _all_plain(samples, limits)) is not None:
        return plain
    return _step_by_step(samples, limits)


def _all_plain(samples: Sequence[Sample], limits: StepLimits) -> Chain | None:
    """The ordinary chain in one go: every step plain, none doubted; None when anything is odd."""
    at = np.array([sample.at for sample in samples], np.int64)
    index = np.array([sample.index for sample in samples], np.int64)
    if int(index.max()) >= limits.capacity:
        return None
    elapsed = (at[1:] - at[:-1]) // 1000
    following, following_s, has = _shifted(index[1:]), _shifted(elapsed), np.ones(elapsed.size, bool)
    has[-1] = False
    arrays = limit_arrays([limits]).take(np.zeros(elapsed.size, np.int64))
    codes, moved, _ = classify_many(
        index[:-1],
        index[1:],
        elapsed_s=elapsed,
        limits=arrays,
        following=following,
        following_s=following_s,
        has_following=has,
    )
    if not is_plain(codes).all():
        return None
    # the net of jitter is 0 over time, so that the difference of two indexes stays what the meter showed
    moved = np.where(codes == Step.JITTER, index[1:] - index[:-1], moved)
    back = np.where(codes == Step.REVERSE, -moved, 0)
    passed, reverse = np.cumsum(moved).tolist(), np.cumsum(back).tolist()
    over = np.cumsum(codes == Step.ROLLOVER).tolist()
    marks = [Mark(samples[0], 0, 0, 0, 0)]
    marks += [Mark(s, p, r, o, 0) for s, p, r, o in zip(samples[1:], passed, reverse, over, strict=True)]
    marks[-1] = marks[-1]._replace(sure=_is_sure(samples[-2], samples[-1], limits))
    return Chain(marks)


def _shifted(values: Ints) -> Ints:
    out = np.zeros_like(values)
    out[:-1] = values[1:]
    return out


def _is_sure(before: Sample, after: Sample, limits: StepLimits) -> bool:
    if after.source != "poll" and after.source != "push":
        return True  # somebody stood before the meter
    delta = after.index - before.index
    return -limits.jitter <= delta <= sure(limits, (after.at - before.at) // 1000)


def _step_by_step(samples: Sequence[Sample], limits: StepLimits) -> Chain:
    chain, last = Chain(), len(samples) - 1
    mark: Mark | None = None
    for place, sample in enumerate(samples):
        if mark is None:
            mark = Mark(sample, 0, 0, 0, 0)
            chain.marks.append(mark)
            continue
        following = samples[place + 1] if place < last else None
        step, consumption, _ = _classify(mark.sample, sample, following, limits)
        if step in PLAIN and sample.index >= limits.capacity:
            mark = _stopped(chain, mark, sample, "index_exceeds_digits")
        elif step in PLAIN or (step is Step.OVER_RANGE and consumption is not None):
            mark = _passed(chain, mark, sample, step, consumption or 0)
            if following is None:
                mark = chain.marks[-1] = mark._replace(sure=_is_sure(chain.marks[-2].sample, sample, limits))
        elif step is Step.PENDING:
            if sample.source == "installation":
                mark = _stopped(chain, mark, sample, "final_index_contradicts")
            else:
                chain.held.append(sample.at)
        elif step is Step.TRANSIENT and sample.source != "installation":
            continue
        else:
            mark = _stopped(chain, mark, sample, CAUSES[step])
    return chain


def _classify(
    before: Sample, after: Sample, following: Sample | None, limits: StepLimits
) -> tuple[Step, int | None, int]:
    result = classify(
        before.index,
        after.index,
        elapsed_s=(after.at - before.at) // 1000 or int(after.at > before.at),
        limits=limits,
        following=following.index if following else None,
        following_s=(following.at - after.at) // 1000 if following else 0,
    )
    return result.step, result.consumption, result.scale


def _passed(chain: Chain, before: Mark, sample: Sample, step: Step, consumption: int) -> Mark:
    moved = sample.index - before.sample.index if step is Step.JITTER else consumption
    back = -moved if step is Step.REVERSE else 0
    over = before.rollovers + (step is Step.ROLLOVER)
    if step is Step.OVER_RANGE:
        chain.peaks.append(sample.at)
    chain.marks.append(Mark(sample, before.passed + moved, before.reverse + back, over, before.segment))
    return chain.marks[-1]


def _stopped(chain: Chain, before: Mark, sample: Sample, cause: str) -> Mark:
    chain.stops.append(Stop(sample.at, cause, before.sample.index, sample.index))
    chain.marks.append(Mark(sample, before.passed, before.reverse, before.rollovers, before.segment + 1))
    return chain.marks[-1]
