"""The one module that classifies the step between two indexes of a meter.

Ingest, the interval matrix and billing ask here whether an index went forward, rolled over, ran backwards or jumped;
nobody else decides that. All indexes are exact integers in 10⁻⁶ of the house unit ("micro"). Two forms with one
meaning: `classify` for one step, `classify_many` for numpy int64 arrays; a test compares them value for value.

    before ──elapsed_s──► after ──following_s──► following (optional: the next index, which confirms a jump)

A step that flow cannot explain is never booked at once: without the following index it is PENDING ("hold until
confirmed"); with it, it is a TRANSIENT (the next index goes back to the old level: one bad value) or a change of
level, which is then named RESET, EXCHANGE, UNIT_CHANGE or OVER_RANGE. A large step that flow could explain is
believed unless the next index takes it back.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Codes = NDArray[np.int8]

SCALES: Final = (1, -1, 2, -2, 3, -3)
"""Powers of ten that a wrong unit or multiplier makes: x10, x100, x1000 and their inverses."""


YEAR_S: Final = 31_536_000
"""Longer gaps count as a year: keeps flow times time inside int64."""


class Step(IntEnum):
    """What happened between two indexes. The number is stored (int8); never renumber."""

    NONE = 0
    """There was no index before, so nothing can be said."""
    FORWARD = 1
    """Consumption that the meter can pass."""
    ROLLOVER = 2
    """The counter ran over its last digit; consumption is known."""
    REVERSE = 3
    """The index fell by an amount that flow can explain: the meter ran backwards."""
    JITTER = 4
    """A fall of a count or two of the last digit: rounding in the meter; consumption is 0."""
    TRANSIENT = 5
    """`after` is one bad value (0, all nines, a wrong digit); the next index fits `before` again."""
    RESET = 6
    """The counter started again at (almost) 0 and stayed there."""
    EXCHANGE = 7
    """Another counter: an unexplained level that the next index confirms (unrecorded meter exchange)."""
    UNIT_CHANGE = 8
    """The level is the old one times 10ⁿ: unit or multiplier was changed."""
    OVER_RANGE = 9
    """More than the meter can pass, and the next index goes on from there. The consumption is given only when the
    next index is within what could pass since `before` (a short peak)."""
    CONFLICT = 10
    """No time passed and the indexes differ."""
    PENDING = 11
    """Flow cannot explain it and nothing follows yet: hold until confirmed."""


PLAIN: Final = frozenset({Step.FORWARD, Step.ROLLOVER, Step.REVERSE, Step.JITTER})
"""Steps that need no confirmation: flow explains them."""
LEVEL_CHANGES: Final = frozenset({Step.RESET, Step.EXCHANGE, Step.UNIT_CHANGE, Step.OVER_RANGE})
"""Steps after which `after` is a new level; the consumption across them is not known."""


@dataclass(frozen=True, slots=True)
class StepLimits:
    """What a meter can do. Build with `limits_of`.

    capacity: [micro] the index at which the counter is 0 again (10^digits). resolution: [micro] one count of the
    last digit sent. max_flow: [micro/h] what counts as possible flow (Qmax times a margin). jitter: [micro] largest
    fall that is rounding. sure_flow: [micro/h] up to here a step is believed without the next index.
    reverse_hours: [h] a fall is believed as reverse flow up to max_flow times this time. small: [micro] a level at or
    below this after a fall is a RESET. scale_tolerance: share of `before` by which a level may miss the exact power
    of ten and still be a UNIT_CHANGE.
    """

    capacity: int
    resolution: int
    max_flow: int
    jitter: int
    sure_flow: int
    reverse_hours: int = 48
    small: int = 0
    scale_tolerance: float = 0.2


def limits_of(
    *,
    digits: int,
    resolution: int,
    qmax: int,
    over_factor: float = 1.5,
    jitter_counts: int = 2,
    sure_share: float = 0.15,
    reverse_hours: int = 48,
) -> StepLimits:
    """Limits from master data. digits: integer digits. resolution, qmax: [micro], [micro/h].

    over_factor: how far above Qmax a meter may still count (EN 1359 and ISO 4064 meters pass Qmax for short times).
    sure_share: of that flow, up to which one index is believed without the next (homes rarely pass 15 %).
    Raises: ValueError for a resolution, Qmax or number of digits that no meter has.
    """
    if not 1 <= digits <= 12 or resolution <= 0 or qmax <= 0:
        raise ValueError(f"digits {digits}, resolution {resolution}, qmax {qmax}: digits 1-12, the others above 0")
    capacity = 10**digits * 1_000_000
    flow = int(qmax * over_factor)
    return StepLimits(
        capacity, resolution, flow, jitter_counts * resolution, int(flow * sure_share), reverse_hours, 2 * resolution
    )


@dataclass(frozen=True, slots=True)
class StepResult:
    """consumption: [micro] what passed, None when unknown. scale: power of ten of a UNIT_CHANGE, else 0."""

    step: Step
    consumption: int | None
    scale: int = 0


def most(limits: StepLimits, elapsed_s: int) -> int:
    """[micro] that can pass in `elapsed_s` seconds: flow times time plus two counts of rounding."""
    return limits.max_flow * min(elapsed_s, YEAR_S) // 3600 + 2 * limits.resolution


def relate(before: int, after: int, elapsed_s: int, limits: StepLimits) -> StepResult:
    """Classify by flow alone: NONE never, PLAIN steps, CONFLICT, or PENDING for a jump."""
    delta = after - before
    if elapsed_s <= 0:
        return StepResult(Step.CONFLICT, None) if delta else StepResult(Step.FORWARD, 0)
    can = most(limits, elapsed_s)
    if 0 <= delta <= can:
        return StepResult(Step.FORWARD, delta)
    if -limits.jitter <= delta < 0:
        return StepResult(Step.JITTER, 0)
    around = delta + limits.capacity
    if delta < 0 and 0 <= around <= min(can, limits.capacity // 4):
        return StepResult(Step.ROLLOVER, around)
    if delta < 0 and -delta <= most(limits, min(elapsed_s, limits.reverse_hours * 3600)) and after > limits.small:
        return StepResult(Step.REVERSE, delta)
    return StepResult(Step.PENDING, None)


def level_change(before: int, after: int, elapsed_s: int, limits: StepLimits) -> StepResult:
    """Name a confirmed change of level: UNIT_CHANGE, RESET, EXCHANGE or OVER_RANGE."""
    for scale in SCALES:
        if _is_scaled(before, after, most(limits, elapsed_s), scale, limits):
            return StepResult(Step.UNIT_CHANGE, None, scale)
    if after <= limits.small:
        return StepResult(Step.RESET, None)
    return StepResult(Step.EXCHANGE if after < before else Step.OVER_RANGE, None)


def classify(
    before: int | None,
    after: int,
    *,
    elapsed_s: int,
    limits: StepLimits,
    following: int | None = None,
    following_s: int = 0,
) -> StepResult:
    """Classify one step. following, following_s: the next index and its time after `after` [s], when known."""
    if before is None:
        return StepResult(Step.NONE, None)
    plain = relate(before, after, elapsed_s, limits)
    if following is None:
        return plain
    again = relate(before, following, elapsed_s + following_s, limits)
    if plain.step is not Step.PENDING:
        bad = _taken_back(before, after, elapsed_s, following, following_s, limits)
        return StepResult(Step.TRANSIENT, None) if bad else plain
    if again.step in PLAIN:
        peak = before <= after <= following
        return StepResult(Step.OVER_RANGE, after - before) if peak else StepResult(Step.TRANSIENT, None)
    change = level_change(before, after, elapsed_s, limits)
    confirmed = relate(after, following, following_s, scaled(limits, change.scale)).step in PLAIN
    return change if confirmed else StepResult(Step.TRANSIENT, None)


def _taken_back(
    before: int, after: int, elapsed_s: int, following: int, following_s: int, limits: StepLimits
) -> bool:
    """True when a large step (or a rollover) is undone by the next index, so that `after` was a bad value."""
    step = relate(before, after, elapsed_s, limits).step
    large = step is Step.ROLLOVER or abs(after - before) > sure(limits, elapsed_s)
    back = relate(before, following, elapsed_s + following_s, limits).step
    if not large or step not in (Step.FORWARD, Step.REVERSE, Step.ROLLOVER) or back not in PLAIN:
        return False
    if step is Step.REVERSE:
        return following >= before
    return relate(after, following, following_s, limits).step not in (Step.FORWARD, Step.ROLLOVER, Step.JITTER)


def sure(limits: StepLimits, elapsed_s: int) -> int:
    """[micro] of a step that needs no second index to be believed."""
    return limits.sure_flow * min(elapsed_s, YEAR_S) // 3600 + 2 * limits.resolution


def scaled(limits: StepLimits, scale: int) -> StepLimits:
    """Limits of the same meter once its values are sent times 10^scale."""
    if scale == 0:
        return limits
    factor: int = 10 ** abs(scale)
    flow = limits.max_flow * factor if scale > 0 else -(-limits.max_flow // factor)
    return replace(limits, max_flow=flow, sure_flow=flow)


def _is_scaled(before: int, after: int, can: int, scale: int, limits: StepLimits) -> bool:
    """True when `after` is 10^scale times an index between `before` and `before` plus what may have passed."""
    slack = min(can, int(before * limits.scale_tolerance))
    if before < 1000 * limits.resolution:
        return False
    factor: int = 10 ** abs(scale)
    if scale > 0:
        return before * factor <= after <= (before + slack) * factor
    return before <= after * factor + factor and after * factor <= before + slack


# --- the same for arrays ------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class LimitArrays:
    """`StepLimits` of many meters: int64 arrays of equal length, in the same units."""

    capacity: Ints
    resolution: Ints
    max_flow: Ints
    jitter: Ints
    sure_flow: Ints
    reverse_hours: Ints
    small: Ints
    scale_tolerance: float = 0.2

    def take(self, rows: Any) -> LimitArrays:
        """Limits of a part of the meters (index array or slice)."""
        return LimitArrays(
            self.capacity[rows],
            self.resolution[rows],
            self.max_flow[rows],
            self.jitter[rows],
            self.sure_flow[rows],
            self.reverse_hours[rows],
            self.small[rows],
            self.scale_tolerance,
        )


def limit_arrays(limits: list[StepLimits]) -> LimitArrays:
    """Stack limits of single meters; all share one scale_tolerance."""

    def column(name: str) -> Ints:
        return np.array([getattr(item, name) for item in limits], dtype=np.int64)

    names = ("capacity", "resolution", "max_flow", "jitter", "sure_flow", "reverse_hours", "small")
    columns = {name: column(name) for name in names}
    return LimitArrays(**columns, scale_tolerance=limits[0].scale_tolerance if limits else 0.2)


def most_many(limits: LimitArrays, elapsed_s: Ints, scale: Codes | None = None) -> Ints:
    """`most` for arrays; scale: power of ten per meter in which its values arrive now."""
    flow = limits.max_flow
    if scale is not None and scale.any():
        up, down = 10 ** np.clip(scale, 0, 9).astype(np.int64), 10 ** np.clip(-scale, 0, 9).astype(np.int64)
        flow = -(-flow * up // down)
    can: Ints = flow * np.minimum(elapsed_s, YEAR_S) // 3600 + 2 * limits.resolution
    return can


def relate_many(
    before: Ints, after: Ints, elapsed_s: Ints, limits: LimitArrays, scale: Codes | None = None
) -> tuple[Codes, Ints]:
    """`relate` for arrays: codes and consumption [micro] (0 where unknown). Equal shapes."""
    delta = after - before
    can = most_many(limits, elapsed_s, scale)
    back = most_many(limits, np.minimum(elapsed_s, limits.reverse_hours * 3600), scale)
    forward = (delta >= 0) & (delta <= can)
    falling = delta < 0
    jitter = falling & (-delta <= limits.jitter)
    around = delta + limits.capacity
    over = falling & ~jitter & (around >= 0) & (around <= np.minimum(can, limits.capacity // 4))
    reverse = falling & ~jitter & ~over & (-delta <= back) & (after > limits.small)
    codes = np.full(delta.shape, Step.PENDING, np.int8)
    codes[forward], codes[jitter], codes[over], codes[reverse] = (
        Step.FORWARD,
        Step.JITTER,
        Step.ROLLOVER,
        Step.REVERSE,
    )
    still = elapsed_s <= 0
    if still.any():
        codes[still] = np.where(delta[still] == 0, Step.FORWARD, Step.CONFLICT)
        over = over & ~still
    known = forward | reverse
    moved: Ints = np.where(known, delta, 0)
    moved[over] = around[over]
    moved[still] = 0
    return codes, moved


def level_change_many(before: Ints, after: Ints, elapsed_s: Ints, limits: LimitArrays) -> tuple[Codes, Codes]:
    """`level_change` for arrays: codes and the power of ten (0 unless UNIT_CHANGE)."""
    codes = np.where(after < before, Step.EXCHANGE, Step.OVER_RANGE).astype(np.int8)
    codes[after <= limits.small] = Step.RESET
    scales = np.zeros(before.shape, np.int8)
    slack = np.minimum(most_many(limits, elapsed_s), (before * limits.scale_tolerance).astype(np.int64))
    open_ = before >= 1000 * limits.resolution
    for scale in SCALES:
        factor = 10 ** abs(scale)
        if scale > 0:
            hit = (before <= after // factor) & (-(-after // factor) <= before + slack)
        else:
            hit = (before <= after * factor + factor) & (after * factor <= before + slack)
        hit &= open_
        codes[hit], scales[hit] = Step.UNIT_CHANGE, scale
        open_ &= ~hit
    return codes, scales


def classify_many(
    before: Ints,
    after: Ints,
    *,
    elapsed_s: Ints,
    limits: LimitArrays,
    following: Ints,
    following_s: Ints,
    has_following: NDArray[np.bool_],
) -> tuple[Codes, Ints, Codes]:
    """`classify` for arrays: codes, consumption [micro] (0 where unknown), powers of ten."""
    codes, moved = relate_many(before, after, elapsed_s, limits)
    again, _ = relate_many(before, following, elapsed_s + following_s, limits)
    plain, back = is_plain(codes), is_plain(again) & has_following
    onward, _ = relate_many(after, following, following_s, limits)
    taken = back & large_many(before, after, elapsed_s, limits, codes)
    taken &= np.where(codes == Step.REVERSE, following >= before, ~goes_on(onward))
    peak = (codes == Step.PENDING) & back & (before <= after) & (after <= following)
    one_bad = taken | ((codes == Step.PENDING) & back & ~peak)
    scales = np.zeros(codes.shape, np.int8)
    rows = np.flatnonzero((codes == Step.PENDING) & has_following & ~back)
    if rows.size:
        part, b, a = limits.take(rows), before[rows], after[rows]
        change, scale = level_change_many(b, a, elapsed_s[rows], part)
        confirm, _ = relate_many(a, following[rows], following_s[rows], part, scale)
        change[~is_plain(confirm)] = Step.TRANSIENT
        scale[change != Step.UNIT_CHANGE] = 0
        codes[rows], scales[rows] = change, scale
    codes[one_bad], codes[peak] = Step.TRANSIENT, Step.OVER_RANGE
    moved[peak] = (after - before)[peak]
    moved[one_bad | ~(plain | peak)] = 0
    return codes, moved, scales


def large_many(before: Ints, after: Ints, elapsed_s: Ints, limits: LimitArrays, codes: Codes) -> NDArray[np.bool_]:
    """True for rollovers and for large steps: believed only when the next index does not take them back."""
    believed = limits.sure_flow * np.minimum(elapsed_s, YEAR_S) // 3600 + 2 * limits.resolution
    large: NDArray[np.bool_] = np.abs(after - before) > believed
    plain: NDArray[np.bool_] = (codes == Step.FORWARD) | (codes == Step.REVERSE)
    rollover: NDArray[np.bool_] = codes == Step.ROLLOVER
    return np.logical_or(np.logical_and(large, plain), rollover)


def goes_on(codes: Codes) -> NDArray[np.bool_]:
    """True for steps that continue a level: FORWARD, ROLLOVER, JITTER."""
    out: NDArray[np.bool_] = (codes == Step.FORWARD) | (codes == Step.ROLLOVER) | (codes == Step.JITTER)
    return out


def is_plain(codes: Codes) -> NDArray[np.bool_]:
    """True where a code is one of PLAIN (FORWARD, ROLLOVER, REVERSE, JITTER)."""
    return (codes >= Step.FORWARD) & (codes <= Step.JITTER)
