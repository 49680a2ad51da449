"""Scores findings against labels, by the rules of the sample fleet's scorer.

A finding hits an event of an accepted kind from 1 h and one interval before its start to 24 h and one interval after
its end. An event counts as found when a hit comes within the limit of its kind. A finding inside an `ignore` label of
its kind (and 24 h after) is dropped; one that hits nothing is wrong (inside another event) or false, and the same
meter and kind within 7 days is the same alarm. Times are [s since 1970].
"""

from __future__ import annotations

import csv
import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from metering.clock import parse_rfc3339
from metering.errors import SettingsError

HOUR: Final = 3600.0
DAY: Final = 86_400.0
SAME_ALARM_S: Final = 7 * DAY
AFTER_S: Final = DAY

ACCEPTED: Final = {
    "leak": {"leak", "leak_intermittent"},
    "leak_intermittent": {"leak", "leak_intermittent"},
    "zero_use": {"zero_use", "stuck"},
    "stuck": {"zero_use", "stuck"},
    "spike": {"spike", "unit_error"},
    "unit_error": {"spike", "unit_error"},
}
LIMIT_H: Final = {
    "leak": 168.0,
    "leak:burst": 48.0,
    "leak:masked": 336.0,
    "leak_intermittent": 336.0,
    "zero_use": 9999.0,
    "stuck": 336.0,
    "reverse_flow": 72.0,
    "high_use": 9999.0,
    "comms_loss": 96.0,
    "tamper": 720.0,
    "unauthorised": 72.0,
    "drift": 1080.0,
    "spike": 24.0,
    "unit_error": 48.0,
}


@dataclass(slots=True)
class Event:
    """A labelled event."""

    meter: str
    kind: str
    severity: str
    start: float
    end: float
    hit: float | None = None
    touched: bool = False

    def deadline(self, interval: float) -> float:
        limit = LIMIT_H.get(f"{self.kind}:{self.severity}", LIMIT_H.get(self.kind, 9999.0))
        return min(self.start + HOUR * limit + 2 * interval, self.end + AFTER_S + interval)

    def holds(self, at: float, interval: float) -> bool:
        return self.start - HOUR - interval <= at <= self.end + AFTER_S + interval

    def accepts(self, kind: str) -> bool:
        burst = kind == "high_use" and self.severity == "burst"
        return burst or kind in ACCEPTED.get(self.kind, {self.kind})


@dataclass(slots=True)
class Labels:
    """Events, ignored spans and ordinary situations of a fleet, by meter."""

    events: dict[str, list[Event]] = field(default_factory=lambda: defaultdict(list))
    ignored: dict[str, list[tuple[float, float, frozenset[str] | None]]] = field(
        default_factory=lambda: defaultdict(list)
    )
    ordinary: dict[str, list[tuple[float, float, str]]] = field(default_factory=lambda: defaultdict(list))


@dataclass(frozen=True, slots=True)
class KindScore:
    """Score of one kind. delay_h: median [h] of the found ones. false_per_1000: per 1,000 meters and 30 days."""

    events: int
    found: int
    recall: float
    precision: float
    f1: float
    delay_h: float | None
    false: int
    wrong: int
    false_per_1000: float
    by_severity: dict[str, tuple[int, int]]


@dataclass(frozen=True, slots=True)
class Score:
    """Score of a run. missed, false_alarms: what a person looks at next."""

    recall: float
    precision: float
    micro_f1: float
    macro_f1: float
    false_per_1000: float
    wrong: int
    kinds: dict[str, KindScore]
    missed: list[Event]
    false_alarms: list[tuple[str, str, float, str]]


def read_labels(labels: Path, ordinary: Path | None = None) -> Labels:
    """Read labels.csv and, when given, hard_negatives.csv. Raises: SettingsError with the line."""
    out = Labels()
    for line, row in _rows(labels, ("meter_id", "kind", "start", "end")):
        start, end = _time(labels, line, row["start"]), _time(labels, line, row["end"])
        severity = row.get("severity") or ""
        if row["kind"] == "ignore":
            kinds = None if severity == "any" else frozenset(severity.split())
            out.ignored[row["meter_id"]].append((start, end, kinds))
        else:
            out.events[row["meter_id"]].append(Event(row["meter_id"], row["kind"], severity, start, end))
    for line, row in _rows(ordinary, ("meter_id", "kind", "start", "end")) if ordinary else ():
        span = (_time(labels, line, row["start"]), _time(labels, line, row["end"]), row["kind"])
        out.ordinary[row["meter_id"]].append(span)
    return out


def _rows(path: Path, needed: tuple[str, ...]) -> Iterable[tuple[int, dict[str, str]]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            for name in needed:
                if name not in (reader.fieldnames or ()):
                    raise SettingsError(f"{path}: line 1: column {name} is missing")
            yield from enumerate(reader, 2)
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{path}: cannot be read: {error}") from error


def _time(path: Path, line: int, text: str) -> float:
    try:
        return parse_rfc3339(text.replace("Z", "+00:00")) / 1000
    except ValueError as error:
        raise SettingsError(f"{path}: line {line}: {error}") from error


def score(
    findings: Iterable[dict[str, Any]], labels: Labels, *, intervals: dict[str, float], meter_days: float
) -> Score:
    """findings: meter_id, kind, detected_at (text or [s]). intervals: [s] per meter. Info never counts."""
    alarms = sorted((_alarm(item) for item in findings), key=lambda alarm: alarm[2])
    hits: dict[str, set[int]] = defaultdict(set)
    last_hit: dict[tuple[str, str], float] = {}
    last_bad: dict[tuple[str, str, bool], float] = {}
    false, wrong, false_alarms = Counter[str](), Counter[str](), list[tuple[str, str, float, str]]()
    events = [event for group in labels.events.values() for event in group]
    for event in events:
        event.hit, event.touched = None, False
    numbers = {id(event): i for i, event in enumerate(events)}
    for meter, kind, at in alarms:
        if kind.startswith("info") or meter not in intervals:
            continue
        inside = [event for event in labels.events.get(meter, ()) if event.holds(at, intervals[meter])]
        met = [event for event in inside if event.accepts(kind)]
        for event in met:
            hits[kind].add(numbers[id(event)])
            event.touched = True
            if event.hit is None and at <= event.deadline(intervals[meter]):
                event.hit = at
        if met:
            last_hit[meter, kind] = at
        elif not _ignored(labels, meter, kind, at) and at - last_hit.get((meter, kind), -1e18) > SAME_ALARM_S:
            key = (meter, kind, bool(inside))
            if at - last_bad.get(key, -1e18) > SAME_ALARM_S:
                last_bad[key] = at
                (wrong if inside else false)[kind] += 1
                if not inside:
                    false_alarms.append((meter, kind, at, _situation(labels, meter, at)))
    return _summary(events, numbers, hits, false, wrong, false_alarms, meter_days)


def _summary(
    events: list[Event],
    numbers: dict[int, int],
    hits: dict[str, set[int]],
    false: Counter[str],
    wrong: Counter[str],
    false_alarms: list[tuple[str, str, float, str]],
    meter_days: float,
) -> Score:
    months = max(meter_days / 30_000, 1e-9)
    kinds = {
        kind: _kind_score(
            kind, [e for e in events if e.kind == kind], numbers, hits, false[kind], wrong[kind], months
        )
        for kind in sorted({event.kind for event in events})
    }
    found = sum(event.hit is not None for event in events)
    good = len(set().union(*hits.values())) if hits else 0
    bad = sum(false.values()) + sum(wrong.values())
    precision = good / (good + bad) if good + bad else 0.0
    recall = found / len(events) if events else 0.0
    macro = statistics.fmean(item.f1 for item in kinds.values()) if kinds else 0.0
    return Score(
        recall,
        precision,
        f1(precision, recall),
        macro,
        sum(false.values()) / months,
        sum(wrong.values()),
        kinds,
        [event for event in events if event.hit is None],
        false_alarms,
    )


def _kind_score(
    kind: str,
    own: list[Event],
    numbers: dict[int, int],
    hits: dict[str, set[int]],
    false: int,
    wrong: int,
    months: float,
) -> KindScore:
    """An alarm of this kind that hit counts once per event; so does an event of it hit by an accepted sibling."""
    found = [event for event in own if event.hit is not None]
    good = len(hits[kind] | {numbers[id(event)] for event in own if event.touched})
    precision = good / (good + false + wrong) if good + false + wrong else 0.0
    recall = len(found) / len(own)
    delays = [max(0.0, (event.hit or 0.0) - event.start) / HOUR for event in found]
    severities = sorted({event.severity for event in own})
    return KindScore(
        len(own),
        len(found),
        recall,
        precision,
        f1(precision, recall),
        statistics.median(delays) if delays else None,
        false,
        wrong,
        false / months,
        {s: (sum(e.severity == s for e in found), sum(e.severity == s for e in own)) for s in severities},
    )


def f1(precision: float, recall: float) -> float:
    """Harmonic mean; 0 when both are."""
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def _alarm(item: dict[str, Any]) -> tuple[str, str, float]:
    at = item["detected_at"]
    seconds = float(at) if isinstance(at, int | float) else parse_rfc3339(str(at).replace("Z", "+00:00")) / 1000
    return str(item["meter_id"]), str(item["kind"]), seconds


def _ignored(labels: Labels, meter: str, kind: str, at: float) -> bool:
    spans = labels.ignored.get(meter, ())
    return any(start <= at <= end + AFTER_S and (kinds is None or kind in kinds) for start, end, kinds in spans)


def _situation(labels: Labels, meter: str, at: float) -> str:
    names = sorted({name for start, end, name in labels.ordinary.get(meter, ()) if start <= at <= end + AFTER_S})
    return " ".join(names) or "ordinary use"
