"""The quick way to a total: from the daily closing indexes of many meters at once, exact or not at all.

A usage point goes this way when its closings alone prove what its readings would say. With a recorded index at each
boundary and every daily step forward by no more than what one reading interval can pass, no reading of that time can
hide a jump; with the steps at the boundary small enough to be believed without a later index, or confirmed by the
readings next to it, the boundary index is one that `chain.walk` would believe too. Everything else is left to the
readings. `metering.steps` classifies; nothing is decided here that it would decide otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from api.billing.chain import Mark, Sample
from metering.quantities import Quantity
from metering.reading import Reading
from metering.steps import Ints, LimitArrays, Step, StepLimits, classify, limit_arrays, most_many, relate_many
from metering.store import ReadingStore

Bools = NDArray[np.bool_]
_NAMES: Final = 500
_NEXT: Final = 3
"""Reading intervals on each side of a boundary in which the readings next to it are looked for."""


@dataclass(frozen=True, slots=True)
class Closings:
    """Closings of meters, one after the other by day. owner: place of the meter; first, count: its part."""

    at: Ints
    index: Ints
    owner: Ints
    first: Ints
    count: Ints
    odd: Bools


def unfold(folded: Sequence[tuple[Any, ...]], places: Mapping[str, int]) -> Closings:
    """Take apart what `registry.billing.closings` returns. places: meter -> its place, 0 to n-1.

    odd: meters with a closing that is not simply valid, or whose days do not follow each other in time.
    """
    size = len(places)
    count, first, odd = np.zeros(size, np.int64), np.zeros(size, np.int64), np.zeros(size, bool)
    order, parts, start = [], [], 0
    for meter, times, indexes, days, strange in folded:
        place = places[meter]
        count[place], first[place], odd[place] = days, start, bool(strange)
        order.append(place)
        parts.append((times, indexes))
        start += days
    at = np.fromstring(",".join(part[0] for part in parts), np.int64, sep=",")
    index = np.fromstring(",".join(part[1] for part in parts), np.int64, sep=",")
    owner = np.repeat(np.array(order, np.int64), count[order]) if order else np.zeros(0, np.int64)
    falls = (at[1:] <= at[:-1]) & (owner[1:] == owner[:-1])
    odd[owner[1:][falls]] = True
    return Closings(at, index, owner, first, count, odd)


@dataclass(frozen=True, slots=True)
class Proved:
    """ok: meters whose closings prove their total. doubt: those whose boundaries the readings beside must confirm.

    at, index: [boundaries, meters] the closing that stands for each boundary; meaningful for both.
    """

    ok: Bools
    doubt: Bools
    at: Ints
    index: Ints


def prove(
    closings: Closings, limits: LimitArrays, interval_s: Ints, moments: Sequence[int], tolerance_ms: int
) -> Proved:
    """Find the meters whose totals between `moments` [ms UTC, ascending] the closings prove.

    interval_s: [s] how often each meter is read at least.
    """
    same = closings.owner[1:] == closings.owner[:-1]
    owner, step = closings.owner[1:][same], np.flatnonzero(same)
    before, after = closings.index[step], closings.index[step + 1]
    elapsed = (closings.at[step + 1] - closings.at[step]) // 1000
    codes, _ = relate_many(before, after, elapsed, limits.take(owner))
    plain = (codes == Step.FORWARD) | (codes == Step.JITTER)
    one = most_many(limits, interval_s)
    plain &= after - before <= one[owner]
    size = closings.count.size
    ok = ~closings.odd & (closings.count > 0)
    ok &= np.bincount(owner[~plain], minlength=size) == 0
    ok &= np.bincount(closings.owner, closings.index >= limits.capacity[closings.owner], size) == 0
    surely = limits.sure_flow * interval_s // 3600 + 2 * limits.resolution
    doubt = np.zeros(size, bool)
    found_at, found = np.zeros((len(moments), size), np.int64), np.zeros((len(moments), size), np.int64)
    for row, moment in enumerate(moments):
        place, inside = _place(closings, moment)
        ok &= inside
        at = np.where(inside, place, 0)
        if not closings.at.size:
            break
        found_at[row], found[row] = closings.at[at], closings.index[at]
        ok &= moment - found_at[row] <= tolerance_ms
        beside = np.clip(np.stack((at - 1, at, at + 1)), 0, closings.at.size - 1)
        steps = np.abs(np.diff(closings.index[beside], axis=0))
        doubt |= (steps > surely).any(axis=0)
    return Proved(ok & ~doubt, ok & doubt, found_at, found)


def _place(closings: Closings, moment: int) -> tuple[Ints, Bools]:
    """Return the place of the last closing at or before a moment, and where one lies on each side of it."""
    until = np.bincount(closings.owner[closings.at <= moment], minlength=closings.count.size)
    return closings.first + until - 1, (until >= 2) & (until < closings.count)


def confirmed(
    store: ReadingStore,
    meters: Sequence[tuple[str, Quantity, StepLimits, int]],
    moments: Sequence[int],
    closings: Sequence[Sequence[tuple[int, int]]],
) -> list[bool]:
    """Tell for which meters the readings beside each boundary confirm its index.

    meters: (id, billed quantity, limits, interval [s]). closings: per meter and moment (read_at, index).
    """
    good = [True] * len(meters)
    for place, moment in enumerate(moments):
        for start in range(0, len(meters), _NAMES):
            chunk = range(start, min(start + _NAMES, len(meters)))
            beside = _beside(store, [meters[i] for i in chunk], moment)
            for i in chunk:
                meter, quantity, limits, _ = meters[i]
                good[i] &= _confirms(beside.get(meter, []), quantity, limits, closings[i][place])
    return good


def _beside(
    store: ReadingStore, meters: Sequence[tuple[str, Quantity, StepLimits, int]], moment: int
) -> dict[str, list[Reading]]:
    width = _NEXT * max(interval for *_, interval in meters) * 1000
    quantities = sorted({quantity for _, quantity, _, _ in meters})
    found: dict[str, list[Reading]] = {}
    for reading in store.range([m for m, *_ in meters], moment - width, moment + width, quantities=quantities):
        found.setdefault(reading.meter, []).append(reading)
    return found


def _confirms(beside: Sequence[Reading], quantity: Quantity, limits: StepLimits, closing: tuple[int, int]) -> bool:
    own = [(r.read_at, r.values[quantity]) for r in beside if quantity in r.values]
    if closing not in own or not 0 < (place := own.index(closing)) < len(own) - 1:
        return False
    (t0, before), (t1, here), (t2, following) = own[place - 1 : place + 2]
    result = classify(
        before,
        here,
        elapsed_s=(t1 - t0) // 1000,
        limits=limits,
        following=following,
        following_s=(t2 - t1) // 1000,
    )
    return result.step in (Step.FORWARD, Step.JITTER)


def mark_of(at: int, index: int, passed: int) -> Mark:
    """Return a proved boundary index as the walk over readings would."""
    return Mark(Sample(at, index), passed, 0, 0, 0)


def arrays_of(limits: Sequence[StepLimits]) -> LimitArrays:
    """Stack limits; equal ones, which most households share, are stacked once and repeated."""
    kinds: dict[StepLimits, int] = {}
    numbers = np.array([kinds.setdefault(item, len(kinds)) for item in limits], np.int64)
    return limit_arrays(list(kinds)).take(numbers)
