"""A recording served on real sockets and pseudo-terminals: a gateway that polls it reads what was read before."""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict
from pathlib import Path
from typing import Any

from gateway.meter_poll import Backoff
from gateway.plan import Plan
from gateway.poller import Poller
from gateway.tap import Tap, TapOrder
from gateway.tap_settings import TapSettings
from metering.clock import SystemClock
from metering.reading import Event, Reading, Row
from metering.recording import Recording, read_recording
from simulators.farm_settings import FarmSettings
from simulators.modbus_farm import Farm
from simulators.replay import ReplayFarm
from tests.gateway.drivers.buses import PROFILES, farm_of, plan_of, running, until

METERS: list[dict[str, Any]] = [
    {"meter": "W-1", "profile": "water-cjt188", "address": "00000805000001"},
    {"meter": "E-1", "profile": "electricity-dlt645-2007", "address": "000000000161"},
    {"meter": "W-2", "profile": "water-mbus", "address": "5"},
]
FAULTS: list[dict[str, Any]] = [
    {"kind": "cut", "keep": 15, "share": 0.3},
    {"kind": "flip", "share": 0.4},
    {"kind": "noise", "size": 8, "share": 0.3},
]
Story = dict[str, list[Any]]


def _plan(path: str, meters: list[dict[str, Any]], kind: str) -> Plan:
    host, _, port = path.rpartition(":")
    place = {"device": path} if kind == "serial" else {"host": host, "port": int(port)}
    bus = {"name": "b", "kind": kind, "timeout_s": 2.0, "baud": 57_600, **place}
    return plan_of(bus, meters=[{**each, "bus": "b", "interval_s": 0.1} for each in meters])


async def _poll(plan: Plan, polls: int, tap_folder: Path | None = None) -> Story:
    """Poll each meter some times; return what was read of each, in order: values, or the cause of a failure."""
    story: Story = defaultdict(list)

    def put(row: Row) -> bool:
        if isinstance(row, Reading):
            story[row.meter].append(row.values)
        elif isinstance(row, Event) and row.kind == "read_failed":
            story[row.meter].append(row.cause)
        return True

    clock = SystemClock()
    backoff = Backoff(0.05, 0.05, 1.0)
    poller = Poller(plan, clock=clock, rng=random.Random(3), backoff=backoff, put=put, pressure=lambda: 0.0)
    work = [asyncio.ensure_future(poller.run())]
    if tap_folder is not None:
        tap = Tap(
            TapSettings(folder=tap_folder), "g", clock=clock, buses=lambda: poller.buses.values(), pushed=lambda: None
        )
        tap.start(TapOrder(0))
        work.append(asyncio.ensure_future(tap.run()))
    try:
        await until(lambda: all(len(story[m.meter]) >= polls for m in plan.meters), most_s=60)
    finally:
        for task in work:
            task.cancel()
        await asyncio.gather(*work, return_exceptions=True)
    return story


def _recorded(folder: Path) -> Recording:
    return read_recording(*sorted(folder.glob("*.jsonl")))


async def _again(recording: Recording, polls: int, meters: list[dict[str, Any]], kind: str, **how: Any) -> Story:
    farm = ReplayFarm(recording, SystemClock(), **how)
    await farm.start()
    try:
        return await _poll(_plan(farm.path("b"), meters, kind), polls)
    finally:
        await farm.close()


def _same(live: Story, again: Story, polls: int) -> None:
    for meter, read in live.items():
        assert again[meter][:polls] == read[:polls]


def test_a_sick_serial_bus_is_read_again_as_it_was_over_tcp_and_over_a_pseudo_terminal(tmp_path: Path) -> None:
    async def scenario() -> None:
        sick = [{**meter, "fault": fault, "curve": "counting"} for meter, fault in zip(METERS, FAULTS, strict=True)]
        async with running(
            farm_of(SystemClock(), {"name": "b", "kind": "tcp", "meter": sick, "pace": False})
        ) as farm:
            live = await _poll(_plan(farm.path("b"), METERS, "serial-tcp"), 4, tmp_path)
        assert any(isinstance(entry, str) for read in live.values() for entry in read), "no fault was recorded"
        recording = _recorded(tmp_path)
        _same(live, await _again(recording, 4, METERS, "serial-tcp", serial="tcp"), 4)
        _same(live, await _again(recording, 4, METERS, "serial", serial="pty", speed=0.0), 4)

    asyncio.run(scenario())


def test_modbus_tcp_meters_are_read_again_as_they_were(tmp_path: Path) -> None:
    meters = [{"meter": f"G-{unit}", "profile": "fuxin-corrector", "unit": unit} for unit in (1, 2)]
    faults = [{"kind": "exception", "code": 6, "share": 0.4}, {"kind": "bad_content", "share": 0.4}]

    async def scenario() -> None:
        sick = [{**meter, "curve": "counting", "fault": fault} for meter, fault in zip(meters, faults, strict=True)]
        farm = Farm(
            FarmSettings.model_validate({"port": [{"port": 0, "meter": sick}], "seed": 5}, strict=False),
            SystemClock(), profiles=PROFILES,
        )  # fmt: skip
        await farm.start()
        try:
            live = await _poll(_plan(f"127.0.0.1:{farm.ports[0]}", meters, "modbus-tcp"), 8, tmp_path)
        finally:
            await farm.close()
        recording = _recorded(tmp_path)
        _same(live, await _again(recording, 8, meters, "modbus-tcp"), 8)
        assert any(isinstance(entry, str) for entry in live["G-1"])

    asyncio.run(scenario())
