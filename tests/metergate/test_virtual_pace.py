"""A virtual clock that keeps a pace, and a run that takes orders from the command line while it goes on."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from metergate.virtual_pace import PacedClock
from metergate.virtual_time import VirtualLoop
from metering.clock import SystemClock

STREET = """
title = "a shift"
purpose = "a leak is injected by hand"
seed = 3
start = "2026-05-25"
days = 30
history_days = 12
gather_s = 60.0
[[fleet]]
name = "taps"
count = 3
medium = "water"
customer_class = "residential"
profile = "usw-ultrasonic"
"""
PATIENCE_S = 240.0


def test_a_paced_clock_moves_no_faster_than_its_pace_and_not_without_its_alarms() -> None:
    host = SystemClock()
    clock = PacedClock(1_000, speed=100.0, host=host)

    async def wait() -> list[int]:
        seen = []
        for _ in range(3):
            await clock.sleep(10.0)
            seen.append(clock.now_ms())
        return seen

    began = host.monotonic()
    with asyncio.Runner(loop_factory=lambda: VirtualLoop(clock)) as runner:
        seen = runner.run(wait())
    assert seen == [11_000, 21_000, 31_000]
    assert host.monotonic() - began >= 0.29, "30 virtual seconds at 100 times the clock are 0.3 s"


def test_what_happens_outside_is_heard_while_the_clock_waits_for_its_pace() -> None:
    clock = PacedClock(0, speed=1.0, host=SystemClock())

    async def scene() -> float:
        loop, heard = asyncio.get_running_loop(), asyncio.Event()
        loop.call_later(0.05, heard.set)
        sleeper = loop.create_task(clock.sleep(3_600.0))
        await heard.wait()
        sleeper.cancel()
        return clock.monotonic()

    with asyncio.Runner(loop_factory=lambda: VirtualLoop(clock)) as runner:
        assert runner.run(scene()) == 0.0


def metergate(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "metergate", *words], capture_output=True, text=True, timeout=PATIENCE_S, check=True
    )


def wait_for(happened: Callable[[], bool], run: subprocess.Popen[bytes], said: Path) -> None:
    until = time.monotonic() + PATIENCE_S
    while not happened():
        assert run.poll() is None, said.read_text()
        assert time.monotonic() < until, said.read_text()
        time.sleep(0.1)


@pytest.mark.long
def test_a_leak_injected_from_the_command_line_is_found_while_the_run_goes_on(tmp_path: Path) -> None:
    story, folder = tmp_path / "shift.toml", tmp_path / "run"
    story.write_text(STREET)
    words = ["simulate", str(story), "--folder", str(folder), "--speed", "3600", "--watch"]
    with (
        (tmp_path / "said").open("w") as said,
        subprocess.Popen([sys.executable, "-m", "metergate", *words], stderr=said, stdout=subprocess.DEVNULL) as run,
    ):
        try:
            wait_for(lambda: (folder / "farm.json").exists(), run, tmp_path / "said")
            metergate("inject", "flow", "taps-0002", "leak", "--rate", "1.2", "--folder", str(folder))
            in_force = metergate("inject", "list", "--folder", str(folder)).stdout
            metergate("inject", "fault", "taps-0003", "silent", "--folder", str(folder))
            assert json.loads(in_force)["flow"]["kind"] == "leak"
            wait_for(lambda: "found: leak at taps-0002" in (tmp_path / "said").read_text(), run, tmp_path / "said")
            metergate("inject", "undo", "all", "--folder", str(folder))
        finally:
            os.kill(run.pid, signal.SIGINT)
            run.wait(PATIENCE_S)
    assert run.returncode == 0, (tmp_path / "said").read_text()
    report = json.loads((folder / "report.json").read_text())
    assert report["found"]["kinds"]["leak"]["found"] == 1
    assert report["stored"]["lost"] == report["stored"]["invented"] == 0
    assert report["days"] < 30, "Ctrl-C ended the story, and what was read arrived"
    injected = [json.loads(line) for line in (folder / "injections.jsonl").read_text().splitlines()]
    assert [line["meter"] for line in injected] == ["taps-0002", "taps-0003"]
    assert injected[0]["until"] > injected[0]["at"]
