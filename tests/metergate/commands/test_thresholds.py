"""`metergate thresholds`, as two people at the host type it."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from anomaly.meters import Meter
from metergate.__main__ import build
from metering.reading import Reading
from tests.anomaly.site import HOUR, Site, WallClock

NAME = "zero_use.min_days"


@pytest.fixture
def now_s() -> int:
    """The last whole hour: the command asks the host's clock."""
    return int(time.time()) // HOUR * HOUR


@pytest.fixture(autouse=True)
def folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, now_s: int) -> Path:
    """One home, read each hour for fifty days, at rest for the last four and a half."""
    monkeypatch.setenv("METERGATE__REGISTRY__URL", f"sqlite:///{tmp_path / 'registry.db'}")
    monkeypatch.setenv("METERGATE__STORE__PATH", str(tmp_path / "readings.db"))
    monkeypatch.setenv("METERGATE__AUDIT__ANCHORS", str(tmp_path / "anchors.jsonl"))
    monkeypatch.setenv("COLUMNS", "200")
    site = Site(tmp_path, WallClock(now_s))
    site.add([Meter("A", tz="UTC")])
    start, readings = now_s - 50 * 24 * HOUR, []
    for hour in range(50 * 24):
        lived = min(hour, 50 * 24 - 108)
        micro = 400_000 * (lived // 24) + 100_000 * sum(lived % 24 > at for at in (7, 12, 18, 19))
        at = (start + hour * HOUR) * 1000
        readings.append(Reading("A", at, {"volume": micro}, received_at=at))
    site.take(readings)
    site.close()
    return tmp_path


def call(who: str, *words: str) -> Result:
    result = CliRunner(env={"LOGNAME": who}).invoke(build(("thresholds", "key")), ["thresholds", *words])
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def day(ahead: int) -> str:
    return (datetime.now(UTC).date() + timedelta(days=ahead)).isoformat()


def test_from_a_proposal_to_a_change_that_counts() -> None:
    made = call("li", "propose", f"{NAME}=3", "--from", day(2), "--reason", "spring")
    assert made.exit_code == 0, made.stderr
    assert (json.loads(made.stdout)["author"], json.loads(made.stdout)["state"]) == ("console:li", "proposed")
    early = call("chen", "confirm", "1")
    assert (early.exit_code, "try it on the past first" in early.stderr) == (1, True)
    tried = call("li", "backtest", "1", "--from", day(-10))
    assert tried.exit_code == 0, tried.stderr
    found = json.loads(tried.stdout)
    # four and a half days of rest: below the seven in force, above the three of the change
    assert (found["flagged_now"], found["would_flag"], found["new_examples"]) == (0, 1, [["A", "zero_use"]])
    assert "100 %" in tried.stderr or "with the change" in tried.stderr
    own = call("li", "confirm", "1", "--accept-flagged", "1")
    assert (own.exit_code, "himself" in own.stderr) == (1, True)
    flood = call("chen", "confirm", "1")
    assert (flood.exit_code, "1 of 1 meters (100%)" in flood.stderr) == (1, True)
    done = call("chen", "confirm", "1", "--accept-flagged", "1", "--note", "agreed")
    assert json.loads(done.stdout)["state"] == "confirmed"
    values = [json.loads(line) for line in call("li", "list", "--on", day(2)).stdout.splitlines()]
    assert next(item for item in values if item["name"] == NAME)["origin"] == "change 1"
    assert json.loads(call("li", "cancel", "1", "--note", "late").stdout)["state"] == "cancelled"
    changes = [json.loads(line)["state"] for line in call("li", "list", "--changes").stdout.splitlines()]
    assert changes == ["cancelled"]


def test_mistakes_are_words() -> None:
    for words, said in (
        (("propose", "zero_use.min_day=3", "--from", day(2), "--reason", "x"), "did you mean 'zero_use.min_days'"),
        (("propose", f"{NAME}=long", "--from", day(2), "--reason", "x"), 'write "rule.threshold=number"'),
        (("propose", f"{NAME}=3", "--from", "soon", "--reason", "x"), "write a date"),
        (("backtest", "7"), "there is no change of thresholds 7"),
    ):
        result = call("li", *words)
        assert result.exit_code in (1, 2)
        assert said in result.stderr
