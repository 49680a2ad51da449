"""Validation on demand: every doubt about stored readings, with the rule, its version, and why. Nothing is changed.

Ingest judges a row by itself when it comes (`metering.admission`) and compares keys (conflicts go to quarantine).
Here the readings of a meter are looked at in their order: steps of the index (`metering.steps`), the meter's own
clock, and whether the meter hung there at all. A rule applies from its effective date on, by the reading's time, so
that a bill of last year is judged by the rules of last year.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import attrgetter
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from metering.admission import judge_clock
from metering.clock import rfc3339
from metering.quantities import Quantity, from_micro
from metering.reading import Quality, Reading
from metering.steps import LEVEL_CHANGES, Step, StepLimits, classify, limits_of
from registry.models import Installation, Meter, Quarantine
from registry.validation_rules import RULES, Rule, clock_limits, rule_at

_CHUNK: Final = 500


@dataclass(frozen=True, slots=True)
class Result:
    """One doubt about one reading. quality: what the reading deserves by this rule; reason: a short code."""

    meter: str
    read_at: int
    rule: str
    version: int
    quality: Quality
    reason: str
    detail: str


@dataclass(frozen=True, slots=True)
class MeterFacts:
    """What the books know of a meter. stays: (from, to) [ms UTC] in order; limits: None when facts are missing."""

    meter: str
    quantity: Quantity
    limits: StepLimits | None
    stays: tuple[tuple[int, int | None], ...]


def load_facts(connection: Connection, meters: Sequence[str]) -> dict[str, MeterFacts]:
    """Return the facts of those meters that the books know."""
    found: dict[str, MeterFacts] = {}
    for start in range(0, len(meters), _CHUNK):
        part = list(meters[start : start + _CHUNK])
        stays: dict[str, list[tuple[int, int | None]]] = {}
        stay = Installation.__table__
        for row in connection.execute(sa.select(stay).where(stay.c.meter_id.in_(part)).order_by(stay.c.installed_at)):
            stays.setdefault(row.meter_id, []).append((row.installed_at, row.removed_at))
        for row in connection.execute(sa.select(Meter.__table__).where(Meter.id.in_(part))):
            found[row.id] = MeterFacts(row.id, row.quantity, _limits(row), tuple(stays.get(row.id, ())))
    return found


def meters_after(connection: Connection, after: str, limit: int) -> list[str]:
    """Return the next meters of the books by id, behind `after`."""
    statement = sa.select(Meter.id).where(Meter.id > after).order_by(Meter.id).limit(limit)
    return list(connection.execute(statement).scalars())


def _limits(meter: Any) -> StepLimits | None:
    if not (meter.index_digits and meter.resolution and meter.qmax):
        return None
    return limits_of(digits=meter.index_digits, resolution=meter.resolution, qmax=meter.qmax)


def conflicts(
    connection: Connection, meters: Sequence[str], t0: int, t1: int, rules: Sequence[Rule] = RULES
) -> Iterator[Result]:
    """Yield the keys that came a second time with another value: the store kept the first, quarantine the other."""
    table = Quarantine.__table__
    for start in range(0, len(meters), _CHUNK):
        here = (table.c.meter.in_(meters[start : start + _CHUNK]), table.c.reason == "conflict")
        when = (table.c.read_at >= t0, table.c.read_at < t1)
        statement = sa.select(table.c.meter, table.c.read_at, table.c.detail).where(*here, *when).order_by(table.c.id)
        for meter, read_at, detail in connection.execute(statement):
            if rule_at(rules, "duplicate_key", read_at):
                yield _result(meter, read_at, "duplicate_key", rules, "suspect", "conflict", detail)


def validate(
    readings: Iterable[Reading], facts: Mapping[str, MeterFacts], *, rules: Sequence[Rule] = RULES
) -> Iterator[Result]:
    """Yield every doubt. readings: ordered by (meter, read_at), as a store gives them; memory stays flat."""
    for meter, own in groupby(readings, key=attrgetter("meter")):
        known = facts.get(meter)
        if known is None:
            for reading in own:
                if rule_at(rules, "unknown_meter", reading.read_at):
                    yield _result(meter, reading.read_at, "unknown_meter", rules, "suspect", "unknown_meter",
                                  "the books know no such meter")  # fmt: skip
            continue
        yield from _one_meter(own, known, rules)


def _result(
    meter: str, at: int, name: str, rules: Sequence[Rule], quality: Quality, reason: str, detail: str
) -> Result:
    rule = rule_at(rules, name, at)
    return Result(meter, at, name, rule.version if rule else 0, quality, reason, detail)


def _one_meter(readings: Iterable[Reading], facts: MeterFacts, rules: Sequence[Rule]) -> Iterator[Result]:
    clock, steps = _Clock(rules), _Steps(facts, rules)
    for reading in readings:
        if reading.quality != "valid" and rule_at(rules, "sent_as_doubtful", reading.read_at):
            yield _result(reading.meter, reading.read_at, "sent_as_doubtful", rules, reading.quality,
                          reading.reason or reading.quality, f"stored as {reading.quality}")  # fmt: skip
        if _stay_of(facts, reading.read_at) is None:
            if rule_at(rules, "outside_installation", reading.read_at):
                yield _result(reading.meter, reading.read_at, "outside_installation", rules, "suspect",
                              "not_installed", "the meter hung nowhere at this moment")  # fmt: skip
            continue
        yield from clock.look(reading)
        yield from steps.look(reading)
    yield from steps.end()


def _stay_of(facts: MeterFacts, at: int) -> int | None:
    for number, (begin, end) in enumerate(facts.stays):
        if begin <= at and (end is None or at < end):
            return number
    return None


class _Clock:
    """The meter's own clock: far off, or standing still. `metering.admission` judges, as when a reading comes."""

    def __init__(self, rules: Sequence[Rule]) -> None:
        self._rules = rules
        self._last: int | None = None
        self._since = 0

    def look(self, reading: Reading) -> Iterator[Result]:
        if reading.meter_time is None:
            return
        if reading.meter_time != self._last:
            self._last, self._since = reading.meter_time, reading.read_at
        at = reading.read_at
        verdict = judge_clock(reading.meter_time, at, at - self._since, clock_limits(self._rules, at))
        if verdict.decision == "suspect":
            detail = f"{verdict.detail}: it says {rfc3339(reading.meter_time)}"
            yield _result(reading.meter, at, verdict.reason, self._rules, "suspect", verdict.reason, detail)


class _Steps:
    """Steps of the index within one installation; the next index confirms a jump."""

    def __init__(self, facts: MeterFacts, rules: Sequence[Rule]) -> None:
        self._facts, self._rules = facts, rules
        self._before: tuple[int, int] | None = None
        self._held: tuple[int, int] | None = None
        self._stay: int | None = None

    def look(self, reading: Reading) -> Iterator[Result]:
        index = reading.values.get(self._facts.quantity)
        if index is None or self._facts.limits is None:
            return
        stay = _stay_of(self._facts, reading.read_at)
        if stay != self._stay:
            yield from self.end()
            self._stay = stay
        here = (reading.read_at, index)
        if self._held is not None:
            yield from self._settle(self._held, here)
        self._held = here

    def end(self) -> Iterator[Result]:
        """The last index of an installation has nothing behind it that could confirm it."""
        if self._held is not None:
            yield from self._settle(self._held, None)
        self._before = self._held = None

    def _settle(self, held: tuple[int, int], following: tuple[int, int] | None) -> Iterator[Result]:
        at, index = held
        assert self._facts.limits is not None
        step = classify(
            None if self._before is None else self._before[1],
            index,
            elapsed_s=0 if self._before is None else (at - self._before[0]) // 1000,
            limits=self._facts.limits,
            following=None if following is None else following[1],
            following_s=0 if following is None else (following[0] - at) // 1000,
        )
        rule = rule_at(self._rules, "step", at)
        if rule and self._before is not None and step.step in _DOUBTFUL:
            detail = f"{from_micro(self._before[1])} before, {from_micro(index)} now"
            yield Result(self._facts.meter, at, rule.id, rule.version, "suspect", step.step.name.lower(), detail)
        if self._before is None or step.step not in (Step.TRANSIENT, Step.PENDING):
            self._before = held


_DOUBTFUL: Final = LEVEL_CHANGES | {Step.TRANSIENT, Step.REVERSE, Step.CONFLICT, Step.PENDING}
