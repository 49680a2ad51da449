"""Reading one meter once shows every field with its raw registers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from gateway.once import PolledOnce, poll_once
from gateway.plan import parse_plan
from gateway.profiles import load_profiles
from metering.clock import SystemClock
from metering.errors import ConnectError, NoAnswerError
from tests.brokers import free_port
from tests.gateway.drivers.raw_server import good, raw_server

FUXIN = bytes.fromhex("40220C4A 000012431116 40200000 122856864222 41AD3127 42CC6C8B")


def _meter_text(port: int) -> str:
    return (
        f'gateway = "gw"\n[[bus]]\nname = "b"\nhost = "127.0.0.1"\nport = {port}\ntimeout_s = 2.0\n'
        '[[meter]]\nmeter = "G-1"\nbus = "b"\nunit = 7\nprofile = "fuxin-corrector"\n'
    )


def _read(answer: Callable[[bytes], list[bytes] | None], *, away: bool = False) -> PolledOnce:
    async def scenario() -> PolledOnce:
        async with raw_server(answer) as server:
            text = _meter_text(free_port() if away else server.port)
            (meter,) = parse_plan(text, load_profiles(), name="plan").meters
            return await poll_once(meter, clock=SystemClock())

    return asyncio.run(scenario())


def test_every_field_is_shown_with_unit_register_and_raw_bytes() -> None:
    found = _read(lambda r: [good(r, FUXIN)])
    assert found.reading is not None
    assert found.reading.values["volume_standard"] == 1_243_111_600
    shown = {field.name: (field.value, field.unit, field.register, field.raw) for field in found.fields}
    assert shown["base_total"] == ("1243.1116", "m3", 0x12, "0000 1243 1116")
    assert shown["pressure"] == ("102.212", "kPa", 0x1C, "42CC 6C8B")
    assert (found.requests, found.why, found.unit) == (1, "", 7)


def test_a_field_that_holds_no_number_says_why_and_the_others_are_shown() -> None:
    found = _read(lambda r: [good(r, FUXIN[:5] + b"\xff" + FUXIN[6:])])
    assert found.reading is None, "without its index it is no reading"
    (bad,) = [field for field in found.fields if field.fault]
    assert (bad.name, bad.value) == ("base_total", "")
    assert "BCD" in bad.fault
    assert "base_total" in found.why


def test_a_meter_that_refuses_says_so() -> None:
    found = _read(lambda r: [r[:2] + b"\x00\x00\x00\x03" + bytes((r[6], 0x83, 4))])
    assert found.reading is None
    assert "server device failure" in found.why


def test_silence_and_absence_are_errors() -> None:
    with pytest.raises(NoAnswerError):
        _read(lambda r: [])
    with pytest.raises(ConnectError):
        _read(lambda r: [], away=True)
