"""`metergate detect` and `metergate backtest` as a person calls them."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from metergate.commands.backtest import backtest
from metergate.commands.detect import detect
from tests.anomaly.fleet import SAMPLE

app = typer.Typer()
app.command()(detect)
app.command()(backtest)
METERS = str(SAMPLE / "meters.csv")
KEYS = {
    "meter_id",
    "kind",
    "rule",
    "started_at",
    "detected_at",
    "cleared_at",
    "withdrawn_at",
    "severity",
    "evidence",
}


@pytest.fixture
def few(tmp_path: Path) -> list[str]:
    """Three weeks of two meters of the sample: one sends a bad value, the other has a burst."""
    names = ("SM10028", "SM10043")
    with gzip.open(SAMPLE / "readings.csv.gz", "rt", encoding="utf-8") as file:
        lines = [line for line in file if line.startswith("meter_id") or _wanted(line, names)]
    (tmp_path / "readings.csv").write_text("".join(lines), encoding="utf-8")
    known = (SAMPLE / "meters.csv").read_text(encoding="utf-8").splitlines(keepends=True)
    (tmp_path / "meters.csv").write_text("".join(line for line in known if line.startswith(("meter_id", *names))))
    return ["--meters", str(tmp_path / "meters.csv"), "--readings", str(tmp_path / "readings.csv")]


def _wanted(line: str, names: tuple[str, ...]) -> bool:
    cells = line.split(",")
    return cells[0] in names and "2025-11-22" < cells[2] < "2025-12-12"


def test_detect_writes_findings_in_the_agreed_form(few: list[str], tmp_path: Path):
    out = tmp_path / "findings.jsonl"
    result = CliRunner().invoke(app, ["detect", *few, "--out", str(out), "--weather", str(SAMPLE / "weather.csv")])
    assert result.exit_code == 0, result.output
    found = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    assert {tuple(sorted(item)) for item in found} == {tuple(sorted(KEYS))}
    assert {"spike", "leak"} <= {item["kind"] for item in found}
    assert [item["detected_at"] for item in found] == sorted(item["detected_at"] for item in found)
    summary = json.loads(result.stdout.splitlines()[-1])
    assert summary["findings"] == len(found)


def test_params_change_what_is_found(few: list[str], tmp_path: Path):
    params = tmp_path / "p.toml"
    params.write_text('version = "deaf"\n[defaults]\n"burst.min_share" = 9\n', encoding="utf-8")
    out = tmp_path / "f.jsonl"
    result = CliRunner().invoke(app, ["detect", *few, "--out", str(out), "--params", str(params)])
    assert result.exit_code == 0, result.output
    found = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    assert "burst" not in {item["rule"] for item in found}
    assert {item["evidence"]["thresholds"] for item in found} == {"deaf"}


def test_fault_in_a_file_is_words_and_exit_code_2(tmp_path: Path):
    bad = tmp_path / "r.csv"
    bad.write_text('meter_id,ts,index\nSM10001,2026-03-01T00:00:00Z,"12,3"\n', encoding="utf-8")
    result = CliRunner().invoke(
        app, ["detect", "--meters", METERS, "--readings", str(bad), "--out", str(tmp_path / "o")]
    )
    assert result.exit_code == 2
    assert "line 2, column index" in result.output
    assert "Traceback" not in result.output
    assert not (tmp_path / "o").exists()


def test_backtest_reports_scores_flips_and_a_page_that_loads_nothing(few: list[str], tmp_path: Path):
    grid, page = tmp_path / "grid.toml", tmp_path / "page.html"
    grid.write_text('"burst.min_share" = [9.0]\n', encoding="utf-8")
    known = ["--labels", str(SAMPLE / "labels.csv"), "--ordinary", str(SAMPLE / "hard_negatives.csv")]
    arguments = ["backtest", *few, "--grid", str(grid), *known, "--report", str(page)]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    base, deaf = (json.loads(line) for line in result.stdout.splitlines() if line.startswith("{"))
    assert base["alarms"]["burst"] == 1
    assert "burst" not in deaf["alarms"]
    assert ["SM10043", "leak"] in deaf["flips"]["gone"]
    assert base["score"]["kinds"]["spike"]["recall"] > 0
    html = page.read_text(encoding="utf-8")
    assert html.count("<svg") >= 3
    assert not re.search(r"(src|href)=", html)


def test_grid_with_an_unknown_threshold_is_refused(few: list[str], tmp_path: Path):
    grid = tmp_path / "grid.toml"
    grid.write_text('"burst.share" = [1]\n', encoding="utf-8")
    result = CliRunner().invoke(app, ["backtest", *few, "--grid", str(grid), "--report", str(tmp_path / "p.html")])
    assert result.exit_code == 2
    assert "burst.share" in result.output
