"""The farm as a process: real sockets, a real C client (mbpoll), real signals."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from simulators.answer_log import Answer, read_answers
from simulators.farm_settings import FarmSettings, MeterSettings, PortSettings, spread

ROOT = Path(__file__).parents[2]


def _meter(name: str, **more: object) -> MeterSettings:
    return MeterSettings.model_validate({"meter": name, "profile": "fuxin-corrector", "curve": "rest", **more})


@contextmanager
def _farm(folder: Path, *ports: PortSettings) -> Iterator[tuple[subprocess.Popen[str], dict[str, Any]]]:
    """Run a farm; yields its process and its greeting."""
    settings = FarmSettings(port=ports, log=folder / "answers.tsv", control_port=0)
    (folder / "farm.json").write_text(settings.model_dump_json())
    command = [sys.executable, "-m", "simulators.modbus_farm", "--config", str(folder / "farm.json")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as farm:
        try:
            assert farm.stdout
            yield farm, json.loads(farm.stdout.readline())
        finally:
            farm.kill()


def _mbpoll(port: int, unit: int, start: int, count: int, form: str) -> list[str]:
    """Read holding registers once with mbpoll; returns the values as it prints them."""
    command = ["mbpoll", "-m", "tcp", "-0", "-1", "-q", "-a", str(unit), "-p", str(port), "-r", str(start)]
    command += ["-c", str(count), "-t", form, "-B", "-o", "10", "127.0.0.1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return re.findall(r"^\[\d+\]:\s+(\S+)", done.stdout, re.MULTILINE)


def _ask(address: tuple[str, int], request: bytes, size: int) -> bytes:
    with socket.create_connection(address, timeout=60) as client:
        client.sendall(request)
        answer = b""
        while len(answer) < size and (piece := client.recv(4096)):
            answer += piece
        return answer


def _order(control_port: int, order: dict[str, Any]) -> dict[str, Any]:
    with socket.create_connection(("127.0.0.1", control_port), timeout=60) as client, client.makefile("rwb") as line:
        line.write(json.dumps(order).encode() + b"\n")
        line.flush()
        answer: dict[str, Any] = json.loads(line.readline())
        return answer


def test_mbpoll_reads_the_index_that_the_answer_log_shows(tmp_path: Path) -> None:
    ports = spread([_meter("G1", start_index=1_243_111_600), _meter("G2", start_index=77_000_000)], per_port=8)
    with _farm(tmp_path, *ports) as (_, greeting):
        port = greeting["ports"][0]
        assert _mbpoll(port, 1, 18, 3, "4:hex") == ["0x0000", "0x1243", "0x1116"]  # base total 1243.1116 m³ in BCD
        assert _mbpoll(port, 2, 18, 3, "4:hex") == ["0x0000", "0x0077", "0x0000"]
        pressure = float(_mbpoll(port, 1, 28, 1, "4:float")[0])
        assert 100 < pressure < 400
        assert _order(greeting["control_port"], {"flush": True})["ok"]
        shown = [
            (a.number, a.meter, a.unit, a.start, a.count, a.index) for a in read_answers(tmp_path / "answers.tsv")
        ]
    assert shown == [
        (1, "G1", 1, 18, 3, 1_243_111_600),
        (2, "G2", 2, 18, 3, 77_000_000),
        (3, "G1", 1, 28, 2, None),
    ]


def test_terminated_farm_has_every_answer_in_its_log_and_ends_with_status_0(tmp_path: Path) -> None:
    request = bytes.fromhex("0001 0000 0006 01 03 0012 0003")
    with _farm(tmp_path, *spread([_meter("G1", curve="counting", start_index=0)])) as (farm, greeting):
        answers = _ask(("127.0.0.1", greeting["ports"][0]), request * 50, 50 * 15)
        farm.send_signal(signal.SIGTERM)
        assert farm.wait(60) == 0
    served = [int(answers[n * 15 + 9 : n * 15 + 15].hex()) * 100 for n in range(50)]
    logged = list(read_answers(tmp_path / "answers.tsv"))
    assert [a.index for a in logged] == served == [n * 100 for n in range(50)]
    assert {a.outcome for a in logged} == {"ok"}


def test_killed_farm_goes_on_numbering_where_it_stopped(tmp_path: Path) -> None:
    request = bytes.fromhex("0001 0000 0006 01 03 0012 0003")
    for _ in range(2):
        with _farm(tmp_path, *spread([_meter("G1")])) as (farm, greeting):
            _ask(("127.0.0.1", greeting["ports"][0]), request, 15)
            _order(greeting["control_port"], {"flush": True})
            farm.kill()
            farm.wait(60)
    answers: list[Answer] = list(read_answers(tmp_path / "answers.tsv"))
    assert [a.number for a in answers] == [1, 2]


def test_faults_are_switched_over_the_control_line(tmp_path: Path) -> None:
    request = bytes.fromhex("0001 0000 0006 01 03 0012 0003")
    with _farm(tmp_path, *spread([_meter("G1", start_index=0)])) as (_, greeting):
        address = ("127.0.0.1", greeting["ports"][0])
        assert _order(greeting["control_port"], {"meter": "G1", "fault": {"kind": "exception", "code": 6}})["ok"]
        assert _ask(address, request, 9) == bytes.fromhex("0001 0000 0003 01 83 06")
        assert _order(greeting["control_port"], {"stats": True})["sick"] == 1
        assert _order(greeting["control_port"], {"meter": "G1", "fault": {"kind": "close"}})["ok"]
        assert _ask(address, request, 9) == b""


def test_hundreds_of_meters_answer_behind_a_few_ports(tmp_path: Path) -> None:
    meters = [_meter(f"G{n}", start_index=n * 1_000_000) for n in range(300)]
    with _farm(tmp_path, *spread(meters, per_port=100)) as (_, greeting):
        assert (greeting["meters"], len(greeting["ports"])) == (300, 3)
        for place, port in enumerate(greeting["ports"]):
            requests = b"".join(bytes.fromhex(f"0001 0000 0006 {unit:02x} 03 0012 0003") for unit in range(1, 101))
            answers = _ask(("127.0.0.1", port), requests, 100 * 15)
            indexes = [int(answers[n * 15 + 9 : n * 15 + 15].hex()) for n in range(100)]
            assert indexes == [(100 * place + n) * 10_000 for n in range(100)]


@pytest.mark.parametrize(("change", "words"), [({"profile": "fuxin"}, "fuxin-corrector"), ({"unit": 999}, "unit")])
def test_bad_settings_end_the_farm_with_words_instead_of_a_traceback(
    tmp_path: Path, change: dict[str, Any], words: str
) -> None:
    meter = {"meter": "G1", "profile": "fuxin-corrector", **change}
    (tmp_path / "farm.json").write_text(json.dumps({"port": [{"meter": [meter]}]}))
    command = [sys.executable, "-m", "simulators.modbus_farm", "--config", str(tmp_path / "farm.json")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, cwd=ROOT)
    assert done.returncode == 2
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_taken_port_is_named(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]
        settings = FarmSettings(port=(PortSettings(port=port, meter=(_meter("G1"),)),))
        (tmp_path / "farm.json").write_text(settings.model_dump_json())
        command = [sys.executable, "-m", "simulators.modbus_farm", "--config", str(tmp_path / "farm.json")]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, cwd=ROOT)
    assert done.returncode == 2
    assert str(port) in done.stderr
