"""The control line: orders as JSON, refused as a whole or done as a whole."""

from __future__ import annotations

import json
from typing import Any

import pytest

from metering.clock import ManualClock
from simulators.farm_control import FarmControl
from simulators.simulated_meter import SimulatedMeter
from tests.simulators.meters import NOW, READ_INDEX, ListLog, make_meter


class Bench:
    """A control line over two meters."""

    def __init__(self) -> None:
        self.meters: dict[str, SimulatedMeter] = {"A": make_meter(ListLog()), "B": make_meter(ListLog())}
        self.flushes = 0
        self._control = FarmControl(self.meters, ManualClock(NOW), stats=lambda: {"meters": 2}, flush=self._flush)

    def say(self, order: Any) -> dict[str, Any]:
        """Send one order."""
        return self._control.obey(order if isinstance(order, bytes) else json.dumps(order).encode())

    def _flush(self) -> None:
        self.flushes += 1


def test_fault_is_switched_on_and_off_at_one_meter() -> None:
    bench = Bench()
    assert bench.say({"meter": "A", "fault": {"kind": "silent"}}) == {"ok": True, "meters": 1}
    assert [m.is_sick for m in bench.meters.values()] == [True, False]
    assert bench.say({"meter": "A", "fault": None}) == {"ok": True, "meters": 1}
    assert not bench.meters["A"].is_sick


def test_star_means_every_meter() -> None:
    bench = Bench()
    assert bench.say({"meter": "*", "fault": {"kind": "exception", "code": 6}})["meters"] == 2
    assert all(m.is_sick for m in bench.meters.values())


def test_index_flow_and_flags_can_be_set_together() -> None:
    bench = Bench()
    order = {"meter": "A", "index": "99.5", "flow": {"kind": "leak", "rate": 1}, "flags": ["MAGNET"]}
    assert bench.say(order)["ok"]
    assert bench.meters["A"].answer(READ_INDEX, NOW + 3_600_000) == bytes.fromhex(
        "0001 0000 0009 01 03 06 0000 0010 0500"
    )


def test_stats_and_flush_are_the_farms_own() -> None:
    bench = Bench()
    assert bench.say({"stats": True}) == {"ok": True, "meters": 2}
    assert bench.say({"flush": True}) == {"ok": True, "meters": 0}
    assert bench.flushes == 1


@pytest.mark.parametrize(
    ("order", "complaint"),
    [
        (b"hello\n", "Invalid JSON"),
        (b"[1]\n", "object"),
        (b"\xff\n", "Invalid JSON"),
        (b"[" * 100_000, "recursion"),
        ({}, "names a meter"),
        ({"meter": "C", "fault": None}, "no meter 'C'"),
        ({"meter": "A", "falt": None}, "falt"),
        ({"meter": "A", "fault": {"kind": "tired"}}, "fault.kind"),
        ({"meter": "A", "fault": {"kind": "late", "seconds": -1}}, "fault.seconds"),
        ({"meter": "A", "fault": {"kind": "silent"}, "index": "12,3"}, "not a decimal number"),
        ({"meter": "A", "fault": {"kind": "silent"}, "index": [1]}, "index"),
        ({"meter": "A", "flags": ["SHINY"]}, "flags.0"),
        ({"meter": ["A"], "fault": None}, "meter"),
    ],
)
def test_bad_orders_are_refused_in_words_and_change_nothing(order: Any, complaint: str) -> None:
    bench = Bench()
    answer = bench.say(order)
    assert answer["ok"] is False
    assert complaint.lower() in answer["error"].lower()
    assert not bench.meters["A"].is_sick
