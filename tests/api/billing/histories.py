"""Histories of usage points for billing tests: consumption is drawn, indexes are what counters would then show.

Imports nothing of the product, so that its arithmetic and its local time are a second opinion. All volumes are
integers in 10⁻⁶ m³, all times [ms UTC].

What passes during a slot passes at its end, so that whoever looks between two slots sees the earlier slot's index.
"""

from __future__ import annotations

import random
from bisect import bisect_right
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

MICRO = 1_000_000
DAY = 86_400_000
TOLERANCE = DAY
ZONES = ("Asia/Shanghai", "Europe/Berlin", "America/New_York", "Asia/Kolkata", "Australia/Lord_Howe", "UTC")


@dataclass
class Counter:
    """One counter at the usage point. end None: still there. told: whether the books know of start and end."""

    meter: str
    start: int
    index: int
    passed_before: int
    end: int | None = None
    final: int | None = None
    told: bool = True


@dataclass
class History:
    """A usage point. slots: times; passed: consumption up to each. readings: (meter, at) -> index as delivered."""

    seed: int
    zone: str
    digits: int
    resolution: int
    qmax: int
    slots: list[int]
    passed: list[int]
    counters: list[Counter] = field(default_factory=list)
    readings: dict[tuple[str, int], int] = field(default_factory=dict)
    bad: set[tuple[str, int]] = field(default_factory=set)
    delivery: list[tuple[str, int, int]] = field(default_factory=list)
    marks: set[str] = field(default_factory=set)

    @property
    def capacity(self) -> int:
        return 10**self.digits * MICRO

    def passed_at(self, moment: int) -> int:
        """What had passed at a moment: the truth."""
        place = bisect_right(self.slots, moment)
        return self.passed[place - 1] if place else 0

    def truth(self, first: int, last: int) -> int:
        """What passed between two moments."""
        return self.passed_at(last) - self.passed_at(first)

    def midnight(self, year: int, month: int, day: int) -> int:
        return round(datetime(year, month, day, tzinfo=ZoneInfo(self.zone)).timestamp() * 1000)

    def expected(self, moment: int) -> int | None:
        """Time of the index that stands for a boundary: the last good one, or one of the books; None: missing."""
        known = [at for (meter, at) in self.readings if (meter, at) not in self.bad and at <= moment]
        known += [c.start for c in self.counters if c.told and c.start <= moment]
        known += [c.end for c in self.counters if c.told and c.end is not None and c.end <= moment]
        latest = max(known, default=None)
        return latest if latest is not None and moment - latest <= TOLERANCE else None

    def secret_between(self, first: int, last: int) -> bool:
        """True when a counter changed that the books do not know of, so that nobody can know what passed."""
        return any(not c.told and first < c.start <= last for c in self.counters)


def draw(seed: int) -> History:
    """Draw one history of about three months."""
    rng = random.Random(seed)
    history = _frame(seed, rng)
    _install(history, rng)
    _read(history, rng)
    _spoil(history, rng)
    _lose(history, rng)
    rows = [(meter, at, index) for (meter, at), index in history.readings.items()]
    history.delivery = rows + rng.sample(rows, len(rows) // 10)
    rng.shuffle(history.delivery)
    return history


def _frame(seed: int, rng: random.Random) -> History:
    zone = rng.choice(ZONES)
    resolution = rng.choice((1_000, 10_000))
    qmax = rng.choice((6, 10, 25)) * MICRO
    a_day = rng.choice((1, 1, 1, 2, 2, 2, 4, 4, 6, 24))
    year, month, day = rng.choice((2023, 2024, 2025, 2027, 2028)), rng.randint(1, 12), rng.randint(1, 28)
    start = round(datetime(year, month, day, tzinfo=ZoneInfo(zone)).timestamp() * 1000)
    step = DAY // a_day
    count = (70 if a_day == 24 else 100) * a_day
    offset = rng.choice((0, 0, rng.randrange(step)))
    slots = [start + offset + n * step for n in range(count)]
    passed, total, hours = [], 0, 24 / a_day
    busy = rng.choice((0.0, 0.02, 0.02, 0.05, 0.3)) * qmax * hours / resolution
    backwards = rng.random() < 0.05
    for _ in slots:
        counts = int(rng.random() ** 2 * busy) if rng.random() < 0.8 else 0
        if backwards and rng.random() < 0.02:
            counts = -rng.randint(3, 200)
        total += counts * resolution
        passed.append(total)
    if rng.random() < 0.1:
        for n in sorted(rng.sample(range(1, count - 1), 5)):
            passed[n] -= rng.randint(1, 2) * resolution
    return History(seed, zone, rng.choice((4, 5, 6)), resolution, qmax, slots, passed)


def _install(history: History, rng: random.Random) -> None:
    low, high = 2_000 * MICRO // 10, history.capacity - 200 * MICRO
    index = rng.randrange(low, high, history.resolution)
    if rng.random() < 0.15:  # runs over its last digit within days
        index = history.capacity - rng.randint(1, 3000) * history.resolution
        history.marks.add("rollover")
    history.counters.append(Counter("M0", 0, index, 0))
    secret = rng.random() < 0.06
    for number in range(rng.choice((0, 0, 0, 1, 1, 2, 3))):
        _exchange(history, rng, f"M{number + 1}", told=True)
    if secret:
        history.marks.add("secret")
        _exchange(history, rng, "", told=False)


def _exchange(history: History, rng: random.Random, meter: str, *, told: bool) -> None:
    last = history.counters[-1]
    after = bisect_right(history.slots, last.start) + 8
    if after >= len(history.slots) - 8:
        return
    place = rng.randrange(after, len(history.slots) - 7)
    at = history.slots[place] + rng.choice((0, rng.randrange(1, 600_000)))
    if rng.random() < 0.1:  # exactly on a boundary
        day = datetime.fromtimestamp(at / 1000, ZoneInfo(history.zone)).date() + timedelta(days=1)
        at = history.midnight(day.year, day.month, day.day)
    before = history.passed_at(at)
    shown = (last.index + before - last.passed_before) % history.capacity
    if told:
        last.end, last.final = at, shown
        same = rng.random() < 0.3
        index = rng.choice((0, rng.randrange(0, 50_000 * history.resolution, history.resolution)))
        history.counters.append(Counter(last.meter if same else meter, at, index, before))
        return
    index = 0 if rng.random() < 0.3 else rng.randrange(0, history.capacity, history.resolution)
    far = 30 * 24 * 3 * history.qmax  # nearer than this, a month's flow would explain it and nobody could tell
    if min((shown - index) % history.capacity, (index - shown) % history.capacity) < min(far, history.capacity // 3):
        index = (shown + history.capacity // 2) % history.capacity
    history.counters.append(Counter(last.meter, at, index, before, told=False))


def _read(history: History, rng: random.Random) -> None:
    shaky = rng.choice((0, 0, 20_000))
    for place, slot in enumerate(history.slots):
        at = slot + (rng.randrange(shaky) if shaky else 0)
        counter = next(c for c in reversed(history.counters) if c.start <= at)
        until = next((c.start for c in history.counters if c.start > counter.start), None)
        if until is not None and at >= until:
            continue
        index = (counter.index + history.passed[place] - counter.passed_before) % history.capacity
        history.readings[counter.meter, at] = index


def _spoil(history: History, rng: random.Random) -> None:
    """Single bad values, never two in a row."""
    keys = sorted(history.readings, key=lambda key: key[1])
    for place in range(4, len(keys) - 4, 7):
        if rng.random() < 0.01:
            good = history.readings[keys[place]]
            wrong = rng.choice((0, history.capacity - history.resolution, good * 10 % history.capacity, good // 2))
            if abs(wrong - good) > 2_000 * MICRO // 10:
                history.readings[keys[place]] = wrong
                history.bad.add(keys[place])
                history.marks.add("transient")


def _lose(history: History, rng: random.Random) -> None:
    """Gaps: single readings, some hours, up to twelve days."""
    keys = sorted(history.readings, key=lambda key: key[1])
    lost: set[tuple[str, int]] = {key for key in keys if rng.random() < rng.choice((0.0, 0.01, 0.05))}
    for _ in range(rng.choice((0, 0, 1, 1, 2))):
        begin = rng.choice(keys)[1]
        end = begin + rng.choice((6 * DAY // 24, DAY, 3 * DAY, 12 * DAY))
        lost |= {key for key in keys if begin <= key[1] < end}
        history.marks.add("gap")
    for key in lost:
        history.readings.pop(key, None)
        history.bad.discard(key)
