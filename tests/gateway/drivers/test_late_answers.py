"""Ten thousand unpaced polls of meters of which one answer in a hundred comes after its timeout.

On a clock that jumps; the meters are those of the simulator. Every value must be the one of the meter and register
that was asked: indexes differ by meter, registers by place.
"""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest

from gateway.drivers.cjt188 import CjtAsk
from gateway.drivers.dlt645 import DltAsk
from gateway.drivers.modbus_rtu import make_rtu_ask
from gateway.protocols import cjt188
from metering.errors import MetergateError
from tests.gateway.drivers.buses import JumpClock, farm_of, memory_bus

POLLS = 10_000
TIMEOUT_S = 0.3
METERS = 4


def _fault(seconds: float) -> dict[str, Any]:
    return {"kind": "late", "seconds": seconds, "share": 0.01}


def _modbus(seconds: float) -> tuple[dict[str, Any], list[tuple[Any, bytes]]]:
    """uint32 counters at rest: unit n shows n·1000 m³ as base total (BCD) and everything beside it stands still."""
    meters = [
        {
            "meter": f"G-{n}", "profile": "fuxin-corrector", "unit": n, "curve": "rest",
            "start_index": n * 1_000_000_000, "fault": _fault(seconds),
        }
        for n in range(1, METERS + 1)
    ]  # fmt: skip
    bcd = {n: bytes.fromhex(f"{n * 1000 * 10_000:012d}") for n in range(1, METERS + 1)}
    asks = [(make_rtu_ask(n, 3, 0x12, 3), bcd[n]) for n in range(1, METERS + 1)]
    asks += [(make_rtu_ask(n, 3, 0x30, 3), bytes(6)) for n in range(1, METERS + 1)]  # the margin: zeros
    return {"name": "b", "baud": 9600, "meter": meters}, asks


def _cjt188(seconds: float) -> tuple[dict[str, Any], list[tuple[Any, bytes]]]:
    meters = [
        {
            "meter": f"W-{n}", "profile": "water-cjt188", "address": f"{n:014d}", "curve": "rest",
            "start_index": n * 1_000_000_000, "fault": _fault(seconds), "echoes_ser": n % 2 == 0,
        }
        for n in range(1, METERS + 1)
    ]  # fmt: skip
    asks: list[tuple[Any, bytes]] = []
    for n in range(1, METERS + 1):
        asks.append((CjtAsk(0x10, f"{n:014d}", 0x901F), cjt188.Amount.of(n * 100_000, 0x2C).encode()))
        asks.append((CjtAsk(0x10, f"{n:014d}", 0xD120), cjt188.Amount.of(n * 50_000, 0x2C).encode()))
    return {"name": "b", "baud": 2400, "parity": "even", "pace": False, "meter": meters}, asks


def _dlt645(seconds: float) -> tuple[dict[str, Any], list[tuple[Any, bytes]]]:
    meters = [
        {
            "meter": f"E-{n}", "profile": "electricity-dlt645-2007", "address": f"{n:012d}", "curve": "rest",
            "start_index": n * 1_000_000_000, "fault": _fault(seconds),
        }
        for n in range(1, METERS + 1)
    ]  # fmt: skip
    asks: list[tuple[Any, bytes]] = []
    for n in range(1, METERS + 1):
        asks.append((DltAsk(f"{n:012d}", 0x00010000), bytes.fromhex(f"{n * 100_000:08d}")[::-1]))
        asks.append((DltAsk(f"{n:012d}", 0x02030000), bytes(3)))  # power of a meter at rest
    return {"name": "b", "baud": 2400, "parity": "even", "pace": False, "meter": meters}, asks


@pytest.mark.parametrize("make", [_modbus, _cjt188, _dlt645], ids=["modbus-rtu", "cjt188", "dlt645"])
def test_no_value_is_ever_another_registers_or_another_meters(make: Any) -> None:
    settings, asks = make(0.4)
    rng = random.Random(19)

    async def scenario() -> tuple[int, int]:
        clock = JumpClock()
        farm = farm_of(clock, settings)
        bus = memory_bus(farm, "b", clock)
        return await clock.work(_polls(bus, asks, rng))

    right, failed = asyncio.run(scenario())
    assert right + failed == POLLS
    assert right > 0.9 * POLLS, f"{failed} of {POLLS} polls failed"


async def _polls(bus: Any, asks: list[tuple[Any, bytes]], rng: random.Random) -> tuple[int, int]:
    right = failed = 0
    for _ in range(POLLS):
        ask, wanted = rng.choice(asks)
        try:
            data = await bus.read(ask, TIMEOUT_S)
        except MetergateError:
            failed += 1
            continue
        assert data.startswith(wanted), f"{ask}: {data.hex(' ')} instead of {wanted.hex(' ')}"
        right += 1
    assert sum(count.late for count in bus.counts.meters.values()) > POLLS / 300, "late answers were met"
    bus.close()
    return right, failed
