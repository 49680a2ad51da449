"""Serial buses under the gateway's own scheduler: what the meters said is what was kept; faults cost their share.

The judge is the simulator's answer log.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from gateway.bus_report import report
from gateway.links import serial_bus
from gateway.meter_poll import Backoff
from gateway.plan import Plan
from gateway.poller import Poller
from metergate.judge import judge
from metering.clock import Clock, SystemClock
from metering.quantities import Quantity
from metering.reading import Event, Reading, Row
from simulators.answer_log import read_answers
from simulators.bus_farm import BusFarm
from tests.gateway.drivers.buses import JumpClock, MemoryPort, farm_of, plan_of, running, until

MIXED: list[dict[str, Any]] = [
    {"meter": "G-1", "profile": "fuxin-corrector", "unit": 1},
    {"meter": "G-2", "profile": "gas-cjt188", "address": "33780020260001"},
    {"meter": "W-1", "profile": "water-cjt188", "address": "00000805000001"},
    {"meter": "E-1", "profile": "electricity-dlt645-2007", "address": "000000000161"},
    {"meter": "W-2", "profile": "water-mbus", "address": "5"},
]


def _poller(plan: Plan, clock: Clock, rows: list[Row]) -> Poller:
    def put(row: Row) -> bool:
        rows.append(row)
        return True

    return Poller(plan, clock=clock, rng=random.Random(5), backoff=Backoff(), put=put, pressure=lambda: 0.0)


def _in_memory(poller: Poller, farm: BusFarm, clock: Clock) -> None:
    """Put the simulated lines behind the poller's buses."""
    for bus in poller.buses.values():
        port = MemoryPort(farm.lines[bus.file.name])
        bus.link = serial_bus(
            bus.file, port, clock=clock, rng=random.Random(1), counters=poller.counters,
            on_up=bus._up, on_down=bus._down,
        )  # fmt: skip


def _billed(plan: Plan) -> dict[str, Quantity]:
    return {m.meter: m.profile.index.quantity for m in plan.meters if m.profile.index.quantity is not None}


def _readings(rows: Iterable[Row]) -> list[Reading]:
    return [row for row in rows if isinstance(row, Reading)]


async def _poll(poller: Poller, clock: JumpClock, seconds: float) -> None:
    task = asyncio.ensure_future(poller.run())
    await clock.work(clock.sleep(seconds))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def test_every_fault_of_a_bus_loses_nothing_and_invents_nothing(tmp_path: Path) -> None:
    """Five protocols on one pair for half an hour, every meter with another fault a tenth of the time."""
    faults: list[dict[str, Any]] = [
        {"kind": "flip", "share": 0.1},
        {"kind": "cut", "keep": 15, "share": 0.1},
        {"kind": "noise", "size": 8, "share": 0.3},
        {"kind": "wrong_address", "share": 0.1},
        {"kind": "silent", "share": 0.1},
    ]
    meters = [each | {"curve": "counting", "fault": fault} for each, fault in zip(MIXED, faults, strict=True)]

    async def scenario() -> None:
        clock = JumpClock()
        log = tmp_path / "answers.tsv"
        farm = farm_of(clock, {"name": "b", "baud": 9600, "meter": meters}, log=log)
        bus = {"name": "b", "kind": "serial", "device": "m", "timeout_s": 0.5}
        plan = plan_of(bus, meters=[{**each, "bus": "b", "interval_s": 10.0} for each in MIXED])
        rows: list[Row] = []
        poller = _poller(plan, clock, rows)
        _in_memory(poller, farm, clock)
        await _poll(poller, clock, 1800.0)
        farm._log.close()
        verdict = judge(read_answers(log), _readings(rows), _billed(plan))
        assert verdict.clean, f"{verdict}; {verdict.lost[:3]} {verdict.invented[:3]}"
        assert verdict.stored > 5 * 120
        kinds = {row.kind for row in rows if isinstance(row, Event)}
        assert kinds == {"read_failed", "read_recovered"}
        (said,) = report("g", poller.buses.values(), now_ms=clock.now_ms(), since_ms=0).buses
        of = {meter.meter: meter for meter in said.meters}
        assert of["G-1"].damaged > 5
        assert of["G-2"].damaged > 5
        assert of["E-1"].foreign > 5
        assert of["W-2"].silent > 5
        assert all(meter.answered > 100 for meter in said.meters)

    asyncio.run(scenario())


@pytest.mark.parametrize("dead", [0, 3])
def test_dead_meters_leave_the_others_their_rhythm(dead: int) -> None:
    """32 Modbus meters at 9600 baud, read every 5 s; the healthy ones keep 98 % of their readings."""

    async def scenario() -> float:
        clock = JumpClock()
        meters = [
            {"meter": f"G-{n}", "profile": "fuxin-corrector", "unit": n, "curve": "rest"}
            | ({"fault": {"kind": "silent"}} if n <= dead else {})
            for n in range(1, 33)
        ]
        farm = farm_of(clock, {"name": "b", "baud": 9600, "meter": meters})
        bus = {"name": "b", "kind": "serial", "device": "m", "timeout_s": 0.5}
        wanted = [{"meter": m["meter"], "profile": m["profile"], "unit": m["unit"], "bus": "b"} for m in meters]
        plan = plan_of(bus, meters=[{**each, "interval_s": 5.0} for each in wanted])
        rows: list[Row] = []
        poller = _poller(plan, clock, rows)
        _in_memory(poller, farm, clock)
        await _poll(poller, clock, 300.0)
        silent = {row.meter for row in rows if isinstance(row, Event)}
        assert silent == {f"G-{n}" for n in range(1, dead + 1)}
        return len(_readings(rows)) / ((32 - dead) * 60)

    assert asyncio.run(scenario()) > 0.98


def test_an_adapter_that_comes_and_goes_loses_no_answer(tmp_path: Path) -> None:
    """Real pseudo-terminal, real time: pulled out and put back twice while five protocols are polled."""

    async def scenario() -> None:
        clock = SystemClock()
        log = tmp_path / "answers.tsv"
        meters = [each | {"curve": "counting"} for each in MIXED]
        settings = {"name": "b", "kind": "pty", "link": tmp_path / "tty", "pace": False, "turnaround_s": 0.002}
        farm = farm_of(clock, settings | {"meter": meters}, log=log)
        async with running(farm):
            bus = {"name": "b", "kind": "serial", "device": farm.path("b"), "timeout_s": 2.0}
            plan = plan_of(bus, meters=[{**each, "bus": "b", "interval_s": 0.2} for each in MIXED])
            rows: list[Row] = []
            poller = _poller(plan, clock, rows)
            task = asyncio.ensure_future(poller.run())
            for _ in range(2):
                have = len(_readings(rows))
                await until(lambda have=have: len(_readings(rows)) > have + 20)
                farm.ports["b"].close()
                await until(lambda: not poller.buses["b"].link.up)
                await farm.ports["b"].open()
            have = len(_readings(rows))
            await until(lambda: len(_readings(rows)) > have + 20)
            await until(lambda: not poller.buses["b"].link.busy)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        served = list(read_answers(log))
        cut_off = [answer for answer in served if answer.index is not None][-1].number
        verdict = judge(served, _readings(rows), _billed(plan), excuse=lambda answer: answer.number > cut_off - 3)
        # an answer that was on the wire when the adapter was pulled reached nobody: at most one per pull
        assert len(verdict.lost) <= 2
        assert not verdict.invented
        assert len({answer.meter for answer in served}) == 5

    asyncio.run(scenario())
