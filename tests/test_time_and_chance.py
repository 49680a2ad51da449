"""Promise 7: no bare time, sleep or chance anywhere but in the clock; ruff's rule is run here."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ("metering", "registry", "gateway", "ingest", "anomaly", "api", "simulators", "metergate")


def lint(*words: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "ruff", "check", "--no-cache", "--select", "TID251", *words]
    return subprocess.run(command, cwd=ROOT, input=stdin, capture_output=True, text=True, check=False)


def test_time_and_chance_come_from_outside_in_every_room() -> None:
    report = lint("--output-format", "concise", *ROOMS)
    assert report.returncode == 0, report.stdout


@pytest.mark.parametrize(
    "line",
    [
        "import time\ntime.sleep(1)",
        "from time import monotonic\nmonotonic()",
        "import asyncio\nasyncio.sleep(1)",
        "from datetime import datetime\ndatetime.now()",
        "import random\nrandom.random()",
    ],
)
def test_the_rule_sees_what_it_must(line: str) -> None:
    assert lint("--stdin-filename", "gateway/example.py", "-", stdin=line).returncode == 1
