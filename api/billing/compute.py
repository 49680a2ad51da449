"""Totals of a period for a whole scope, streamed block by block: from the daily closings where they prove the total,
from the readings everywhere else. The result does not depend on the way, on the order of arrival or on the store.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Final

import numpy as np
from sqlalchemy.engine import Connection

from api.billing import fast, states
from api.billing.causes import Hole, explain
from api.billing.chain import Sample
from api.billing.load import Place, RulesInForce, Scope, places, rules_in_force
from api.billing.settings import BillingSettings
from api.billing.totals import COMPANIONS, Line, Outcome, Samples, energy_of, total
from metering.quantities import UNITS, Quantity
from metering.reading import Reading
from metering.store import ReadingStore
from registry import billing as books
from registry.database import Database

_DAY_MS: Final = 86_400_000
_EXACT_BLOCK: Final = 200
_AFTER_MS: Final = 3 * _DAY_MS
"""How far behind the end readings are looked for that confirm its index."""


@dataclass(frozen=True, slots=True)
class Total:
    """What a usage point's period came to, with where it belongs. shown: marks for the clerk, joined by commas."""

    place: Place
    outcome: Outcome
    shown: str = ""

    @property
    def year_to_date(self) -> int | None:
        """[micro] this year's totals up to and with this one; None when this one is missing."""
        used = self.outcome.consumption
        return None if used is None else self.place.earlier + used


@dataclass(slots=True)
class Tally:
    """What a run did, for people. ways: closings, confirmed, readings -> usage points."""

    ways: Counter[str] = field(default_factory=Counter)
    states: Counter[str] = field(default_factory=Counter)


def compute(
    database: Database,
    store: ReadingStore,
    settings: BillingSettings,
    period: str,
    scope: Scope | None = None,
    *,
    tally: Tally | None = None,
) -> Iterator[list[Total]]:
    """Yield the totals of a period, usage point by usage point in order of their ids, one list a block.

    Between two blocks no transaction is open, so that others, and the caller, may write.
    """
    counts = Tally() if tally is None else tally
    with database.read() as connection:
        rules = rules_in_force(connection, settings)
    after: str | None = ""
    while True:
        with database.read() as connection:
            block, after = places(connection, rules, period, scope or Scope(), after or "")
            if after is None:
                return
            outcomes = _outcomes(connection, store, rules, block, counts)
            totals = [_finished(place, outcomes[place.point.id], rules) for place in block]
            totals = _explained(connection, rules, totals)
        counts.states.update(total.outcome.state for total in totals)
        yield totals


def _outcomes(
    connection: Connection, store: ReadingStore, rules: RulesInForce, block: Sequence[Place], tally: Tally
) -> dict[str, Outcome]:
    quick: list[Place] = []
    slow: list[Place] = []
    for place in block:
        (quick if _may_be_quick(place, rules) else slow).append(place)
    groups: defaultdict[Any, list[Place]] = defaultdict(list)
    for place in quick:
        groups[place.bounds, place.point.rates].append(place)
    outcomes: dict[str, Outcome] = {}
    for group in groups.values():
        proved = _by_closings(connection, store, rules, group, tally)
        outcomes |= proved
        slow += [place for place in group if place.point.id not in proved]
    for start in range(0, len(slow), _EXACT_BLOCK):
        outcomes |= _by_readings(store, rules, slow[start : start + _EXACT_BLOCK])
    tally.ways["readings"] += len(slow)
    return outcomes


def _may_be_quick(place: Place, rules: RulesInForce) -> bool:
    """True for the ordinary usage point: one meter, there all the time, nothing in the books about it."""
    if len(place.point.stays) != 1 or place.stopped:
        return False
    stay, meter = place.point.stays[0], place.hanging[0]
    changes = any(place.since < change.at for change in place.point.changes)
    apart = stay.meter in rules.corrected or stay.meter in rules.beside or stay.quantity not in UNITS
    there = stay.start <= place.since and stay.end is None and meter.state == "in_service"
    return there and not changes and not apart and rules.settings.estimation == "off"


def _by_closings(
    connection: Connection, store: ReadingStore, rules: RulesInForce, group: Sequence[Place], tally: Tally
) -> dict[str, Outcome]:
    """Return the outcomes that closings prove, or readings beside the boundaries confirm."""
    bounds = group[0].bounds
    cuts = {*bounds.cuts, *(at for at, _ in group[0].point.rates if bounds.start < at < bounds.end)}
    moments = [bounds.start, *sorted(cuts), bounds.end]
    stays = [place.point.stays[0] for place in group]
    meters = {stay.meter: number for number, stay in enumerate(stays)}
    first, last = _day(min(place.since for place in group)), _day(bounds.end + _AFTER_MS)
    closings = fast.unfold(books.closings(connection, list(meters), first, last), meters)
    intervals = np.array([place.intervals[stay.meter] for place, stay in zip(group, stays, strict=True)], np.int64)
    limits = fast.arrays_of([stay.limits for stay in stays])
    proved = fast.prove(closings, limits, intervals, moments, rules.boundary.tolerance_ms)
    rows = np.flatnonzero(proved.ok).tolist()
    doubt = np.flatnonzero(proved.doubt).tolist()
    at, index = proved.at.T.tolist(), proved.index.T.tolist()
    asked = [(stays[i].meter, stays[i].quantity, stays[i].limits, int(intervals[i])) for i in doubt]
    good = fast.confirmed(store, asked, moments, [list(zip(at[i], index[i], strict=True)) for i in doubt])
    also = [i for i, fine in zip(doubt, good, strict=True) if fine]
    tally.ways["closings"] += len(rows)
    tally.ways["confirmed"] += len(also)
    kinds = _kinds(group[0], moments)
    keep = [i for i in [*rows, *also] if not rules.conflicts or not _in_conflict(rules, stays[i].meter, at[i])]
    return {group[i].point.id: _proved(group[i], moments, kinds, at[i], index[i]) for i in keep}


def _in_conflict(rules: RulesInForce, meter: str, times: Sequence[int]) -> bool:
    return any((meter, at) in rules.conflicts for at in times)


def _kinds(place: Place, moments: Sequence[int]) -> list[str]:
    """What ends each line: an extra reading day goes before another calorific value of the same day."""
    return ["extra_day" if at in place.bounds.cuts else "energy" for at in moments[1:-1]] + ["meter"]


def _proved(
    place: Place, moments: Sequence[int], kinds: Sequence[str], at: Sequence[int], index: Sequence[int]
) -> Outcome:
    stay, point = place.point.stays[0], place.point
    account = point.changes[-1].account if point.changes else point.account
    marks = [fast.mark_of(t, i, i - index[0]) for t, i in zip(at, index, strict=True)]
    lines = []
    for row, kind in enumerate(kinds):
        energy = _energy(point.rates, moments[row], index[row + 1] - index[row]) if point.rates else None
        lines.append(Line(kind, stay.meter, account, marks[row], marks[row + 1], moments[row], energy))
    known = [line.energy for line in lines if line.energy is not None]
    used = index[-1] - index[0]
    energy = sum(known) if known and len(known) == len(lines) else None
    outcome = Outcome("billed", "", "", tuple(lines), used, 0, energy)
    return outcome if used >= 0 else outcome._replace(state="doubtful", cause="negative", detail="it ran back in sum")


def _energy(rates: Sequence[tuple[int, int]], since: int, used: int) -> int | None:
    value = next((value for at, value in reversed(rates) if at <= since), None)
    return None if value is None else energy_of(used, value)


def _by_readings(store: ReadingStore, rules: RulesInForce, block: Sequence[Place]) -> dict[str, Outcome]:
    """Return outcomes from all readings of some usage points."""
    meters = sorted({stay.meter for place in block for stay in place.point.stays})
    since = min(place.since for place in block)
    until = max(max(place.bounds.end + _AFTER_MS, place.bounds.end_window + 1) for place in block)
    until = max(until, max(place.bounds.end for place in block) + rules.boundary.manual_ms + 1)
    billed = {stay.quantity for place in block for stay in place.point.stays}
    samples = read_samples(store, rules, meters, since, until, sorted(billed | set(COMPANIONS)))
    outcomes = {}
    for place in block:
        own = _own(place, samples)
        beside = {
            quantity: samples[quantity]
            for quantity in COMPANIONS
            if quantity in samples and any(stay.quantity != quantity for stay in place.point.stays)
        }
        outcomes[place.point.id] = total(
            place.point,
            place.bounds,
            own,
            rules.boundary,
            companions=beside,
            conflicts=rules.conflicts,
        )
    return outcomes


def _own(place: Place, samples: Mapping[Quantity, Samples]) -> dict[str, Sequence[Sample]]:
    """The billed register of each meter, from where this usage point's readings must be looked at."""
    found: dict[str, Sequence[Sample]] = {}
    for stay in place.point.stays:
        rows = samples.get(stay.quantity, {}).get(stay.meter, ())
        found[stay.meter] = [sample for sample in rows if sample.at >= place.since]
    return found


def read_samples(
    store: ReadingStore,
    rules: RulesInForce,
    meters: Sequence[str],
    since: int,
    until: int,
    quantities: Sequence[Quantity],
) -> dict[Quantity, dict[str, list[Sample]]]:
    """Return quantity -> meter -> samples in order of time, since <= at < until [ms UTC], corrections laid over."""
    found: dict[Quantity, dict[str, list[Sample]]] = {quantity: {} for quantity in quantities}
    for reading in store.range(meters, since, until, quantities=quantities):
        for quantity, micro in reading.values.items():
            if quantity in found and (sample := _sample(reading, micro, rules)) is not None:
                found[quantity].setdefault(reading.meter, []).append(sample)
    return {quantity: rows for quantity, rows in found.items() if rows}


def _sample(reading: Reading, micro: int, rules: RulesInForce) -> Sample | None:
    correction = rules.corrections.get((reading.meter, reading.read_at)) if rules.corrections else None
    if correction is None:
        return Sample(reading.read_at, micro, reading.quality, reading.source)
    if correction.becomes is None:
        return None
    return Sample(reading.read_at, correction.becomes, "edited", "manual", edited=True)


def _finished(place: Place, outcome: Outcome, rules: RulesInForce) -> Total:
    """Lay books, limits and a clerk's word over what the indexes say."""
    why = states.excluded(place.hanging, place.bounds.start, place.bounds.end)
    if why:
        outcome = states.without_bill(outcome, why)
    limit = rules.limits.get((place.customer_class, place.medium))
    outcome, shown = states.by_size(outcome, limit, place.bounds.months)
    said = (("reverse", outcome.reverse), ("estimated", outcome.method), ("edited", outcome.edited))
    shown = ",".join([*([shown] if shown else ()), *(mark for mark, there in said if there)])
    return Total(place, states.after_word(outcome, place.word), shown)


def _explained(connection: Connection, rules: RulesInForce, totals: Sequence[Total]) -> list[Total]:
    """Name the delivery ledger's cause where an index is missing."""
    tolerance = rules.boundary.tolerance_ms
    holes = {}
    for each in totals:
        if each.outcome.hole is not None:
            meter, at = each.outcome.hole
            holes[meter] = Hole(meter, each.place.gateways.get(meter, ""), at - tolerance, at)
    if not holes:
        return list(totals)
    causes = explain(connection, list(holes.values()))
    return [
        each
        if each.outcome.hole is None
        else replace(
            each,
            outcome=each.outcome._replace(
                cause=causes[each.outcome.hole[0]].cause,
                detail=f"{each.outcome.detail}; {causes[each.outcome.hole[0]].detail}",
            ),
        )
        for each in totals
    ]


def _day(moment: int) -> str:
    """The UTC day before a moment: one day early or late costs a row, never an index."""
    return datetime.fromtimestamp(moment / 1000, UTC).date().isoformat()
