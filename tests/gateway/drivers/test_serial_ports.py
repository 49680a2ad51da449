"""Real ports: every protocol over pseudo-terminals, transparent TCP and RFC 2217; loss and return; descriptors."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gateway.drivers.serial_bus import SerialBus
from gateway.drivers.serial_port import Line, SerialPort
from gateway.drivers.serial_rfc2217 import COM_PORT, IAC, SB, SE, Telnet, com_port, escape
from gateway.meter_poll import MeterPoll, StepMaker
from gateway.once import poll_once
from metering.clock import SystemClock
from metering.errors import ConnectError, MetergateError
from tests.gateway.drivers.buses import farm_of, linked, plan_of, running, until

METERS: list[dict[str, Any]] = [
    {"meter": "G-1", "profile": "fuxin-corrector", "unit": 1},
    {"meter": "G-2", "profile": "gas-cjt188", "address": "33780020260001"},
    {"meter": "W-1", "profile": "water-cjt188", "address": "00000805000001"},
    {"meter": "E-1", "profile": "electricity-dlt645-2007", "address": "000000000161"},
    {"meter": "W-2", "profile": "water-mbus", "address": "5"},
    {"meter": "W-3", "profile": "water-mbus", "address": "12345678"},
    {"meter": "E-2", "profile": "electricity-iec62056", "address": "77"},
    {"meter": "G-3", "profile": "elster-ek", "address": "88"},
]
KEYS: list[str] = ["meter", "profile", "unit", "address"]
START = 1_234_000_000  # 1234 units, at rest
AT_REST = [{**meter, "curve": "rest", "start_index": START} for meter in METERS]


def _bus(name: str, kind: str, tmp_path: Path, meters: list[dict[str, Any]], **more: Any) -> dict[str, Any]:
    link = {"link": tmp_path / f"tty-{name}"} if kind == "pty" else {}
    return {"name": name, "kind": kind, "pace": False, "turnaround_s": 0.0, "meter": meters, **link, **more}


def _reach(farm: Any, name: str, kind: str) -> dict[str, Any]:
    path = farm.path(name)
    if kind == "pty":
        return {"name": name, "kind": "serial", "device": path}
    host, _, port = path.partition(":")
    mode = "rfc2217" if kind == "rfc2217" else "raw"
    return {"name": name, "kind": "serial-tcp", "host": host, "port": int(port), "mode": mode, "timeout_s": 5.0}


@pytest.mark.parametrize("kind", ["pty", "tcp", "rfc2217"])
@pytest.mark.parametrize("meter", AT_REST, ids=lambda meter: str(meter["meter"]))
def test_every_protocol_is_read_over_every_kind_of_port(kind: str, meter: dict[str, Any], tmp_path: Path) -> None:
    async def scenario() -> None:
        farm = farm_of(SystemClock(), _bus("b", kind, tmp_path, [meter], baud=9600, echo=kind == "tcp"))
        async with running(farm):
            wanted = {key: meter[key] for key in KEYS if key in meter}
            plan = plan_of(_reach(farm, "b", kind), meters=[{**wanted, "bus": "b", "options": {"timeout_s": 5.0}}])
            polled = await poll_once(plan.meters[0], clock=SystemClock())
            assert polled.reading is not None, polled.why
            quantity = plan.meters[0].profile.index.quantity
            assert quantity is not None
            assert polled.reading.values[quantity] == START
            assert polled.reading.quality == "valid"
            assert not [field.fault for field in polled.fields if field.fault]

    asyncio.run(scenario())


def test_several_protocols_share_one_pair(tmp_path: Path) -> None:
    async def scenario() -> None:
        mixed = [meter for meter in AT_REST if meter["meter"] in ("G-2", "W-1", "E-1", "G-1")]
        farm = farm_of(SystemClock(), _bus("b", "pty", tmp_path, mixed))
        async with running(farm):
            wanted = [{k: m[k] for k in KEYS if k in m} for m in mixed]
            plan = plan_of(_reach(farm, "b", "pty"), meters=[{**each, "bus": "b"} for each in wanted])
            async with linked(plan, "b") as link:
                for _ in range(3):
                    for meter in plan.meters:
                        assert await _index(link, plan, meter.meter) == START

    asyncio.run(scenario())


def test_a_pulled_adapter_comes_back_by_its_stable_name(tmp_path: Path) -> None:
    async def scenario() -> None:
        farm = farm_of(SystemClock(), _bus("b", "pty", tmp_path, [{**METERS[0], "curve": "counting"}]))
        async with running(farm):
            plan = plan_of(_reach(farm, "b", "pty"), meters=[{**METERS[0], "bus": "b"}])
            async with linked(plan, "b") as link:
                before = await _index(link, plan, "G-1")
                for _ in range(3):
                    farm.ports["b"].close()
                    await until(lambda: not link.up)
                    with pytest.raises(MetergateError):
                        await _index(link, plan, "G-1")
                    await farm.ports["b"].open()
                    after = await _patiently(lambda: _index(link, plan, "G-1"))
                    assert after > before
                    before = after

    asyncio.run(scenario())


def test_a_pseudo_terminal_with_parity_is_opened_again_and_again(tmp_path: Path) -> None:
    """It has no parity; the C library refuses that only when nothing else changes, from the second opening on."""

    async def scenario() -> None:
        farm = farm_of(SystemClock(), _bus("b", "pty", tmp_path, [AT_REST[2]], baud=2400, parity="even"))
        async with running(farm):
            reach = _reach(farm, "b", "pty") | {"baud": 2400, "parity": "even"}
            plan = plan_of(reach, meters=[{**METERS[2], "bus": "b"}])
            for _ in range(3):
                async with linked(plan, "b") as link:
                    assert await _index(link, plan, "W-1") == START

    asyncio.run(scenario())


def test_no_descriptor_is_left_after_many_losses(tmp_path: Path) -> None:
    async def scenario() -> None:
        farm = farm_of(SystemClock(), _bus("b", "pty", tmp_path, [AT_REST[0]]))
        async with running(farm):
            plan = plan_of(_reach(farm, "b", "pty"), meters=[{**METERS[0], "bus": "b"}])
            before = _descriptors()
            for _ in range(20):
                async with linked(plan, "b") as link:
                    assert await _index(link, plan, "G-1") == START
                    assert _descriptors() > before
                    farm.ports["b"].close()
                    await until(lambda link=link: not link.up)
                    await farm.ports["b"].open()
            assert _descriptors() == before
            port = SerialPort(str(tmp_path / "not-there"))
            for _ in range(20):
                with pytest.raises(ConnectError, match="No such file"):
                    await port.open(Line(), lambda data: None, lambda why: None)
            assert _descriptors() == before

    asyncio.run(scenario())


def test_mbpoll_reads_a_simulated_rtu_meter(tmp_path: Path) -> None:
    """A C client as judge: registers 0012H to 0014H hold the base total, 6 BCD bytes with 4 decimals."""

    async def scenario() -> str:
        meter = {"meter": "G-1", "profile": "fuxin-corrector", "unit": 1, "curve": "rest", "start_index": 1243_111600}
        farm = farm_of(SystemClock(), _bus("b", "pty", tmp_path, [meter], pace=True, turnaround_s=0.005))
        async with running(farm):
            process = await asyncio.create_subprocess_exec(
                "mbpoll", "-m", "rtu", "-b", "9600", "-P", "none", "-0", "-1", "-a", "1", "-r", "18", "-c", "3",
                "-t", "4:hex", "-o", "10", farm.path("b"),
                stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
            )  # fmt: skip
            out, _ = await process.communicate()
            return out.decode()

    said = asyncio.run(scenario())
    assert re.findall(r"\[(\d+)\]:\s+0x([0-9A-F]{4})", said) == [("18", "0000"), ("19", "1243"), ("20", "1116")], said


def test_rfc2217_tells_speed_and_format(tmp_path: Path) -> None:
    """The other side is pyserial's own server half of RFC 2217."""

    async def scenario() -> None:
        farm = farm_of(SystemClock(), _bus("b", "rfc2217", tmp_path, [AT_REST[2]], baud=2400, parity="even"))
        async with running(farm):
            reach = _reach(farm, "b", "rfc2217") | {"baud": 2400, "parity": "even", "stop_bits": 2}
            plan = plan_of(reach, meters=[{**METERS[2], "bus": "b"}])
            async with linked(plan, "b") as link:
                assert await _index(link, plan, "W-1") == START
            told = farm.ports["b"].told  # type: ignore[union-attr]  # this bus is a TCP one
            assert (told.baudrate, told.bytesize, told.parity, told.stopbits) == (2400, 8, "E", 2)

    asyncio.run(scenario())


def test_a_box_without_rfc2217_is_refused_with_a_hint(tmp_path: Path) -> None:
    async def scenario() -> None:
        farm = farm_of(SystemClock(), _bus("b", "tcp", tmp_path, [AT_REST[0]]))
        async with running(farm):
            reach = _reach(farm, "b", "tcp") | {"mode": "rfc2217"}
            plan = plan_of(reach, meters=[{**METERS[0], "bus": "b"}])
            async with linked(plan, "b") as link:
                link.link._transport._timeout_s = 0.3  # type: ignore[attr-defined]  # five seconds are long in a test
                with pytest.raises(ConnectError, match="is RFC 2217 on"):
                    await _index(link, plan, "G-1")

    asyncio.run(scenario())


def test_telnet_takes_commands_out_of_pieces_of_any_size() -> None:
    stream = b"ab" + escape(b"\xff\x00") + com_port(101, b"\x00\x00\x25\x80") + b"\xff\xfb\x00cd"
    for size in range(1, len(stream) + 1):
        commands: list[tuple[int, int]] = []
        options: list[tuple[int, bytes]] = []
        telnet = Telnet(lambda *c, k=commands: k.append(c), lambda *o, k=options: k.append(o))
        plain = b"".join(telnet.feed(stream[at : at + size]) for at in range(0, len(stream), size))
        assert (plain, commands, options) == (b"ab\xff\x00cd", [(251, 0)], [(101, b"\x00\x00\x25\x80")])
    flooded = Telnet(lambda *c: None, lambda *o: None)
    flooded.feed(bytes((IAC, SB, COM_PORT)) + bytes(100_000))
    assert len(flooded._option or b"") <= 64
    assert flooded.feed(bytes((IAC, SE)) + b"on") == b"on"


async def _index(link: SerialBus, plan: Any, name: str) -> int:
    """Read one meter's index through the steps that the gateway uses."""
    meter = next(each for each in plan.meters if each.meter == name)
    poll = MeterPoll(meter, StepMaker(), phase=0.0)
    poll.begin(0.0)
    poll.answered(await link.read(poll.step.ask, 5.0), 1_772_323_200_000)
    quantity = meter.profile.index.quantity
    return int(poll.found.values[quantity])


async def _patiently(read: Callable[[], Any]) -> int:
    """Repeat until the port is back."""
    clock = SystemClock()
    for _ in range(200):
        try:
            return int(await read())
        except MetergateError:
            await clock.sleep(0.05)
    raise AssertionError("the port did not come back")


def _descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))
