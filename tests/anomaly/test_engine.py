"""The engine on whole fleets: order of arrival, restart, and no look-ahead."""

from __future__ import annotations

import copy

import numpy as np
import pytest

from anomaly.engine import Engine
from anomaly.files import Readings
from anomaly.memory import facts_of
from anomaly.run import TIMER_S, feed, next_timer, run
from anomaly.thresholds import load_thresholds
from api.screens.evidence import UNITS
from tests.anomaly.fleet import autumn_run, before, lines, sample_autumn, small_fleet, small_run

HOUR = 3600


def shuffled(rows: Readings, seed: int) -> Readings:
    """The same rows with other delays of up to 3 h (the engine waits 4 h), every tenth sent twice.

    Rows that were later than that keep their arrival: the engine does not promise the same moment of detection there.
    """
    rng = np.random.default_rng(seed)
    late = rows.received - rows.ts
    free = (late >= 0) & (late < 3 * HOUR)
    received = np.where(free, rows.ts + rng.integers(0, 3 * HOUR, len(rows)), rows.received)
    again = np.flatnonzero(free & (rng.random(len(rows)) < 0.1))
    order = np.concatenate([np.arange(len(rows)), again])
    out = rows.take(order)
    out.received = np.concatenate([received, rows.ts[again] + rng.integers(0, 3 * HOUR, again.size)])
    return out.take(np.argsort(out.received, kind="stable"))


def test_shuffled_and_duplicated_readings_give_the_same_findings():
    meters, rows = small_fleet()
    base = lines(small_run())
    alarms = [line for line in base if not line["kind"].startswith("info")]
    assert len(alarms) >= 50
    assert len({line["kind"] for line in alarms}) >= 8
    first, last = int(rows.received[0]), int(rows.received[-1])
    engine = Engine(meters, load_thresholds(), start_s=first)
    timer = feed(engine, before(shuffled(rows, 1), last), next_timer(first))
    for now in range(timer, last + 1, TIMER_S):  # both runs end with the same timer
        engine.tick(now)
    assert lines(engine) == base


def test_every_number_that_proves_a_finding_has_a_name_and_a_unit_for_people():
    # of the pages, and yet here: it looks at the run of this file, which is too long to make twice
    found = [facts_of(f, f.detected_s, usage_point="", wiring={}) for f in small_run().book.findings]
    keys = set().union(*(facts.evidence for facts in found))
    assert {"held_per_h", "fell_by", "silent_h", "step"} <= keys
    assert keys <= set(UNITS)


@pytest.mark.parametrize("share", [0.6])
def test_a_run_that_is_cut_and_restarted_ends_with_the_same_findings(share: float):
    meters, rows = sample_autumn()
    first = int(rows.received[0])
    timer = next_timer(first) + int(share * (rows.received[-1] - first)) // TIMER_S * TIMER_S
    done = before(rows, timer)
    engine = Engine(meters, load_thresholds(), start_s=first)
    assert feed(engine, done, next_timer(first)) in (timer, timer + TIMER_S)
    engine.tick(timer)
    kept = [copy.deepcopy(f) for f in engine.book.findings]
    again = Engine(meters, load_thresholds(), start_s=first)
    again.resume(done.meter, done.ts, done.received, done.micro, done.flags, findings=kept, now_s=timer)
    feed(again, rows.take(slice(len(done), None)), timer + TIMER_S)
    assert lines(again) == lines(autumn_run())


@pytest.mark.parametrize("share", [0.35, 0.65])
def test_cutting_the_input_changes_no_finding_that_was_detected_before_the_cut(share: float):
    meters, rows = sample_autumn()
    cut = int(rows.received[int(share * len(rows))])
    part = run(meters, before(rows, cut), load_thresholds())

    def known(engine: Engine) -> list[tuple[object, ...]]:
        return sorted(
            (f.meter_id, f.kind, f.rule, f.started_s, f.detected_s, f.severity)
            for f in engine.book.findings
            if f.detected_s <= cut
        )

    assert known(part) == known(autumn_run())
    assert len(known(part)) >= 3


def test_every_finding_is_stamped_by_a_timer_or_never_before_its_readings_arrived():
    _, rows = sample_autumn()
    arrivals = set(rows.received.tolist())
    for finding in autumn_run().book.findings:
        assert finding.detected_s % 900 == 0 or finding.detected_s in arrivals
        assert finding.detected_s >= finding.at_s
