"""Feeds the rules: which history, which thresholds and which exclusions each one gets, at the end of a local day."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from anomaly.meters import CLASSES, MEDIA
from anomaly.rules import drift, high_use, leak, leak_intermittent, stuck, tamper, zero_use
from anomaly.shard import HISTORY, View
from anomaly.statistics import known_more
from anomaly.verdict import Verdict

Flags = NDArray[np.bool_]

WINDOWS: Final = (1, 3, 6)
"""[h] windows by which a continuous leak is looked for; wider ones serve coarse counters and slow leaks."""
BUSINESS: Final = tuple(CLASSES.index(name) for name in ("restaurant", "commercial", "public", "industrial"))
HOME: Final = CLASSES.index("residential")
HEATING: Final = CLASSES.index("residential_heating")


def daily_verdicts(view: View, excluded: Flags) -> dict[str, Verdict]:
    """Verdict of every daily rule. excluded: [meters] valve closed or not commissioned: rest is ordinary there."""
    out = _rest(view, excluded)
    out |= _level(view, excluded)
    if view.shard.hourly:
        out |= _leaks(view)
    else:
        out |= _daily_leaks(view)
    return out


def _daily_leaks(view: View) -> dict[str, Verdict]:
    fluid, total = ~view.of(view.shard.electric), view.history("total")
    kind = view.of(view.shard.table.customer_class)
    business, boiler = np.isin(kind, BUSINESS), kind == HEATING
    shift = leak.daily_shift(
        total,
        peers=view.peers,
        festival=view.festival(HISTORY, "guests"),
        min_rate=view.value("leak.min_rate"),
        max_rise=0.75 * view.value("high_use.month_limit") / 30,
        min_score=view.shard.thresholds.number("leak.daily_min_score"),
        days=7,
    )
    burst = leak.daily_burst(
        total, min_rate=view.value("burst.min_share") * view.of(view.shard.table.qmax), min_ratio=2.5
    )
    return {"leak_daily": _only(shift, fluid & ~business & ~boiler), "burst": _only(burst, fluid & ~business)}


def _leaks(view: View) -> dict[str, Verdict]:
    fluid, kind = ~view.of(view.shard.electric), view.of(view.shard.table.customer_class)
    out: dict[str, Verdict] = {}
    best: Verdict | None = None
    for hours in WINDOWS:
        smallest, lower = view.history(f"min{hours}"), view.history(f"low{hours}")
        verdict = leak.continuous(
            smallest,
            lower,
            view.history("total"),
            hours=hours,
            resolution=view.of(view.shard.table.resolution),
            peers=_peer_share(view, f"min{hours}"),
            prior=view.value("leak.prior"),
            min_rate=view.value("leak.min_rate"),
            min_score=view.value("leak.min_score"),
            max_habit=view.value("leak.max_habit"),
            flatness=view.value("leak.flatness"),
        )
        best = verdict if best is None else _either(best, verdict)
    assert best is not None
    out["leak_continuous"] = _only(best, fluid)
    out["leak_floor"] = _only(
        leak.floor_rise(
            view.history("min3", 30),
            view.history("total", 30),
            hours=3,
            resolution=view.of(view.shard.table.resolution),
            min_rate=view.value("leak.floor_min_rate"),
            min_rise=view.value("leak.floor_rise"),
        ),
        fluid & (np.isin(kind, BUSINESS) | ~gas(view)),
    )
    out["micro_leak"] = leak.micro(
        view.history("min3"),
        view.history("low3"),
        hours=3,
        resolution=view.of(view.shard.table.resolution),
        min_days=view.value("leak.micro_days"),
        flatness=view.value("leak.flatness"),
        applies=fluid & (view.of(view.shard.table.customer_class) == HOME),
    )
    out["leak_intermittent"] = _only(
        leak_intermittent.intermittent(
            view.history("active", 35),
            view.history("seen", 35),
            view.history("steady", 35),
            view.history("total", 35),
            min_rate=view.value("leak_intermittent.min_rate"),
            max_rate=view.value("leak_intermittent.max_rate"),
            recent_days=8,
            min_run=view.value("leak_intermittent.min_run"),
            max_habit=view.value("leak_intermittent.max_habit"),
            min_hours=view.value("leak_intermittent.min_hours"),
            min_days=view.value("leak_intermittent.min_days"),
        ),
        fluid,
    )
    return out


def _rest(view: View, excluded: Flags) -> dict[str, Verdict]:
    total, still = view.history("total"), view.of(view.shard.still_hour)
    kind = view.of(view.shard.table.customer_class)
    always = np.zeros(view.meters, bool)
    if view.shard.hourly:
        run = zero_use.zero_run(total, still_below=still)
        before = np.arange(HISTORY)[:, None] < HISTORY - run[None, :] - 1
        zeros = np.where(before, view.history("zeros"), np.nan)
        known = np.where(before, view.history("known"), np.nan)
        share = float(view.shard.thresholds.number("stuck.max_still_share"))
        always = zero_use.always_on(zeros, known, max_share=share)
    return {
        "zero_use": zero_use.zero_use(
            total,
            still_below=still,
            festival=view.festival(HISTORY, "festival"),
            min_days=view.value("zero_use.min_days"),
            festival_days=view.value("zero_use.festival_days"),
            business=np.isin(kind, BUSINESS),
            excluded=excluded,
        ),
        "stuck": stuck.stuck(
            total,
            still_below=still,
            always_on=always,
            min_days=view.value("stuck.min_days"),
            excluded=excluded,
        ),
        "long_zero": zero_use.long_zero(
            view.history("total", 190),
            still_below=still,
            min_days=view.value("zero_use.long_days"),
            excluded=excluded,
        ),
    }


def _level(view: View, excluded: Flags) -> dict[str, Verdict]:
    total, peers = view.history("total"), view.peers
    out = {
        "high_use": high_use.high_use(
            total,
            peers=peers,
            festival=view.festival(HISTORY, "guests"),
            month_limit=view.value("high_use.month_limit"),
            min_ratio=view.value("high_use.min_ratio"),
            days=7,
        ),
        "month_over_limit": high_use.month_over_limit(
            total,
            month_limit=view.value("high_use.household_second"),
            applies=view.value("high_use.household_second") > 0,
        ),
        "month_over_first": high_use.month_over_limit(
            total,
            month_limit=view.value("high_use.household_first"),
            applies=view.value("high_use.household_first") > 0,
        ),
        "tamper_drop": _only(
            tamper.drop(
                _without_festival(view, total),
                peers=peers,
                min_ratio=view.value("tamper.min_ratio"),
                still_below=view.of(view.shard.still_hour),
                max_ratio=view.value("tamper.max_ratio"),
                max_spread=view.value("tamper.max_spread"),
            ),
            ~excluded,
        ),
        "drift": _only(
            drift.drift(
                total,
                peers=peers,
                min_shift=view.value("drift.min_shift"),
                max_shift=view.value("drift.max_shift"),
                min_score=view.value("drift.min_score"),
                days=14,
            ),
            ~excluded,
        ),
    }
    if view.shard.hourly:
        out["over_range"] = high_use.over_range(
            view.history("held6", 2),
            qmax=view.of(view.shard.table.qmax),
            min_ratio=view.value("over_range.min_ratio"),
        )
    return out


def _without_festival(view: View, total: NDArray[Any]) -> NDArray[Any]:
    """Shops close, boilers and standing loads run for nobody: their days around the Spring Festival say nothing."""
    kind = view.of(view.shard.table.customer_class)
    moved = np.isin(kind, (*BUSINESS, HEATING)) | view.of(view.shard.electric)
    festive = view.festival(HISTORY, "festival")
    return np.where(festive[:, None] & moved[None, :], np.nan, total)


def _peer_share(view: View, name: str) -> NDArray[Any]:
    """Share of each meter's group that had no still window today; 0 for a group too small to say."""
    shard = view.shard
    smallest = shard.history(name, view.day, 1)[0]
    restless, known = known_more(smallest, shard.still_hour), ~np.isnan(smallest)
    count = np.bincount(shard.group[known], minlength=shard.groups)
    hits = np.bincount(shard.group[known & restless], minlength=shard.groups)
    share = np.where(count >= 20, hits / np.maximum(count, 1), 0.0)
    return np.asarray(share[view.of(shard.group)])


def _either(left: Verdict, right: Verdict) -> Verdict:
    """On when one is; numbers of the one that is on, the left one first."""
    pick = ~left.on & right.on
    return Verdict(
        left.on | right.on,
        np.where(pick, right.hold, left.hold),
        np.where(pick, right.back_h, left.back_h),
        {name: np.where(pick, right.evidence[name], left.evidence[name]) for name in left.evidence},
    )


def _only(verdict: Verdict, applies: Flags) -> Verdict:
    verdict.on &= applies
    return verdict


def gas(view: View) -> Flags:
    """True for gas meters."""
    return np.asarray(view.of(view.shard.table.medium) == MEDIA.index("gas"))
