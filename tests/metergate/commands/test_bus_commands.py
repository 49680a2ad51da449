"""`solve`, `scan` and `bus`, as an engineer calls them."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from gateway.drivers.serial_port import Line, SerialPort
from gateway.scanning import scan
from metergate.__main__ import build
from metering.clock import SystemClock
from tests.gateway.drivers.buses import farm_of, running

MO_04 = "0103284b3c6156449b63920000000040220c4a0000124311164020000012285686422241ad312742cc6c8ba626"


def call(*words: str) -> Result:
    return CliRunner().invoke(build(), list(words))


def lines(result: Result) -> list[dict[str, Any]]:
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_solve_lists_what_fits_an_answer_frame() -> None:
    result = call("solve", "12285686.4222", MO_04, "--from", "0x0A")
    assert result.exit_code == 0, result.stderr
    found = {(fit["register"], fit["encoding"], fit["size"], fit["scale"]) for fit in lines(result)}
    assert ("0x0017", "bcd", 6, "0.0001") in found
    assert [fit["rank"] for fit in lines(result)] == [1, 2]


@pytest.mark.parametrize(
    ("words", "said", "code"),
    [
        (("solve", "0", MO_04), "0 fits everywhere", 2),
        (("solve", "abc", MO_04), "a decimal number is needed", 2),
        (("solve", "12.5", "zz"), "not hex", 2),
        (("solve", "12.5"), "give bytes in hex, or a live meter", 2),
        (("solve", "12.5", "00 01 00 02"), "stands nowhere in 4 bytes", 1),
        (("solve", "12.5", "00", "--from", "70000"), "a register from 0 to 65535", 2),
        (("scan",), "name either --device or --host", 2),
        (("scan", "--device", "/dev/x", "--line", "2400-9E1"), "speed and format such as 2400-8E1", 2),
        (("scan", "--device", "/dev/x", "--protocol", "cjt"), "cjt188", 2),
        (("scan", "--device", "/dev/x", "--addresses", "1-300"), "numbers from 0 to 255", 2),
        (("scan", "--device", "/dev/not-there", "--line", "2400-8E1"), "No such file", 1),
        (("bus", "--file", "not-there.json"), "no such file", 2),
    ],
)
def test_mistakes_are_answered_in_words(words: tuple[str, ...], said: str, code: int) -> None:
    result = call(*words)
    assert said in result.stderr.replace("\n", " ")
    assert result.exit_code == code


def test_scan_finds_who_is_on_the_wires(tmp_path: Path) -> None:
    meters = [
        {"meter": "G-1", "profile": "fuxin-corrector", "unit": 3},
        {"meter": "W-1", "profile": "water-cjt188", "address": "00000805000001"},
        {"meter": "E-1", "profile": "electricity-dlt645-2007", "address": "000000000161"},
        {"meter": "W-2", "profile": "water-mbus", "address": "5/87654321"},
    ]

    async def scenario() -> set[tuple[str, str]]:
        bus = {"name": "b", "kind": "pty", "link": tmp_path / "tty", "pace": False, "turnaround_s": 0.0}
        async with running(farm_of(SystemClock(), bus | {"meter": meters})) as farm:
            port = SerialPort(farm.path("b"))
            every = ["cjt188", "dlt645-2007", "modbus-rtu", "mbus"]
            seen = scan(port, [Line(9600)], every, (3, 5, 6), clock=SystemClock(), timeout_s=0.5)
            return {(each.protocol, each.address) async for each in seen if each.address}

    assert asyncio.run(scenario()) == {
        ("modbus-rtu", "3"),
        ("cjt188", "00000805000001"),
        ("dlt645-2007", "000000000161"),
        ("mbus", "5/87654321"),
    }


def test_scan_says_when_several_answer_at_once(tmp_path: Path) -> None:
    meters = [{"meter": f"W-{n}", "profile": "water-cjt188", "address": f"{n:014d}"} for n in (11, 12)]

    async def scenario() -> list[str]:
        bus = {"name": "b", "kind": "pty", "link": tmp_path / "tty", "pace": False, "turnaround_s": 0.0}
        async with running(farm_of(SystemClock(), bus | {"meter": meters})) as farm:
            seen = scan(SerialPort(farm.path("b")), [Line(9600)], ["cjt188"], (), clock=SystemClock(), timeout_s=1.0)
            return [each.note async for each in seen]

    notes = asyncio.run(scenario())
    assert notes
    assert all("several meters at once" in note for note in notes)


def test_bus_shows_what_the_gateway_wrote(tmp_path: Path) -> None:
    meter = {
        "meter": "W-1", "address": "00000805000001", "asked": 10, "answered": 9, "silent": 1, "refused": 0, "late": 2,
        "foreign": 0, "damaged": 3, "lost": 0, "busy_s": 1.5, "answered_at": 1_772_323_200_000,
    }  # fmt: skip
    report = {
        "v": 1, "gateway": "gw", "at": 1_772_323_200_000, "since": 1_772_323_100_000,
        "buses": [{
            "bus": "stair", "port": "/dev/x", "up": True, "opened": 1, "unasked": 0, "echoes": 0, "meters": [meter],
            "others": [],
        }],
    }  # fmt: skip
    path = tmp_path / "buses.json"
    path.write_text(json.dumps(report))
    result = call("bus", "--once", "--file", str(path))
    assert result.exit_code == 0, result.stderr
    assert lines(result) == [{"bus": "stair", "up": True, **meter}]
    path.write_text("{")
    assert "buses.json" in call("bus", "--once", "--file", str(path)).stderr
