"""The tap at a gateway's buses: both ways, bounded, rotating, per bus or meter, off by default, ended by itself."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import pytest

from gateway.meter_poll import Backoff
from gateway.poller import Poller
from gateway.tap import Tap, TapOrder
from gateway.tap_files import TapFiles
from gateway.tap_pieces import Piece, Pieces
from gateway.tap_settings import TapSettings
from metering.clock import SystemClock
from metering.errors import SettingsError
from metering.recording import Note, Recording, read_recording
from simulators.bus_farm import BusFarm
from tests.brokers import mosquitto
from tests.brokers import running as broker_running
from tests.gateway.drivers.buses import farm_of, plan_of, running, until
from tests.gateway.drivers.field import Kept, plan, running_driver, sender

METERS: list[dict[str, Any]] = [
    {"meter": "W-1", "profile": "water-cjt188", "address": "00000805000001"},
    {"meter": "E-1", "profile": "electricity-dlt645-2007", "address": "000000000161"},
]


def _poller(farm: BusFarm, *, interval_s: float = 0.1) -> Poller:
    host, _, port = farm.path("b").rpartition(":")
    bus = {"name": "b", "kind": "serial-tcp", "host": host, "port": int(port), "timeout_s": 5.0, "baud": 57_600}
    plan = plan_of(bus, meters=[{**each, "bus": "b", "interval_s": interval_s} for each in METERS])
    return Poller(
        plan, clock=SystemClock(), rng=random.Random(1), backoff=Backoff(), put=lambda row: True, pressure=lambda: 0.0
    )


def _tap(poller: Poller, folder: Path, **settings: Any) -> Tap:
    made = TapSettings.model_validate({"folder": folder, **settings})
    return Tap(
        made, "gw-t", clock=SystemClock(), buses=lambda: poller.buses.values(), pushed=lambda: None,
        orders=folder / "tap.json",
    )  # fmt: skip


@asynccontextmanager
async def _at_work(folder: Path, **settings: Any) -> AsyncIterator[tuple[Poller, Tap]]:
    async with running(farm_of(SystemClock(), {"name": "b", "kind": "tcp", "meter": METERS, "pace": False})) as farm:
        poller = _poller(farm)
        tap = _tap(poller, folder, **settings)
        work = [asyncio.ensure_future(poller.run()), asyncio.ensure_future(tap.run())]
        try:
            yield poller, tap
        finally:
            for task in work:
                task.cancel()
            await asyncio.gather(*work, return_exceptions=True)


def _read(folder: Path) -> Recording:
    return read_recording(*sorted(folder.glob("tap-*.jsonl")))


def test_off_by_default_nothing_listens_and_nothing_is_written(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with _at_work(tmp_path) as (poller, tap):
            await until(lambda: poller.counters["readings"] > 3)
            assert all(bus.link.tap is None for bus in poller.buses.values())
            assert tap.order is None

    asyncio.run(scenario())
    assert not list(tmp_path.glob("tap-*"))


def test_both_ways_with_both_times_and_the_meter_that_is_asked(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with _at_work(tmp_path, on=True) as (poller, _):
            await until(lambda: poller.counters["readings"] > 5)

    asyncio.run(scenario())
    found = _read(tmp_path)
    assert found.faults == []
    assert [(bus.name, bus.kind, bus.timeout_s) for bus in found.header.buses] == [("b", "serial-tcp", 5.0)]
    assert found.header.gateway == "gw-t"
    frames = found.frames
    assert {(f.dir, f.meter) for f in frames} == {(d, m) for d in ("tx", "rx") for m in ("W-1", "E-1")}
    asked = next(place for place, f in enumerate(frames) if f.dir == "tx" and f.meter == "W-1")
    # FE FE FE, then 68, T = 10 (cold water), the address with its low byte first, C = 01
    assert frames[asked].hex.lstrip("fe").startswith("68100100000508000001")
    assert frames[asked + 1].dir == "rx"
    assert frames[asked + 1].data.count(b"\x68") >= 1
    assert all(later.t >= sooner.t for sooner, later in pairwise(frames))
    offset = found.header.at - found.header.t * 1000
    assert all(abs(f.at - f.t * 1000 - offset) < 1000 for f in frames)  # two clocks, read one after the other
    assert found.notes[-1].note == "ended"


def test_one_meter_can_be_recorded_alone(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with _at_work(tmp_path) as (poller, tap):
            tap.start(TapOrder(0, meters=("E-1",)))
            await until(lambda: tap.counters["tap_lines"] > 6)
            tap.stop()
            lines = tap.counters["tap_lines"]
            before = poller.counters["readings"]
            await until(lambda: poller.counters["readings"] > before + 3)
            assert tap.counters["tap_lines"] == lines
            assert all(bus.link.tap is None for bus in poller.buses.values())

    asyncio.run(scenario())
    assert {frame.meter for frame in _read(tmp_path).frames} == {"E-1"}


def test_a_name_that_is_not_in_the_plan_is_answered_with_the_nearest(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with _at_work(tmp_path) as (_, tap):
            with pytest.raises(SettingsError, match=r'no bus "c".*\n.*no meter "W-2".*"W-1"'):
                tap.start(TapOrder(0, buses=("c",), meters=("W-2",)))
            assert tap.order is None

    asyncio.run(scenario())


def test_a_full_queue_drops_counts_and_says_so_and_the_bus_goes_on(tmp_path: Path) -> None:
    async def scenario() -> tuple[int, int]:
        async with _at_work(tmp_path, queue_lines=10) as (poller, tap):
            tap.start(TapOrder(0))
            for _ in range(500):  # all at once: no tick can empty the queue in between
                tap._take("b", "W-1", "tx", b"\x01", True)
            before = poller.counters["readings"]
            await until(lambda: tap.counters["tap_dropped"] and poller.counters["readings"] > before + 3)
            return tap.counters["tap_dropped"], poller.counters["failed_reads"]

    dropped, failed = asyncio.run(scenario())
    assert failed == 0
    found = _read(tmp_path)
    assert dropped >= 490
    assert found.dropped >= 490


def test_an_order_on_this_host_begins_and_ends_a_recording(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with _at_work(tmp_path) as (_, tap):
            order = TapOrder(SystemClock().now_ms() + 60_000, buses=("b",))
            (tmp_path / "tap.json").write_bytes(msgspec.json.encode(order))
            await until(lambda: tap.order == order)
            await until(lambda: tap.counters["tap_lines"] > 2)
            (tmp_path / "tap.json").write_bytes(msgspec.json.encode(TapOrder(0)))
            await until(lambda: tap.order is None)

    asyncio.run(scenario())
    assert _read(tmp_path).frames


def test_it_ends_by_itself(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with _at_work(tmp_path) as (_, tap):
            tap.start(TapOrder(SystemClock().now_ms() + 300))
            await until(lambda: tap.order is None)

    asyncio.run(scenario())
    assert _read(tmp_path).notes[-1].note == "ended"


def test_a_disk_that_refuses_costs_lines_and_nothing_else(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with _at_work(tmp_path) as (poller, tap):
            tap._settings = tap._settings.model_copy(update={"folder": tmp_path / "file" / "below"})
            (tmp_path / "file").write_text("in the way")
            tap.start(TapOrder(0))
            before = poller.counters["readings"]
            await until(lambda: tap.counters["tap_disk_errors"] > 1 and poller.counters["readings"] > before + 3)
            assert tap.counters["tap_dropped"] > 0
            assert poller.counters["failed_reads"] == 0

    asyncio.run(scenario())


def test_files_rotate_and_the_oldest_goes(tmp_path: Path) -> None:
    settings = TapSettings(folder=tmp_path, file_mb=0.001, files=3)
    files = TapFiles(settings, "tap-x", lambda part: b'{"line":"header","v":1,"part":%d}\n' % part)
    line = b'{"line":"note","t":1.0,"at":1,"note":"' + b"x" * 400 + b'"}\n'
    for _ in range(12):  # a header of 34 bytes and two lines of 441 fit into 1000 bytes
        files.write([line])
    files.close()
    kept = sorted(path.name for path in tmp_path.iterdir())
    assert kept == ["tap-x-0004.jsonl", "tap-x-0005.jsonl", "tap-x-0006.jsonl"]
    assert all(path.stat().st_size <= 1000 for path in tmp_path.iterdir())
    found = read_recording(tmp_path / kept[-1])
    assert (found.header.part, len(found.notes)) == (6, 2)
    assert isinstance(found.notes[0], Note)


def test_pieces_of_a_uart_become_one_frame_and_a_pause_parts_them() -> None:
    pieces = Pieces()

    def piece(t: float, data: bytes, way: Any = "rx") -> Piece:
        return Piece(t, round(t * 1000), way, "b", "W-1", data, True)

    assert pieces.add(piece(1.0, b"\x68\x10")) == []
    assert pieces.add(piece(1.008, b"\x01")) == []
    (first,) = pieces.add(piece(1.2, b"\x68"))
    assert (first.hex, first.t, first.pieces) == ("681001", 1.0, [(0.0, 2), (0.008, 1)])
    second, asked = pieces.add(piece(1.21, b"\x10", "tx"))
    assert (second.hex, asked.hex, asked.dir) == ("68", "10", "tx")
    assert pieces.add(piece(2.0, b"\x01")) == []
    assert pieces.settle(2.04) == []
    assert [frame.hex for frame in pieces.settle(2.06)] == ["01"]
    assert pieces.flush() == []


def test_messages_of_the_field_broker_are_recorded_with_their_topic(tmp_path: Path) -> None:
    async def scenario(port: int) -> None:
        meters = plan(("P-1", "p1", "json-meter-no-clock"))
        async with sender(port) as session, running_driver(tmp_path / "m", meters, port, Kept()) as driver:
            settings = TapSettings(folder=tmp_path, on=True)
            tap = Tap(settings, "gw-t", clock=SystemClock(), buses=lambda: (), pushed=lambda: driver)
            work = asyncio.ensure_future(tap.run())
            await until(lambda: driver.tap is not None)
            await session.publish("pulse/p1/state", b'{"total_m3": 7}')
            await until(lambda: tap.counters["tap_lines"] > 0)
            work.cancel()
            await asyncio.gather(work, return_exceptions=True)
            assert driver.tap is None

    with broker_running(mosquitto(tmp_path / "broker")) as broker:
        asyncio.run(scenario(broker.port))
    found = _read(tmp_path)
    (frame,) = found.frames
    assert (frame.topic, frame.data, frame.dir, frame.retain) == ("pulse/p1/state", b'{"total_m3": 7}', "rx", False)
    assert [(bus.name, bus.kind) for bus in found.header.buses] == [("mqtt", "mqtt")]
