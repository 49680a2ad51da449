"""Polling by the plan: rhythm, failures as events, and one sick meter that costs only its own share."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from gateway.drivers.modbus_tcp import ModbusTcpLink
from gateway.meter_poll import Backoff
from gateway.plan import parse_plan
from gateway.poller import Poller, silent_meters
from gateway.profiles import load_profiles
from metering.clock import ManualClock
from metering.reading import Event, Reading, Row
from tests.gateway.drivers.raw_server import RawServer, good, raw_server, until

PROFILES = load_profiles()
START = ManualClock().now_ms()


def _water(request: bytes) -> list[bytes]:
    """USW: reverse 1 mL, forward 1000 mL × unit."""
    return [good(request, (1).to_bytes(8, "big") + (1000 * request[6]).to_bytes(8, "big"))]


@dataclass
class _Site:
    """A poller on a clock that the test moves, and the rows it made."""

    clock: ManualClock
    server: RawServer
    poller: Poller
    rows: list[Row]
    pressure: list[float]
    room: list[bool] = field(default_factory=lambda: [True])

    def readings(self, meter: str = "") -> list[Reading]:
        return [row for row in self.rows if isinstance(row, Reading) and meter in ("", row.meter)]

    def events(self, kind: str = "") -> list[Event]:
        return [row for row in self.rows if isinstance(row, Event) and kind in ("", row.kind)]

    async def run(self, seconds: float, step: float = 0.05) -> None:
        """Let time pass in small steps, with real time for the sockets in between."""
        for _ in range(round(seconds / step)):
            await self.clock.advance(step)
            await asyncio.sleep(0.0005)


def _plan(port: int, units: int, interval_s: float, *, profile: str = "usw-ultrasonic", more: str = "") -> str:
    lines = [f'gateway = "gw"\n[[bus]]\nname = "bus"\nhost = "127.0.0.1"\nport = {port}\ntimeout_s = 1.0\n{more}']
    for unit in range(1, units + 1):
        lines.append(
            f'[[meter]]\nmeter = "W-{unit}"\nbus = "bus"\nunit = {unit}\nprofile = "{profile}"\n'
            f"interval_s = {interval_s}\n"
        )
    return "".join(lines)


@asynccontextmanager
async def _site(
    answer: Callable[[bytes], list[bytes] | None], *, units: int = 1, interval_s: float = 1.0,
    profile: str = "usw-ultrasonic", more: str = "", port: int = 0,
) -> AsyncIterator[_Site]:  # fmt: skip
    clock = ManualClock()
    rows: list[Row] = []
    pressure, room = [0.0], [True]
    async with raw_server(answer, port) as server:

        def put(row: Row) -> bool:
            if room[0]:
                rows.append(row)
            return room[0]

        poller = Poller(
            parse_plan(_plan(server.port, units, interval_s, profile=profile, more=more), PROFILES, name="plan"),
            clock=clock, rng=random.Random(3), backoff=Backoff(), put=put, pressure=lambda: pressure[0],
        )  # fmt: skip
        task = asyncio.ensure_future(poller.run())
        site = _Site(clock, server, poller, rows, pressure, room)
        try:
            await _connected(site)
            yield site
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


async def _connected(site: _Site) -> None:
    """The first connection takes real time; the test's clock waits for it."""
    while not site.server.connections and site.server.port:
        await site.clock.advance(0.01)
        await asyncio.sleep(0.0005)
    await until(lambda: site.poller.buses["bus"].link.up)


def test_a_reading_has_the_meters_exact_values_and_the_time_of_its_answer() -> None:
    async def scenario() -> None:
        async with _site(_water, units=2) as site:
            await site.run(5.0)
            first = site.readings("W-2")[0]
            assert first.values == {"volume_reverse": 1, "volume": 2000}
            assert (first.quality, first.source, first.reason) == ("valid", "poll", "")
            assert START <= first.read_at <= START + 1200
            assert site.events() == []

    asyncio.run(scenario())


def test_meters_are_spread_over_the_interval_and_do_not_drift() -> None:
    async def scenario() -> None:
        async with _site(_water, units=10, interval_s=10.0) as site:
            await site.run(61.0)
            for unit in range(1, 11):
                times = [reading.read_at for reading in site.readings(f"W-{unit}")]
                assert len(times) in (6, 7)
                assert all(abs(b - a - 10_000) <= 60 for a, b in itertools.pairwise(times)), times
            firsts = sorted(site.readings(f"W-{unit}")[0].read_at for unit in range(1, 11))
            assert all(b - a > 10 for a, b in itertools.pairwise(firsts)), "not all at once"
            assert firsts[-1] - firsts[0] > 7000
            assert site.poller.counters["skipped"] == 0

    asyncio.run(scenario())


def test_an_overrun_skips_and_counts_and_nothing_piles_up() -> None:
    async def scenario() -> None:
        async with _site(_water, units=1, interval_s=0.2, more="in_flight = 1\n") as site:
            await site.run(2.0)
            before, skipped = len(site.readings()), site.poller.counters["skipped"]
            held: list[bytes] = []
            site.server.answer = lambda r: held.append(r) or []  # type: ignore[func-returns-value]
            while not held:
                await site.run(0.05)
            await site.run(0.7)
            site.server.answer = _water
            for writer in site.server.writers:
                writer.write(_water(held[0])[0])
            await until(lambda: len(site.readings()) > before)
            assert site.poller.counters["skipped"] - skipped in (3, 4)
            count = len(site.readings())
            await site.run(1.0)
            assert len(site.readings()) - count <= 6, "the missed ones are not made up for"

    asyncio.run(scenario())


def test_a_failed_read_is_an_event_and_never_a_value() -> None:
    async def scenario() -> None:
        async with _site(_water) as site:
            await site.run(3.0)
            count = len(site.readings())
            site.server.answer = lambda r: []
            await site.run(120.0)
            assert len(site.readings()) in (count, count + 1), "neither a 0 nor a repeat"
            failed = site.events("read_failed")
            assert failed[0].count == 1
            assert failed[0].cause == "timeout"
            assert failed[0].meter == "W-1"
            assert 3 <= len(failed) <= 6, "1st, 2nd, 4th, 8th … failure"
            assert silent_meters(site.poller.buses.values()) == ["W-1"]
            total = site.poller.counters["failed_reads"]
            assert sum(event.count for event in failed) <= total
            site.server.answer = _water
            await site.run(330.0, 0.1)
            (recovered,) = site.events("read_recovered")
            assert recovered.count == site.poller.counters["failed_reads"] >= total
            assert site.poller.meters_silent == 0
            later = site.readings()[-20:]
            assert all(abs(b.read_at - a.read_at - 1000) <= 120 for a, b in itertools.pairwise(later))

    asyncio.run(scenario())


def test_one_silent_meter_costs_its_bus_a_tenth_at_most_and_the_others_nothing_more() -> None:
    async def scenario() -> None:
        async with _site(_water, units=5) as site:
            site.server.answer = lambda r: [] if r[6] == 3 else _water(r)
            await site.run(120.0)
            probes = sum(1 for request in site.server.requests if request[6] == 3)
            assert 3 <= probes <= 13, "1 s of waiting each, in 120 s"
            for unit in (1, 2, 4, 5):
                assert len(site.readings(f"W-{unit}")) >= 120 - 2 * probes - 5
            assert site.readings("W-3") == []

    asyncio.run(scenario())


def test_damaged_answers_are_events_with_the_kind_of_damage() -> None:
    async def scenario() -> None:
        async with _site(lambda r: [good(r, bytes(14))]) as site:
            await site.run(20.0)
            assert site.readings() == []
            assert {event.cause for event in site.events()} == {"frame_length"}
            assert site.poller.counters["frame_length"] == site.poller.counters["failed_reads"]

    asyncio.run(scenario())


def test_an_impossible_index_is_an_event_and_an_impossible_side_value_makes_the_reading_suspect() -> None:
    fuxin = bytes.fromhex("40220C4A 000012431116 40200000 122856864222 41AD3127 42CC6C8B")

    async def scenario() -> None:
        async with _site(lambda r: [good(r, fuxin)], profile="fuxin-corrector") as site:
            await site.run(3.0)
            assert site.readings()[-1].values["volume_standard"] == 1_243_111_600
            assert site.readings()[-1].quality == "valid"
            site.server.answer = lambda r: [good(r, fuxin[:14] + b"\xab" + fuxin[15:])]
            await site.run(2.0)
            last = site.readings()[-1]
            assert (last.quality, last.reason) == ("suspect", "bad_actual_total")
            assert "volume_actual" not in last.values
            count = len(site.readings())
            site.server.answer = lambda r: [good(r, fuxin[:4] + b"\xab" + fuxin[5:])]
            await site.run(3.0)
            assert len(site.readings()) <= count + 1
            assert {event.cause for event in site.events()} == {"bad_bcd"}

    asyncio.run(scenario())


def test_an_index_that_the_meter_calls_not_available_is_an_event() -> None:
    async def scenario() -> None:
        async with _site(lambda r: [good(r, b"\xff" * 2 * r[11])], profile="abb-b23") as site:
            await site.run(3.0)
            assert site.readings() == []
            assert {event.cause for event in site.events()} == {"not_available"}

    asyncio.run(scenario())


def test_a_block_refused_with_exception_02_is_parted_and_remembered() -> None:
    """A meter without the registers of flow at 0010H and of temperature at 001AH."""
    image = {0x12: "000012431116", 0x17: "122856864222", 0x1C: "42CC6C8B"}
    words = {
        start + i: bytes.fromhex(text)[2 * i : 2 * i + 2]
        for start, text in image.items()
        for i in range(len(text) // 4)
    }

    def answer(request: bytes) -> list[bytes]:
        start, count = int.from_bytes(request[8:10], "big"), int.from_bytes(request[10:12], "big")
        if any(register not in words for register in range(start, start + count)):
            return [request[:2] + b"\x00\x00\x00\x03" + bytes((request[6], 0x83, 2))]
        return [good(request, b"".join(words[register] for register in range(start, start + count)))]

    async def scenario() -> None:
        async with _site(answer, profile="fuxin-corrector") as site:
            await site.run(2.5)
            reading = site.readings()[0]
            assert reading.values == {
                "volume_standard": 1_243_111_600,
                "volume_actual": 12_285_686_422_200,
                "pressure": 102_212_000,
            }
            assert site.events() == [], "what a meter does not have is no failed read"
            learned = len(site.server.requests)
            count = len(site.readings())
            await site.run(5.0)
            more = len(site.server.requests) - learned
            assert more == 3 * (len(site.readings()) - count), "base total, actual total, pressure: remembered"

    asyncio.run(scenario())


def test_a_second_request_that_fails_leaves_a_reading_marked_incomplete() -> None:
    def answer(request: bytes) -> list[bytes]:
        if request[8] == 0x50:
            return [good(request, (123456).to_bytes(8, "big") + bytes(8))]
        return []

    async def scenario() -> None:
        async with _site(answer, profile="abb-b23") as site:
            await site.run(6.0)
            reading = site.readings()[0]
            assert reading.values == {"energy_import": 1_234_560_000, "energy_export": 0}
            assert (reading.quality, reading.reason) == ("valid", "incomplete")

    asyncio.run(scenario())


def test_a_host_that_is_away_is_told_and_its_meters_return_soon_after_it_does() -> None:
    async def scenario() -> None:
        async with _site(_water, units=3) as site:
            await site.run(2.0)
            link = site.poller.buses["bus"].link
            assert isinstance(link, ModbusTcpLink)
            link.port, there = 1, link.port  # nobody listens on port 1
            for writer in site.server.writers:
                writer.close()
            await until(lambda: not link.up)
            await site.run(60.0)
            assert {event.meter for event in site.events("read_failed")} == {"W-1", "W-2", "W-3"}
            assert {event.cause for event in site.events("read_failed")} <= {"connect", "lost"}
            count = len(site.readings())
            link.port = there
            await site.run(45.0)
            assert {row.meter for row in site.readings()[count:]} == {"W-1", "W-2", "W-3"}
            assert len(site.events("read_recovered")) == 3

    asyncio.run(scenario())


def test_a_clock_that_is_set_back_is_an_event_and_its_readings_are_suspect_and_unique() -> None:
    async def scenario() -> None:
        async with _site(_water) as site:
            await site.run(10.0)
            site.clock.step_wall(-5000)
            await site.run(12.0)
            (step,) = site.events("clock_step")
            assert step.cause == "back"
            readings = site.readings()
            assert len({reading.read_at for reading in readings}) == len(readings)
            doubtful = [reading for reading in readings if reading.quality == "suspect"]
            assert 4 <= len(doubtful) <= 6
            assert {reading.reason for reading in doubtful} == {"gateway_clock"}
            assert readings[-1].quality == "valid", "when the clock is past the old times again"

    asyncio.run(scenario())


def test_a_host_clock_that_shows_1970_makes_readings_suspect() -> None:
    async def scenario() -> None:
        async with _site(_water) as site:
            site.clock.step_wall(-START)
            await site.run(3.0)
            assert {reading.reason for reading in site.readings()[1:]} == {"gateway_clock"}

    asyncio.run(scenario())


def test_reading_slows_down_with_the_pressure_and_stops_when_memory_is_full() -> None:
    async def scenario() -> None:
        async with _site(_water, interval_s=0.5) as site:
            await site.run(5.0)
            calm = len(site.readings())
            assert 9 <= calm <= 11
            site.pressure[0] = 0.8
            await site.run(10.0)
            slow = len(site.readings()) - calm
            assert 3 <= slow <= 6, "every fifth moment"
            site.pressure[0], site.room[0] = 1.0, False
            await site.run(10.0)
            asked = len(site.server.requests)
            await site.run(10.0)
            assert len(site.server.requests) == asked, "what is not read cannot be lost"
            site.pressure[0], site.room[0] = 0.0, True
            await site.run(5.0)
            assert len(site.events("outbox_full")) == 1
            assert len(site.server.requests) > asked + 5

    asyncio.run(scenario())


def test_the_end_of_the_program_is_no_failed_read() -> None:
    async def scenario() -> None:
        async with _site(_water) as site:
            site.server.answer = lambda r: []
            await site.run(1.2)
            assert site.poller.buses["bus"].link.busy
            rows = site.rows
        assert [row for row in rows if isinstance(row, Event)] == []

    asyncio.run(scenario())
