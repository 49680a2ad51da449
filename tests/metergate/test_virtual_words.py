"""The report as a person reads it, and what excuses a late answer."""

from __future__ import annotations

from collections import Counter
from typing import Any

from metergate.virtual_report import unexplained
from metergate.virtual_words import words


def report(**changes: Any) -> dict[str, Any]:
    return {
        "title": "A street", "seed": 3, "meters": 1000, "days": 30.0, "first_day": "2026-05-25",
        "frames": {"sent": 2000, "seen": 2000, "healthy_planned": 1900, "healthy_answered": 1900},
        "stored": {"readings": 1990, "answers": 2000, "lost": 0, "invented": 0, "worst_ms": 0, "late": 10,
                   "late_unexplained": 0, "in_quarantine": 0, "never_produced": 0},
        "found": {"events": 2, "found": 1, "recall": 0.5, "precision": 0.5, "false_per_1000_month": 1.0,
                  "kinds": {"leak": {"events": 2, "found": 1, "delay_h": 30.5, "false": 1}},
                  "missed": [{"meter": "taps-0001", "kind": "leak", "severity": "small", "because": "lasted 20 h"}],
                  "false_alarms": [{"meter": "taps-0002", "kind": "leak", "at": "2026-05-30T00:00:00.000Z",
                                    "because": "holiday_trip"}]},
        "billed": {"period": "2026-06", "states": {"billed": 990, "missing": 10}, "wrong": [], "unnamed": [],
                   "because": {"missing": {"meter_silent (event silent)": 10}}},
        "ordered": {"orders": 3, "types": {"leak_visit": 2, "meter_test": 1}},
        "exports": {"readings": "ab" * 32},
    } | changes  # fmt: skip


def test_a_report_tells_a_person_what_was_missed_and_why() -> None:
    text = words(report())
    assert text.startswith("A street, seed 3: 1,000 meters, 30 days from 2026-05-25 on\n")
    assert "1 of 2 events (recall 0.50)" in text
    assert "taps-0001 leak small: lasted 20 h" in text
    assert "taps-0002 leak 2026-05-30: holiday_trip" in text
    assert "10 missing: 10 meter_silent (event silent)" in text
    assert "10 of them have their failed read" in text
    assert max(map(len, text.splitlines())) <= 120


def test_where_nothing_was_to_be_found_an_alarm_is_still_told() -> None:
    found = report()["found"] | {"events": 0, "found": 0, "kinds": {}, "missed": []}
    assert "nothing was to be found; 1 alarms all the same" in words(report(found=found))
    quiet = found | {"false_alarms": []}
    assert "nothing was to be found, and nothing was" in words(report(found=quiet))


def test_each_late_answer_needs_a_failed_read_of_its_own_meter() -> None:
    late = Counter({"a": 3, "b": 1})
    assert unexplained(late, Counter({"a": 3, "b": 5})) == 0
    assert unexplained(late, Counter({"a": 1, "b": 5})) == 2, "failures of b excuse nothing at a"
