"""Two runs compared: what is the same is said to be, what differs is told with key and values."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from metering.errors import SettingsError
from simulators.comparing import compare

READING = {"meter": "W-1", "read_at": "2026-03-01T00:00:00.000Z", "quality": "valid", "values": {"volume": "12.5"}}


def _run(folder: Path, **files: list[dict[str, Any]]) -> Path:
    folder.mkdir()
    for name, rows in files.items():
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def test_equal_runs_are_the_same_in_any_order_of_lines(tmp_path: Path) -> None:
    other = READING | {"meter": "W-2"}
    a = _run(tmp_path / "a", readings=[READING, other], counts=[])
    b = _run(tmp_path / "b", readings=[other, READING], counts=[])
    found = compare(a, b)
    assert found.same
    assert list(found.summary()) == ["counts: the same 0 lines", "readings: the same 2 lines"]


def test_a_difference_names_the_line_the_column_and_both_values(tmp_path: Path) -> None:
    a = _run(tmp_path / "a", readings=[READING, READING | {"meter": "W-2"}])
    changed = READING | {"quality": "suspect", "values": {"volume": "12.6", "valve": "0"}}
    b = _run(tmp_path / "b", readings=[changed, READING | {"meter": "W-3"}])
    found = compare(a, b)
    assert [str(difference) for difference in found.differences] == [
        "readings W-1 2026-03-01T00:00:00.000Z: quality valid -> suspect, values.volume 12.5 -> 12.6, "
        "values.valve nothing -> 0",
        "readings W-2 2026-03-01T00:00:00.000Z: only in A",
        "readings W-3 2026-03-01T00:00:00.000Z: only in B",
    ]
    assert list(found.summary()) == ["readings: 2 lines in A, 2 in B; only in A 1, only in B 1, changed 1"]


def test_findings_orders_and_totals_are_told_apart_by_their_own_keys(tmp_path: Path) -> None:
    finding = {"meter_id": "M1", "kind": "leak", "rule": "night_flow", "started_at": "2026-03-01T00:00:00Z"}
    total = {"usage_point": "P1", "period": "2026-03", "state": "billed", "consumption": "31.250"}
    order = {"usage_point": "P1", "type": "leak", "opened_at": "2026-03-02T00:00:00Z", "state": "open"}
    a = _run(tmp_path / "a", findings=[finding], totals=[total], orders=[order])
    b = _run(
        tmp_path / "b", findings=[finding | {"severity": "high"}], totals=[total | {"consumption": "31.25"}],
        orders=[order | {"state": "done"}],
    )  # fmt: skip
    assert [str(difference) for difference in compare(a, b).differences] == [
        "findings M1 leak night_flow 2026-03-01T00:00:00Z: severity nothing -> high",
        "orders P1 leak 2026-03-02T00:00:00Z: state open -> done",
        "totals P1 2026-03: consumption 31.250 -> 31.25",
    ]


def test_a_file_that_one_run_lacks_and_a_line_twice_are_differences(tmp_path: Path) -> None:
    a = _run(tmp_path / "a", readings=[READING, READING], orders=[])
    b = _run(tmp_path / "b", readings=[READING])
    assert [str(difference) for difference in compare(a, b).differences] == [
        "orders: only in A",
        "readings W-1 2026-03-01T00:00:00.000Z (2): only in A",
    ]


def test_csv_and_packed_files_and_single_files_compare_too(tmp_path: Path) -> None:
    text = "meter_id,ts,index\nM1,2026-01-01T00:00:00Z,5.0\nM1,2026-01-01T01:00:00Z,5.1\n"
    one, other = tmp_path / "readings.csv.gz", tmp_path / "readings.csv"
    one.write_bytes(gzip.compress(text.encode()))
    other.write_text(text.replace("5.1", "5.2"))
    (difference,) = compare(one, other).differences
    assert str(difference) == "readings M1 2026-01-01T01:00:00Z: index 5.1 -> 5.2"


def test_what_cannot_be_compared_is_said(tmp_path: Path) -> None:
    a, b = _run(tmp_path / "a"), _run(tmp_path / "b")
    with pytest.raises(SettingsError, match="no file to compare"):
        compare(a, b)
    (a / "readings.jsonl").write_text("{}\nnot json\n")
    (b / "readings.jsonl").write_text("{}\n")
    with pytest.raises(SettingsError, match=r"readings\.jsonl:2: no JSON line"):
        compare(a, b)


def test_many_differences_are_told_by_meter_and_a_report_by_its_figures(tmp_path: Path) -> None:
    hours = [READING | {"read_at": f"2026-03-01T{hour:02}:00:00.000Z"} for hour in range(5)]
    a, b = _run(tmp_path / "a", readings=hours), _run(tmp_path / "b", readings=hours[:1])
    (a / "report.json").write_text(json.dumps({"found": {"recall": 1.0, "kinds": {}}, "seed": 1}))
    (b / "report.json").write_text(json.dumps({"found": {"recall": 0.5, "kinds": {}}, "seed": 1}))
    assert list(compare(a, b).in_words(3)) == [
        "readings W-1: 4 only in A",
        "report: report.found.recall 1.0 -> 0.5",
    ]


def test_times_in_milliseconds_are_told_as_times_and_a_meter_is_named_once(tmp_path: Path) -> None:
    finding = {"usage_point": "P1", "meter": "P1", "kind": "leak", "started_at": 1772323200000}
    a, b = _run(tmp_path / "a", findings=[finding]), _run(tmp_path / "b", findings=[])
    assert [str(each) for each in compare(a, b).differences] == [
        "findings P1 leak 2026-03-01T00:00:00.000Z: only in A"
    ]
