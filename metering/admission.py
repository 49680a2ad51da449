"""The one module that decides whether a row is plausible in time, value and identity. Pure: limits are arguments.

Gateway, ingest and `detect` ask it, so that a row refused at one place is not welcome at another. A verdict is one of

    admit        nothing speaks against it
    suspect      keep it, and say beside it why it is doubted
    quarantine   keep its bytes aside, out of every total

A doubtful value is never an exception and never changed here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final, Literal

from metering.messages import OFFICE
from metering.quantities import INT64_MAX, Quantity, survives_float
from metering.reading import Reading

Decision = Literal["admit", "suspect", "quarantine"]

EXACT_MICRO: Final = 10**15
"""Below this magnitude [10⁻⁶] a value has at most 15 digits, so that a float keeps it: no closer look is needed."""

MAX_ID: Final = 64


@dataclass(frozen=True, slots=True)
class Verdict:
    """What to do with a row. reason: a short code for counting; detail: a sentence for a person."""

    decision: Decision
    reason: str = ""
    detail: str = ""


ADMIT: Final = Verdict("admit")


@dataclass(frozen=True, slots=True)
class TimeLimits:
    """Which times are plausible, all in [ms].

    earliest_ms: nothing was read before this moment (UTC since 1970): 1970 itself and 2000-01-01, the birthday of
    every meter clock whose battery died, lie before it. behind_ms: how old a row may be. ahead_ms: how far its time
    may lie in our future. doubt_ahead_ms: from here on it is kept as suspect, because a clock is wrong.
    office_behind_ms: how old a row may be that a person or a file brought: opening indexes of an old system.
    """

    earliest_ms: int = 1_420_070_400_000  # 2015-01-01T00:00:00Z
    behind_ms: int = 400 * 86_400_000
    ahead_ms: int = 300_000
    doubt_ahead_ms: int = 60_000
    office_behind_ms: int = 3660 * 86_400_000

    def of(self, gateway: str) -> TimeLimits:
        """Return the limits for rows of this gateway: the office may bring what is far in the past."""
        return replace(self, behind_ms=self.office_behind_ms) if gateway == OFFICE else self

    def window(self, now: int) -> tuple[int, int]:
        """Return the first and last time [ms UTC] that is admitted without doubt at the moment `now`."""
        return max(self.earliest_ms, now - self.behind_ms), now + self.doubt_ahead_ms


def judge_time(at: int, now: int, limits: TimeLimits) -> Verdict:
    """Judge the time `at` of a row at the moment `now`, both [ms UTC]."""
    low, surely = limits.window(now)
    high = now + limits.ahead_ms
    if low <= at <= surely:
        return ADMIT
    if surely < at <= high:
        return Verdict("suspect", "time_ahead", f"its time lies {at - now} ms in the future")
    for factor, unit in ((1000, "seconds"), (1_000_000, "thousands of seconds")):
        if at < low <= at * factor <= high:
            return Verdict("quarantine", "time_unit", f"{at} looks like {unit}, not milliseconds")
        if at > high >= at // factor >= low:
            return Verdict("quarantine", "time_unit", f"{at} is {factor} times a plausible time in milliseconds")
    if at < low:
        return Verdict("quarantine", "time_past", f"{at} is before {low}, the oldest time admitted now")
    return Verdict("quarantine", "time_future", f"{at} is after {high}, the latest time admitted now")


@dataclass(frozen=True, slots=True)
class ClockLimits:
    """What a meter's own clock may do, in [ms]; None: it is not judged.

    off_ms: how far it may be from the time of the reading. frozen_ms: how long it may stand still.
    """

    off_ms: int | None = 3_600_000
    frozen_ms: int | None = 3_600_000


@dataclass(frozen=True, slots=True)
class ClockRules:
    """Limits with the moment [ms UTC] from which on they judge a reading, by its own time; ascending."""

    versions: tuple[tuple[int, ClockLimits], ...] = ((0, ClockLimits()),)

    def at(self, moment: int) -> ClockLimits:
        """Return the limits for a reading of this moment."""
        found = ClockLimits(None, None)
        for since, limits in self.versions:
            if since <= moment:
                found = limits
        return found

    @property
    def never_doubted_ms(self) -> int:
        """Up to this difference no version doubts a running clock."""
        return min((limits.off_ms for _, limits in self.versions if limits.off_ms is not None), default=2**62)


def judge_clock(meter_time: int, read_at: int, stood_ms: int, limits: ClockLimits) -> Verdict:
    """Judge what a meter's clock said at `read_at`, both [ms UTC]. stood_ms: for how long it has said the same.

    A clock that stands still may be that of a device that answers with old values; one far off gives days and months
    that nobody can rely on. The reading is kept, and doubted.
    """
    if limits.frozen_ms is not None and stood_ms >= limits.frozen_ms:
        return Verdict("suspect", "clock_frozen", f"the meter's clock has stood still for {stood_ms // 1000} s")
    off = abs(meter_time - read_at)
    if limits.off_ms is not None and off > limits.off_ms:
        return Verdict("suspect", "clock_off", f"the meter's clock is off by {off // 1000} s")
    return ADMIT


def judge_values(values: Mapping[Quantity, int]) -> Verdict:
    """Judge quantities in 10⁻⁶ of their house units: inside int64, and exact after a trip through a float.

    InfluxDB keeps floats, so that a value of more than 15 significant digits may come back as another number.
    """
    if not values:
        return Verdict("quarantine", "no_values", "a reading without any quantity")
    for quantity, micro in values.items():
        if -EXACT_MICRO < micro < EXACT_MICRO:
            continue
        if abs(micro) > INT64_MAX:
            return Verdict("quarantine", "value_range", f"{quantity} = {micro} leaves int64")
        if not survives_float(micro):
            return Verdict("quarantine", "value_digits", f"{quantity} = {micro} has more digits than a float keeps")
    return ADMIT


def judge_identity(meter: str, owner: str | None, gateway: str) -> Verdict:
    """Judge who speaks: `owner` is the gateway that the registry names for this meter, None when it knows none.

    The office may speak for every meter that the registry knows.
    """
    if not meter or len(meter) > MAX_ID:
        return Verdict("quarantine", "meter_id", f"a meter id has 1 to {MAX_ID} characters, this one {len(meter)}")
    if "\0" in meter or any("\ud800" <= letter <= "\udfff" for letter in meter):
        return Verdict("quarantine", "meter_id", "a meter id holds a NUL or half a character")
    if owner is None:
        return Verdict("quarantine", "unknown_meter", f"the registry knows no meter {meter!r}")
    if gateway not in (owner, OFFICE):
        return Verdict("quarantine", "foreign_meter", f"meter {meter!r} belongs to gateway {owner}, not to {gateway}")
    return ADMIT


def judge_origin(quality: str, source: str, *, estimates: bool = False) -> Verdict:
    """Judge what the sender says of its own value.

    estimates: whether the utility switched estimates on. A corrected value never enters the store: a correction is
    a record in the registry.
    """
    if quality == "edited":
        return Verdict("quarantine", "edited", "a corrected value belongs into the registry, not into the store")
    if not estimates and (quality == "estimated" or source == "estimate"):
        return Verdict("quarantine", "estimate", "estimates are not switched on")
    return ADMIT


def judge(
    reading: Reading,
    *,
    owner: str | None,
    gateway: str,
    now: int,
    limits: TimeLimits,
    estimates: bool = False,
    clock: ClockRules | None = None,
    stood_ms: int = 0,
) -> Verdict:
    """Judge a whole reading: identity first, then time, values, origin and clock; the first refusal speaks.

    clock, stood_ms: rules for the meter's own clock, and for how long it has said the same; without rules none asks.
    """
    verdicts = [
        judge_identity(reading.meter, owner, gateway),
        judge_time(reading.read_at, now, limits.of(gateway)),
        judge_values(reading.values),
        judge_origin(reading.quality, reading.source, estimates=estimates),
    ]
    if clock is not None and reading.meter_time is not None:
        verdicts.append(judge_clock(reading.meter_time, reading.read_at, stood_ms, clock.at(reading.read_at)))
    for wanted in ("quarantine", "suspect"):
        for verdict in verdicts:
            if verdict.decision == wanted:
                return verdict
    return ADMIT
