"""Continuous leak: flow that never stops, although this meter used to stand still.

Sources: Badger (above a threshold in every hour of 24), Kamstrup (no still hour in 24 h above 0.1-2 % of Q3), Neptune
(96 of 96 quarter hours), Itron (N midnight-to-midnight days). They count still hours against one threshold. Here the
width of the window grows with the resolution (a 0.1 m³ counter cannot show a still hour), the streak of days that is
asked for grows with how often this meter, and its peers today, run without a still window anyway, and the floor must
be flat: a leak puts the same rate under every idle hour, a boiler does not.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from anomaly.statistics import (
    Flags,
    Floats,
    count_known,
    known_less,
    known_more,
    mean_known,
    quantiles,
    trailing_run,
)
from anomaly.verdict import Verdict


def continuous(
    smallest: Floats,
    lower: Floats,
    total: Floats,
    *,
    hours: int,
    resolution: Floats,
    peers: Floats,
    prior: Floats,
    min_rate: Floats,
    min_score: Floats,
    max_habit: Floats,
    flatness: Floats,
) -> Verdict:
    """Judge by windows of `hours` hours.

    smallest, lower: [unit] smallest and lower-quartile consumption of such windows per day, [days, meters]. total:
    [unit/d]. peers:
    share of similar meters that have no still window today. prior: share assumed while the meter is young.
    min_rate: [unit/h] slower flow is not judged here. min_score: streak in days times ln(1/habit) that is enough.
    max_habit: above this share of restless days the meter is not judged by this rule. flatness: how far the lower
    quartile may lie above the smallest window.
    """
    still_below = np.maximum(0.5 * resolution, hours * min_rate - resolution)
    known = ~np.isnan(smallest)
    restless = known_more(smallest, still_below)
    flat = restless & known_less(lower, flatness * smallest + 1.05 * resolution)
    streak = trailing_run(restless, known, neutral_unknown=True)
    flats = trailing_run(flat, known, neutral_unknown=True)
    habit = _habit(restless, known, streak, prior)
    score = streak * -np.log(np.clip(np.maximum(habit, peers), 1e-3, 0.999))
    rate = np.where(streak > 0, _recent(lower) / hours, 0.0)
    on = (score >= min_score) & (habit <= max_habit) & (flats >= 2) & (flats >= 0.6 * streak)
    on &= (rate + 0.5 * resolution / hours >= min_rate) & known[-1]
    if hours > 1:
        on &= rate <= 1.5 * resolution  # a faster leak shows in every single hour
    on &= ~_beyond(total, streak, rate)
    hold = restless[-1] | ~known[-1]
    return Verdict(
        on,
        hold,
        streak * 24.0,
        {
            "rate_per_h": rate,
            "days_without_still_window": streak,
            "habit": habit,
            "window_h": np.full(streak.shape, hours),
        },
    )


def _beyond(total: Floats, streak: Any, rate: Floats) -> Flags:
    """True when the day's use rose by far more than the floor explains: somebody heats or works, it does not leak."""
    days = total.shape[0]
    before = np.where(np.arange(days)[:, None] < days - streak[None, :] - 1, total, np.nan)
    usual = quantiles(before, (0.5,), fewest=4)[0]
    now = quantiles(total[-3:], (0.5,), fewest=1)[0]
    return known_more(now - usual, 2.5 * 24 * rate + 0.6 * usual)


def _habit(restless: Flags, known: Flags, streak: Any, prior: Floats) -> Floats:
    """Share of restless days before the streak, shrunk towards `prior` by 3 days."""
    days = restless.shape[0]
    before = known & (np.arange(days)[:, None] < days - streak[None, :] - 1)
    count = np.count_nonzero(before, axis=0)
    return np.asarray((np.count_nonzero(restless & before, axis=0) + 1.5 * prior) / (count + 1.5))


def _recent(values: Floats) -> Floats:
    """Median of the last three days."""
    return quantiles(values[-3:], (0.5,), fewest=1)[0]


def floor_rise(
    smallest: Floats,
    total: Floats,
    *,
    hours: int,
    resolution: Floats,
    min_rate: Floats,
    min_rise: Floats,
    days: int = 4,
    fewest_days: int = 12,
) -> Verdict:
    """A leak under flow that never stops: the floor of the day rises and stays (24/7 industry, flushing, boilers).

    smallest: [unit] smallest window of `hours` per day, total: [unit/d], [days, meters]. min_rise: share by which the
    lowest of the last `days` floors must exceed the highest floor of the weeks before. The day as a whole must have
    risen by about the same: more is a surge of work.
    """
    floor = smallest / hours
    recent, before = floor[-days:], floor[:-days]
    low_now = quantiles(recent, (0.0,), fewest=days - 1)[0]
    high_before, mid_before = quantiles(before, (0.97, 0.5), fewest=fewest_days)
    rise = low_now - mid_before
    on = known_more(low_now, high_before * (1 + min_rise) + resolution / hours) & known_more(rise, min_rate)
    on &= known_more(mid_before, 0.5 * resolution / hours)
    grown = (
        quantiles(total[-days:], (0.5,), fewest=days - 1)[0] - quantiles(total[:-days], (0.5,), fewest=fewest_days)[0]
    )
    on &= known_less(grown, 2.0 * 24 * rise) & known_more(grown, 0.3 * 24 * rise)
    hold = known_more(floor[-1], mid_before + 0.5 * rise) | np.isnan(floor[-1])
    back = np.full(on.shape, 24.0 * days)
    return Verdict(on, hold, back, {"rate_per_h": rise, "floor_before": mid_before, "floor_now": low_now})


def micro(
    smallest: Floats,
    lower: Floats,
    *,
    hours: int,
    resolution: Floats,
    min_days: Floats,
    flatness: Floats,
    applies: Flags,
) -> Verdict:
    """Flow without a stop for `min_days` days, however small, and flat: it is the same under every idle hour.

    Source: Japanese microcomputer gas meters (30 days without a stop: micro-leak), which judge the meter's own hours.
    """
    known = ~np.isnan(smallest)
    restless = known_more(smallest, 0.5 * resolution)
    flat = restless & known_less(lower, flatness * smallest + 1.05 * resolution)
    streak = trailing_run(restless, known, neutral_unknown=True)
    on = applies & (streak >= min_days) & (count_known(smallest) >= min_days)
    on &= np.count_nonzero(flat, axis=0) >= 0.7 * min_days
    hold = restless[-1] | ~known[-1]
    evidence = {"days_without_still_window": streak, "rate_per_h": _recent(smallest) / hours}
    return Verdict(on, hold, streak * 24.0, evidence)


def daily_shift(
    total: Floats,
    *,
    peers: Floats,
    festival: Flags,
    min_rate: Floats,
    max_rise: Floats,
    min_score: float,
    days: int,
    fewest_days: int = 14,
) -> Verdict:
    """A leak in daily indexes: the level rises at once, even the quietest days, and scatters no more than before.

    total: [unit/d], [days, meters]. peers: movement of the group. min_rate: [unit/h]. max_rise: [unit/d] more on
    top is high use, not a leak. min_score: rise over its standard error. days: looked at.
    """
    level = total / np.maximum(peers, 0.2)
    recent = np.where(festival[-days:, None], np.nan, level[-days:])
    before = level[: -days - 1]
    mean_before, mean_now = mean_known(before, fewest=fewest_days), mean_known(recent, fewest=days - 1)
    spread = np.sqrt(mean_known((before - mean_before) ** 2, fewest=fewest_days))
    rise = mean_now - mean_before
    score = rise / np.maximum(spread * np.sqrt(1.0 / days + 1.0 / 25), 1e-6)
    median, high = quantiles(before, (0.5, 0.75), fewest=fewest_days)
    lowest = quantiles(recent, (0.0,), fewest=days - 1)[0]
    steady = np.sqrt(mean_known((recent - mean_now) ** 2, fewest=3))
    on = known_more(score, min_score) & known_more(lowest, np.maximum(median, high - spread))
    on &= known_more(mean_before, 0.2 * mean_now) & known_more(mean_before, 0.08)
    on &= known_more(rise / 24, min_rate) & known_less(rise, max_rise) & known_less(steady, 1.6 * spread)
    hold = known_more(level[-1], mean_before + 0.4 * rise) | np.isnan(level[-1])
    evidence = {"rate_per_h": rise / 24, "score": score, "per_day_before": mean_before, "per_day": mean_now}
    return Verdict(on, hold, np.full(on.shape, 24.0 * days), evidence)


def daily_burst(total: Floats, *, min_rate: Floats, min_ratio: float, fewest_days: int = 7) -> Verdict:
    """A burst in daily indexes: one day far above every day before. min_rate: [unit/h] over the whole day."""
    top = quantiles(total[:-1], (1.0,), fewest=fewest_days)[0]
    on = known_more(total[-1], np.maximum(24 * min_rate, min_ratio * top))
    hold = known_more(total[-1], top)
    return Verdict(on, hold, np.full(on.shape, 24.0), {"per_day": total[-1], "largest_day_before": top})
