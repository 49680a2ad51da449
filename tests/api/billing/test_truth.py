"""Every billed total equals the consumption that was drawn, to the last digit; what nobody can know is not billed."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from zoneinfo import ZoneInfo

import pytest

from api.billing.calendars import Bounds, Calendar, Calendars
from api.billing.chain import Sample, limits_for
from api.billing.rules import Rules
from api.billing.totals import Outcome, Point, Stay, total
from tests.api.billing.histories import TOLERANCE, History, draw

RULES = Rules(tolerance_ms=TOLERANCE)


@dataclass
class Score:
    """What became of the totals. wrong: sentences of totals that were billed and are not the truth."""

    counts: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    not_billed: list[str] = field(default_factory=list)


def point_of(history: History) -> Point:
    limits = limits_for("gas", "residential", history.digits, history.resolution, history.qmax)
    told = [counter for counter in history.counters if counter.told]
    return Point(
        "P1",
        [
            Stay(
                counter.meter,
                "volume",
                limits,
                counter.start,
                counter.end,
                counter.index if counter.start else None,
                counter.final,
            )
            for counter in told
        ],
    )


def samples_of(history: History) -> dict[str, list[Sample]]:
    """What a store holds after the shuffled delivery with its duplicates: one reading a key, in order of time."""
    stored = {(meter, at): index for meter, at, index in history.delivery}
    found: dict[str, list[Sample]] = {}
    for (meter, at), index in sorted(stored.items()):
        found.setdefault(meter, []).append(Sample(at, index))
    return found


def periods_of(history: History) -> list[Bounds]:
    """The periods that lie inside the history; their boundaries are checked against the history's own local time."""
    day = 1 + history.seed % 28
    calendars = Calendars((Calendar("", "", day, day),))
    first = datetime.fromtimestamp(history.slots[0] / 1000, ZoneInfo(history.zone))
    found = []
    for month in range(1, 5):
        year, place = divmod(first.year * 12 + first.month - 1 + month, 12)
        bounds = calendars.bounds("", "", f"{year:04d}-{place + 1:02d}", history.zone)
        assert bounds is not None
        assert bounds.end == history.midnight(year, place + 1, day)
        if bounds.start >= history.slots[0] and bounds.end <= history.slots[-1]:
            found.append(bounds)
    return found


def judge(history: History, bounds: Bounds, outcome: Outcome, score: Score) -> None:
    opening, closing = history.expected(bounds.start), history.expected(bounds.end)
    knowable = opening is not None and closing is not None and not history.secret_between(opening, closing)
    before = any(not counter.told and counter.start <= bounds.end for counter in history.counters)
    name = f"seed {history.seed}, {bounds.period}, {sorted(history.marks)}: {outcome.state} {outcome.cause}"
    score.counts[outcome.state] += 1
    if outcome.state == "billed":
        first, last = outcome.lines[0].opening.at, outcome.lines[-1].closing.at
        if outcome.consumption != history.truth(first, last):
            score.wrong.append(f"{name}: {outcome.consumption}, the truth is {history.truth(first, last)}")
        if not (bounds.start - TOLERANCE <= first <= bounds.start and bounds.end - TOLERANCE <= last <= bounds.end):
            score.wrong.append(f"{name}: an index outside the tolerance")
        if history.secret_between(first, last):
            score.wrong.append(f"{name}: billed across a change that the books do not know")
    if outcome.cause == "negative" and outcome.consumption is not None and outcome.consumption < 0:
        score.counts["ran back"] += 1  # known, and for a person to look at
    elif knowable and not before:
        score.counts["knowable"] += 1
        score.counts["knowable billed"] += outcome.state == "billed"
        if outcome.state != "billed":
            score.not_billed.append(f"{name}: {outcome.detail}")
    elif not knowable:
        score.counts["unknowable"] += 1
        if outcome.state == "billed":
            score.wrong.append(f"{name}: billed, and nobody can know it")


def run(seeds: range) -> Score:
    score = Score()
    for seed in seeds:
        history = draw(seed)
        point, samples = point_of(history), samples_of(history)
        for bounds in periods_of(history):
            judge(history, bounds, total(point, bounds, samples, RULES), score)
        for mark in history.marks:
            score.counts[mark] += 1
    return score


def check(score: Score, histories: int) -> None:
    assert not score.wrong, f"{len(score.wrong)} totals: " + "; ".join(score.wrong[:5])
    counts = score.counts
    assert counts["knowable billed"] >= 0.99 * counts["knowable"], score.not_billed[:20]
    assert counts["knowable"] > histories
    assert counts["unknowable"] > histories // 50
    for mark in ("rollover", "secret", "transient", "gap"):
        assert counts[mark] > histories // 50, mark


def test_every_billed_total_of_five_hundred_histories_is_the_consumption_that_was_drawn() -> None:
    check(run(range(500)), 500)


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_every_billed_total_of_ten_thousand_histories_is_the_consumption_that_was_drawn() -> None:
    check(run(range(10_000)), 10_000)
