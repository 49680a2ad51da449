"""What the rules of a virtual house found, held against the script; each miss and each false alarm with its reason.

A reason is looked for in the truth (how long, how much, since when) and in the limits that docs/anomaly.md promises.
What has none of these says so: that is what an engineer looks at next.
"""

from __future__ import annotations

from typing import Any, Final

import sqlalchemy as sa

from anomaly.findings import RULES
from anomaly.scoring import ACCEPTED, Event, Score, read_labels, score
from anomaly.thresholds import load_thresholds
from metergate.virtual import VirtualHouse
from metering.clock import rfc3339
from registry.database import Database
from registry.models_findings import FindingRecord
from simulators.fleet.model import DAY, QUARTERS
from simulators.scenario_fleet import SimMeter

_LEARNT_DAYS: Final = 10
"""[d] of ordinary life before an event that the rules of habit need (anomaly.rules: fewest_days)."""
_LASTS_H: Final = {
    "leak": 48.0, "leak:burst": 7.0, "leak_intermittent": 96.0, "zero_use": 168.0, "stuck": 48.0, "high_use": 168.0,
    "tamper": 336.0, "drift": 480.0, "comms_loss": 52.0, "reverse_flow": 1.0, "unauthorised": 1.0,
}  # fmt: skip
"""[h] for which an event must last before its rule can say anything, by docs/anomaly.md."""
_OF_HABIT: Final = frozenset({"high_use", "tamper", "drift", "stuck", "leak_intermittent", "zero_use"})
NO_REASON: Final = "no reason known: look at it"


def found(house: VirtualHouse, database: Database) -> dict[str, Any]:
    """Return recall, precision and delay per kind, and by name what was missed and what was wrong."""
    rows = _findings(house, database)
    labels = read_labels(house.folder / "labels.csv", house.folder / "hard_negatives.csv")
    result: Score = score(
        rows,
        labels,
        intervals={meter.name: float(meter.group.interval_s) for meter in house.meters},
        meter_days=len(house.meters) * house.scenario.days,
    )
    meters = {meter.name: meter for meter in house.meters}
    return {
        "findings": len(rows),
        "events": sum(each.events for each in result.kinds.values()),
        "found": sum(each.found for each in result.kinds.values()),
        "recall": round(result.recall, 3),
        "precision": round(result.precision, 3),
        "false_per_1000_month": round(result.false_per_1000, 2),
        "kinds": {kind: _kind(each) for kind, each in result.kinds.items()},
        "missed": [_missed(house, meters[event.meter], event, rows) for event in result.missed],
        "false_alarms": [
            {
                "meter": meter,
                "kind": kind,
                "at": rfc3339(int(at) * 1000),
                "because": _because(meters[meter], situation),
            }
            for meter, kind, at, situation in result.false_alarms
        ],
        "wrong_kind": result.wrong,
    }


def _kind(each: Any) -> dict[str, Any]:
    return {
        "events": each.events,
        "found": each.found,
        "recall": round(each.recall, 3),
        "precision": round(each.precision, 3),
        "delay_h": None if each.delay_h is None else round(each.delay_h, 2),
        "false": each.false + each.wrong,
    }


def _findings(house: VirtualHouse, database: Database) -> list[dict[str, Any]]:
    names = {meter.name for meter in house.meters}
    columns = (FindingRecord.meter, FindingRecord.kind, FindingRecord.detected_at, FindingRecord.cleared_at)
    with database.read() as connection:
        rows = connection.execute(sa.select(*columns).order_by(FindingRecord.detected_at, FindingRecord.key)).all()
    return [
        {
            "meter_id": row.meter,
            "kind": row.kind,
            "detected_at": row.detected_at / 1000,
            "until": float("inf") if row.cleared_at is None else row.cleared_at / 1000,
        }
        for row in rows
        if row.meter in names
    ]


def _missed(house: VirtualHouse, meter: SimMeter, event: Event, rows: list[dict[str, Any]]) -> dict[str, str]:
    own = [row for row in rows if row["meter_id"] == event.meter and row["until"] >= event.start]
    return {
        "meter": event.meter,
        "kind": event.kind,
        "severity": event.severity,
        "from": rfc3339(int(event.start) * 1000),
        "because": why_missed(house, meter, event, own) or NO_REASON,
    }


def why_missed(house: VirtualHouse, meter: SimMeter, event: Event, own: list[dict[str, Any]]) -> str:
    """Say why an event could not be found, "" when nothing in the truth explains it. own: findings at the meter."""
    accepted = ACCEPTED.get(event.kind, {event.kind})
    late = [row for row in own if row["kind"] in accepted and row["detected_at"] >= event.start]
    if late:
        return f"found after {(late[0]['detected_at'] - event.start) / 3600:.0f} h, later than the limit of its kind"
    lasted, needed = (event.end - event.start) / 3600, _LASTS_H.get(f"{event.kind}:{event.severity}")
    needed = needed or _LASTS_H.get(event.kind, 0.0)
    if lasted < needed:
        return f"lasted {lasted:.0f} h; its rule needs {needed:.0f} h"
    known_days = (event.start - meter.facts.start) / DAY
    if event.kind in _OF_HABIT and known_days < _LEARNT_DAYS:
        return f"only {known_days:.0f} days of habit were known; its rule needs {_LEARNT_DAYS}"
    if why := _too_small(house, meter, event):
        return why
    explained = {kind for info in RULES.values() if info.kind in accepted for kind in info.suppressed_by}
    other = [row["kind"] for row in own if row["kind"] in explained and row["detected_at"] <= event.end]
    if other:
        return f"explained by an open finding {other[0]} at the same meter (one finding per cause)"
    apart = sorted({s.kind for s in meter.trace.situations if s.start < event.end and event.start < s.end})
    return f"among {', '.join(apart)}" if apart else ""


def _too_small(house: VirtualHouse, meter: SimMeter, event: Event) -> str:
    """Hold a high use against the month's limit of its class."""
    if event.kind != "high_use":
        return ""
    group = meter.group
    limit = load_thresholds().source(
        "high_use.month_limit", house.scenario.start, medium=group.medium, customer_class=group.customer_class
    )
    part = meter.trace.part(meter.facts, event.start, event.end)
    month = float(meter.trace.use[part].mean()) * QUARTERS * 30
    if month >= limit.value:
        return ""
    return f"{month:.0f} in 30 days; the limit of {group.customer_class} {group.medium} is {limit.value:.0f}"


def _because(meter: SimMeter, situation: str) -> str:
    return f"{situation}, {meter.group.medium} {meter.group.customer_class}, habit {meter.facts.habit}"
