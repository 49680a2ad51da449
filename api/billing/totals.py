"""The total of one usage point in one period, from the indexes of every meter that hung there. Exact and pure.

total = index at the end boundary minus index at the start boundary, per installation, summed over exchanges. What
cannot be known is missing with its cause; what is known and looks wrong is doubtful. Integers in 10⁻⁶ throughout;
energy is rounded half away from zero to 10⁻⁶ kWh, once per line.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from types import MappingProxyType
from typing import Final, NamedTuple

from api.billing.boundaries import NO_READING, Boundary, choose
from api.billing.calendars import Bounds
from api.billing.chain import Chain, Mark, Sample, Stop, walk
from api.billing.rules import LINEAR, Rules
from metering.clock import rfc3339
from metering.quantities import MICRO, UNITS, Quantity, from_micro
from metering.steps import StepLimits

PAIR: Final[tuple[Quantity, ...]] = ("volume_actual", "volume_standard")
COMPANIONS: Final[tuple[Quantity, ...]] = (*PAIR, "volume_reverse")
"""Registers that a meter may have beside the billed one and that a total shows apart."""
_NONE: Final[Mapping[Quantity, int]] = MappingProxyType({})


class Stay(NamedTuple):
    """A meter at a usage point. start, end: [ms UTC], end None while it hangs there; indexes None when not known."""

    meter: str
    quantity: Quantity
    limits: StepLimits
    start: int = 0
    end: int | None = None
    start_index: int | None = None
    final_index: int | None = None


@dataclass(frozen=True, slots=True)
class Change:
    """A change of customer: `account` from `at` [ms UTC] on; indexes: meter -> index read then."""

    at: int
    account: str
    indexes: Mapping[str, int] = field(default_factory=dict)


class Point(NamedTuple):
    """A usage point as billing needs it. changes: of customer, oldest first. rates: (from ms UTC, 10⁻⁶ kWh/m³)."""

    id: str
    stays: Sequence[Stay]
    account: str = ""
    changes: Sequence[Change] = ()
    rates: Sequence[tuple[int, int]] = ()


class Line(NamedTuple):
    """One meter between two indexes. kind: what ends it: meter (the period), exchange, extra_day, customer, energy.

    since: [ms UTC] the moment for which the opening index stands.
    """

    kind: str
    meter: str
    customer: str
    opening: Mark
    closing: Mark
    since: int
    energy: int | None = None

    @property
    def consumption(self) -> int:
        """[micro] net: what ran back is taken off."""
        return self.closing.passed - self.opening.passed

    @property
    def reverse(self) -> int:
        """[micro] that ran back."""
        return self.closing.reverse - self.opening.reverse

    @property
    def rollovers(self) -> int:
        """How often the counter ran over its last digit."""
        return self.closing.rollovers - self.opening.rollovers


class Outcome(NamedTuple):
    """A total, or why there is none. state: billed, doubtful, missing. consumption None: missing.

    companions: further registers of the meters over the same times. method: of an estimate, "" when there is none.
    hole: (meter, boundary [ms UTC]) where an index is missing.
    """

    state: str
    cause: str = ""
    detail: str = ""
    lines: tuple[Line, ...] = ()
    consumption: int | None = None
    reverse: int = 0
    energy: int | None = None
    companions: Mapping[Quantity, int] = _NONE
    edited: bool = False
    method: str = ""
    hole: tuple[str, int] | None = None

    @property
    def forward(self) -> int | None:
        """[micro] that ran forward: the net plus what ran back."""
        return None if self.consumption is None else self.consumption + self.reverse


Samples = Mapping[str, Sequence[Sample]]
"""Meter -> its indexes in order of time."""


class _MissingError(Exception):
    def __init__(self, cause: str, detail: str, hole: tuple[str, int] | None = None) -> None:
        super().__init__(cause)
        self.cause, self.detail, self.hole = cause, detail, hole


def total(
    point: Point,
    bounds: Bounds,
    samples: Samples,
    rules: Rules,
    *,
    companions: Mapping[Quantity, Samples] | None = None,
    conflicts: frozenset[tuple[str, int]] = frozenset(),
) -> Outcome:
    """Return the total of a period from the billed register's samples.

    companions: samples of further registers. conflicts: (meter, read_at) for which another value was quarantined.
    """
    chains = [walk(_with_ends(stay, samples, point.changes), stay.limits) for stay in point.stays]
    try:
        whole = _lines(point, chains, bounds, rules, [])
        if not whole:
            raise _MissingError("no_meter", "no meter hung here in this period")
        cuts, doubt = _cuts(point, bounds), ""
        lines = whole
        if cuts:
            try:
                lines = _lines(point, chains, bounds, rules, cuts)
            except _MissingError as error:
                doubt = f"{error.cause} at a cut inside the period: {error.detail}"
    except _MissingError as error:
        return Outcome("missing", error.cause, error.detail, hole=error.hole)
    outcome = _outcome(point, [_with_energy(line, point.rates) for line in lines])
    outcome = outcome._replace(companions=_companions(point, lines, companions or {}))
    return _judged(outcome, chains, doubt, conflicts)


def _with_ends(stay: Stay, samples: Samples, changes: Sequence[Change]) -> list[Sample]:
    """The meter's own samples while it hung here, between the start and final index of the books."""
    end = stay.end
    own = [s for s in samples.get(stay.meter, ()) if s.at >= stay.start and (end is None or s.at < end)]
    own = _with_changes(own, stay, changes)
    if stay.start_index is not None and stay.start > 0:
        own.insert(0, Sample(stay.start, stay.start_index, source="installation"))
    if end is not None and stay.final_index is not None:
        own.append(Sample(end, stay.final_index, source="installation"))
    return own


def _with_changes(own: list[Sample], stay: Stay, changes: Sequence[Change]) -> list[Sample]:
    """A customer's final reading is a reading like others; what the meter itself sent at that moment goes first."""
    for change in changes:
        inside = stay.start <= change.at and (stay.end is None or change.at < stay.end)
        if stay.meter in change.indexes and inside and all(s.at != change.at for s in own):
            own = sorted([*own, Sample(change.at, change.indexes[stay.meter], "manual", "manual")], key=_at)
    return own


def _at(sample: Sample) -> int:
    return sample.at


def _cuts(point: Point, bounds: Bounds) -> list[tuple[int, str]]:
    """Moments inside the period where a line ends, with what ends it."""
    inside = [(at, "extra_day") for at in bounds.cuts]
    inside += [(change.at, "customer") for change in point.changes]
    inside += [(at, "energy") for at, _ in point.rates]
    found = {at: kind for at, kind in reversed(inside) if bounds.start < at < bounds.end}
    return sorted(found.items())


def _lines(
    point: Point, chains: Sequence[Chain], bounds: Bounds, rules: Rules, cuts: Sequence[tuple[int, str]]
) -> list[Line]:
    moments = [(bounds.start, ""), *cuts, (bounds.end, "meter")]
    lines = []
    for (begin, _), (end, kind) in pairwise(moments):
        for stay, chain in zip(point.stays, chains, strict=True):
            if stay.start >= end or (stay.end is not None and stay.end <= begin):
                continue
            lines.append(_line(point, stay, chain, bounds, rules, begin, end, kind))
    if len({UNITS[stay.quantity] for stay in point.stays}) > 1:
        raise _MissingError("mixed_units", "meters of different units hung here: their indexes cannot be summed")
    return lines


def _line(
    point: Point, stay: Stay, chain: Chain, bounds: Bounds, rules: Rules, begin: int, end: int, kind: str
) -> Line:
    opening = _opening(stay, chain, bounds, rules, begin)
    exchanged = stay.end is not None and stay.end <= end
    closing = _final(stay, chain) if exchanged else _at_boundary(stay, chain, bounds, rules, end)
    if closing.at < opening.at:
        raise _MissingError(
            "no_reading", f"meter {stay.meter} was not read between {rfc3339(begin)} and {rfc3339(end)}"
        )
    if opening.segment or closing.segment:
        raise _stopped(stay, chain, opening, closing)
    account = point.account
    for change in point.changes:
        account = change.account if change.at <= begin else account
    return Line(
        "exchange" if exchanged and kind == "meter" else kind,
        stay.meter,
        account,
        opening,
        closing,
        max(begin, stay.start),
    )


def _opening(stay: Stay, chain: Chain, bounds: Bounds, rules: Rules, begin: int) -> Mark:
    if stay.start >= begin and stay.start > 0:
        if stay.start_index is None:
            raise _MissingError("no_start_index", f"meter {stay.meter} was installed without its start index")
        return chain.marks[0]
    return _at_boundary(stay, chain, bounds, rules, begin)


def _final(stay: Stay, chain: Chain) -> Mark:
    if stay.final_index is None:
        raise _MissingError("no_final_index", f"meter {stay.meter} was removed without its final index")
    return chain.marks[-1]


def _at_boundary(stay: Stay, chain: Chain, bounds: Bounds, rules: Rules, moment: int) -> Mark:
    found = choose(chain, moment, rules, window_end=bounds.windows.get(moment, 0))
    if found.mark is None:
        raise _missing(stay, found, moment)
    return found.mark


def _missing(stay: Stay, found: Boundary, moment: int) -> _MissingError:
    detail = found.detail or f"meter {stay.meter} has no index within the tolerance before {rfc3339(moment)}"
    return _MissingError(found.cause, detail, (stay.meter, moment) if found.cause == NO_READING else None)


def _stopped(stay: Stay, chain: Chain, opening: Mark, closing: Mark) -> _MissingError:
    place = opening.segment if closing.segment > opening.segment else opening.segment - 1
    stop: Stop = chain.stops[place]
    before, after = f"{from_micro(stop.before)} {UNITS[stay.quantity]}", from_micro(stop.after)
    text = f"meter {stay.meter}: {before} became {after} at {rfc3339(stop.at)} without a recorded exchange"
    return _MissingError(stop.cause, f"{text}; when it is recorded, this is billed")


def _with_energy(line: Line, rates: Sequence[tuple[int, int]]) -> Line:
    value = next((value for at, value in reversed(rates) if at <= line.since), None)
    return line if value is None else line._replace(energy=energy_of(line.consumption, value))


def energy_of(volume: int, value: int) -> int:
    """Return [10⁻⁶ kWh] of a volume [10⁻⁶ m³] times a calorific value [10⁻⁶ kWh/m³], half away from zero."""
    product = abs(volume) * value
    amount = (product + MICRO // 2) // MICRO
    return amount if volume >= 0 else -amount


def _outcome(point: Point, lines: Sequence[Line]) -> Outcome:
    energies = [line.energy for line in lines]
    known = [energy for energy in energies if energy is not None]
    marks = [mark for line in lines for mark in (line.opening, line.closing)]
    return Outcome(
        "billed",
        lines=tuple(lines),
        consumption=sum(line.consumption for line in lines),
        reverse=sum(line.reverse for line in lines),
        energy=sum(known) if known and len(known) == len(energies) else None,
        edited=any(mark.sample.edited for mark in marks),
        method=LINEAR if any(mark.sample.quality == "estimated" for mark in marks) else "",
    )


def _companions(point: Point, lines: Sequence[Line], companions: Mapping[Quantity, Samples]) -> dict[Quantity, int]:
    """Differences of further registers between the same two readings of each line; left out where not known."""
    billed = {stay.meter: stay for stay in point.stays}
    found: dict[Quantity, int] = {}
    for quantity, samples in companions.items():
        parts = [_beside(line, billed[line.meter], samples) for line in lines]
        known = [part for part in parts if part is not None]
        if known and len(known) == len(parts):
            found[quantity] = sum(known)
    return found


def _beside(line: Line, stay: Stay, samples: Samples) -> int | None:
    own = [s for s in samples.get(stay.meter, ()) if line.opening.at <= s.at <= line.closing.at]
    if not own or own[0].at != line.opening.at or own[-1].at != line.closing.at:
        return None
    chain = walk(own, stay.limits)
    first, last = chain.marks[0], chain.marks[-1]
    return last.passed if last.at == own[-1].at and last.segment == first.segment else None


def _judged(outcome: Outcome, chains: Sequence[Chain], doubt: str, conflicts: frozenset[tuple[str, int]]) -> Outcome:
    """Name what makes a known total doubtful; the first that holds speaks."""
    for cause, detail in _doubts(outcome, chains, doubt, conflicts):
        if detail:
            return outcome._replace(state="doubtful", cause=cause, detail=detail)
    return outcome


def _doubts(
    outcome: Outcome, chains: Sequence[Chain], doubt: str, conflicts: frozenset[tuple[str, int]]
) -> Iterator[tuple[str, str]]:
    ends = [(line.meter, mark) for line in outcome.lines for mark in (line.opening, line.closing)]
    first, last = min(mark.at for _, mark in ends), max(mark.at for _, mark in ends)
    for meter, mark in ends:
        here = f"meter {meter} at {rfc3339(mark.at)}"
        yield "conflict", f"{here}: another value was refused" if (meter, mark.at) in conflicts else ""
        yield "unconfirmed", "" if mark.sure else f"{here}: a large step that no later index confirms yet"
        yield "suspect_index", f"{here}: its quality is suspect" if mark.sample.quality == "suspect" else ""
    for chain in chains:
        for at in chain.peaks:
            yield "over_range", f"more than the meter can pass at {rfc3339(at)}" if first < at <= last else ""
    yield "cut_unread", f"the total is known, its parts are not: {doubt}" if doubt else ""
    yield "negative", "it ran back in sum" if (outcome.consumption or 0) < 0 else ""
