"""`metergate export totals` and `export reading-report` from the outside."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import openpyxl

from tests.metergate.test_billing_commands import call, house

__all__ = ["house"]


def test_totals_of_a_period_become_a_file_whose_ending_says_how(house: Path, tmp_path: Path) -> None:
    assert call("totals", "2026-03", "--config", str(house)).exit_code == 0
    done = call("export", "totals", "2026-03", str(tmp_path / "march.csv"), "--config", str(house))
    assert done.exit_code == 0, done.stderr
    with (tmp_path / "march.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [(row["usage_point"], row["state"], row["consumption"]) for row in rows] == [
        ("P1", "billed", "6.72"),
        ("P2", "missing", ""),
    ]
    call("export", "totals", "2026-03", str(tmp_path / "m.xlsx"), "--state", "missing", "--config", str(house))
    sheet = openpyxl.load_workbook(tmp_path / "m.xlsx")["totals"]
    assert [cell.value for cell in sheet["B"]] == ["usage_point", "P2"]
    assert not list(tmp_path.glob("*.part"))


def test_an_ending_that_says_nothing_is_refused(house: Path, tmp_path: Path) -> None:
    wrong = call("export", "totals", "2026-03", str(tmp_path / "march.doc"), "--config", str(house))
    assert wrong.exit_code != 0
    assert "which format?" in wrong.stderr
    assert call("export", "totals", "2026-13", str(tmp_path / "m.csv"), "--config", str(house)).exit_code != 0


def test_the_reading_report_is_a_table_a_page_or_json(house: Path, tmp_path: Path) -> None:
    call("totals", "2026-03", "--config", str(house))
    for ending in ("csv", "html", "json"):
        done = call("export", "reading-report", "2026-03", str(tmp_path / f"r.{ending}"), "--config", str(house))
        assert done.exit_code == 0, done.stderr
    found = json.loads((tmp_path / "r.json").read_text("utf-8"))
    # one of two households
    assert (found["total"]["due"], found["total"]["read"], found["total"]["rate"]) == (2, 1, "50.00")
    assert found["lines"][0]["missing_why"] == {"not_commissioned": 1}
    assert "抄表月报 2026-03" in (tmp_path / "r.html").read_text("utf-8")
