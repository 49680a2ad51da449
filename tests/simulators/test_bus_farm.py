"""A simulated bus: its pace, its faults, its log; on a clock that is moved by hand."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gateway.protocols import cjt188
from metering.clock import ManualClock
from metering.errors import SettingsError
from simulators.bus_farm import BusFarm
from simulators.bus_settings import BusFarmSettings
from tests.gateway.drivers.buses import PROFILES

ADDRESS = "00000805000001"
REQUEST = cjt188.encode(cjt188.read_request(0x10, ADDRESS, ser=7))


class Wire:
    """The master's end: what came, and when."""

    def __init__(self, clock: ManualClock) -> None:
        self._clock = clock
        self.pieces: list[tuple[float, bytes]] = []

    def hear(self, data: bytes) -> None:
        self.pieces.append((self._clock.monotonic(), data))

    @property
    def bytes(self) -> bytes:
        return b"".join(data for _, data in self.pieces)


def _farm(clock: ManualClock, *meters: dict[str, Any], **bus: Any) -> tuple[BusFarm, Wire]:
    given = meters or ({},)
    filled = [
        {
            "meter": f"W-{n}",
            "profile": "water-cjt188",
            "address": ADDRESS,
            "curve": "rest",
            "start_index": 123_000_000,
        }
        | meter
        for n, meter in enumerate(given)
    ]
    settings = {"name": "b", "baud": 2400, "parity": "even", "turnaround_s": 0.05, "meter": filled} | bus
    farm = BusFarm(BusFarmSettings.model_validate({"bus": [settings]}, strict=False), clock, profiles=PROFILES)
    wire = Wire(clock)
    farm.lines["b"].write = wire.hear
    return farm, wire


async def _ask(farm: BusFarm, clock: ManualClock, seconds: float = 3.0) -> None:
    farm.lines["b"].received(REQUEST)
    for _ in range(round(seconds / 0.002)):
        await clock.advance(0.002)


def test_an_answer_ends_when_the_wire_would_have_it() -> None:
    """16 request bytes, 50 ms, 2 FE and 35 bytes of answer; 11 bits a character at 2400 baud."""

    async def scenario() -> None:
        clock = ManualClock()
        farm, wire = _farm(clock)
        await _ask(farm, clock)
        char = 11 / 2400
        assert len(wire.bytes) == 37
        assert wire.pieces[0][0] > 16 * char + 0.05
        assert wire.pieces[-1][0] == pytest.approx((16 + 37) * char + 0.05, abs=0.0025)
        found = cjt188.parse(cjt188.decode(wire.bytes))
        assert found.ser == 7
        assert isinstance(found.body, cjt188.Volumes)
        assert str(found.body.current.value) == "123.00"
        stats = farm.lines["b"].stats
        assert (stats.requests, stats.answers) == (1, 1)
        assert stats.ideal == pytest.approx((16 + 37 + 3.5) * char + 0.05)

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("fault", "came"),
    [
        ({"kind": "silent"}, 0),
        ({"kind": "cut", "keep": 9}, 9),
        ({"kind": "noise", "size": 6}, 43),
        ({"kind": "flip"}, 37),
        ({"kind": "wrong_address"}, 37),
    ],
)
def test_faults_do_what_they_are_called(fault: dict[str, Any], came: int) -> None:
    async def scenario() -> None:
        clock = ManualClock()
        good_farm, good = _farm(clock)
        await _ask(good_farm, clock)
        clock = ManualClock()  # the same moment again
        farm, wire = _farm(clock, {"fault": fault | {"times": 1}})
        await _ask(farm, clock)
        assert len(wire.bytes) == came
        if fault["kind"] == "flip":
            changed = int.from_bytes(wire.bytes, "big") ^ int.from_bytes(good.bytes, "big")
            assert changed.bit_count() == 1
        if fault["kind"] == "wrong_address":
            assert cjt188.decode(wire.bytes).address != ADDRESS
        before = len(wire.bytes)
        await _ask(farm, clock)
        assert len(wire.bytes) == before + 37, "the fault was for one answer"

    asyncio.run(scenario())


def test_a_late_answer_comes_when_it_says() -> None:
    async def scenario() -> None:
        clock = ManualClock()
        farm, wire = _farm(clock, {"fault": {"kind": "late", "seconds": 1.5, "times": 1}})
        await _ask(farm, clock)
        assert 1.6 < wire.pieces[0][0] < 1.8
        assert len(wire.bytes) == 37

    asyncio.run(scenario())


def test_two_meters_with_one_address_collide() -> None:
    async def scenario() -> None:
        clock = ManualClock()
        farm, wire = _farm(clock, {}, {"start_index": 87_000_000})
        await _ask(farm, clock)
        assert len(wire.bytes) == 37
        with pytest.raises(Exception, match="sum"):
            cjt188.decode(wire.bytes)

    asyncio.run(scenario())


def test_the_adapter_may_hear_itself() -> None:
    async def scenario() -> None:
        clock = ManualClock()
        farm, wire = _farm(clock, echo=True)
        await _ask(farm, clock)
        assert wire.bytes.startswith(REQUEST)

    asyncio.run(scenario())


def test_an_unknown_profile_is_named() -> None:
    with pytest.raises(
        SettingsError, match=r"bus\[0\].meter\[0\].profile = .water-cjt18.: no such profile; .*water-cjt188"
    ):
        _farm(ManualClock(), {"profile": "water-cjt18"})


def test_control_lines_are_obeyed_or_refused() -> None:
    async def scenario() -> None:
        clock = ManualClock()
        farm, wire = _farm(clock)
        assert (await farm.control.obey(b'{"meter": "W-0", "fault": {"kind": "silent"}}'))["ok"]
        await _ask(farm, clock)
        assert not wire.bytes
        assert (await farm.control.obey(b'{"meter": "*", "fault": null, "index": "5"}')) == {"ok": True, "meters": 1}
        await _ask(farm, clock)
        body = cjt188.parse(cjt188.decode(wire.bytes)).body
        assert isinstance(body, cjt188.Volumes)
        assert str(body.current.value) == "5.00"
        assert (await farm.control.obey(b'{"stats": true}'))["buses"]["b"]["answers"] == 1
        for bad in (
            b"{",
            b'{"meter": "W-9", "index": "1"}',
            b'{"bus": "x", "plug": true}',
            b'{"meter": "W-0", "index": "x"}',
        ):
            assert not (await farm.control.obey(bad))["ok"]

    asyncio.run(scenario())
