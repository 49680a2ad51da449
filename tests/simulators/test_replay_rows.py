"""Stored readings as rows of another gateway: other names, same values, their own distances in time."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Sequence
from pathlib import Path

import pytest

from metering.clock import ManualClock, parse_rfc3339
from metering.errors import SettingsError
from metering.reading import Reading, Row
from simulators.outcomes import write_outcome
from simulators.replay_rows import read_rows, renamed, send_rows

T0 = parse_rfc3339("2026-03-01T00:00:00Z")


def test_a_csv_is_read_in_order_of_time_and_its_bad_lines_are_named(tmp_path: Path) -> None:
    path = tmp_path / "readings.csv.gz"
    text = "meter_id,ts,index\nM1,2026-03-01T01:00:00Z,5.25\nM1,yesterday,5\nM1,2026-03-01T00:00:00Z,NaN\n"
    path.write_bytes(gzip.compress((text + "M2,2026-03-01T00:00:00Z,7\n").encode()))
    rows, faults = read_rows(path, "volume")
    assert [(row.meter, row.read_at, row.values) for row in rows] == [
        ("M2", T0, {"volume": 7_000_000}), ("M1", T0 + 3_600_000, {"volume": 5_250_000})
    ]  # fmt: skip
    assert [fault.split(": ")[0] for fault in faults] == ["readings.csv.gz:3", "readings.csv.gz:4"]


def test_the_readings_of_a_run_come_back_as_they_were(tmp_path: Path) -> None:
    row = Reading("W-1", T0, {"volume": 12_500_000, "valve": 0}, quality="suspect", reason="bad_flow", flags=2)
    write_outcome(tmp_path, [row], [])
    assert read_rows(tmp_path / "readings.jsonl", "volume") == ([row], [])


def test_the_readings_of_a_simulated_house_are_understood_too(tmp_path: Path) -> None:
    path = tmp_path / "readings.jsonl"
    path.write_text(
        '{"flags": 4, "meter": "M1", "quality": "valid", "read_at": "2026-03-01T00:00:00.000Z", "reason": "", '
        '"received_at": "2026-03-01T00:00:02.000Z", "volume": "12.5"}\n'
    )
    assert read_rows(path, "volume") == ([Reading("M1", T0, {"volume": 12_500_000}, flags=4)], [])


def test_a_file_without_one_reading_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.csv"
    path.write_text("a,b\n1,2\n")
    with pytest.raises(SettingsError, match=r"other\.csv: not one reading"):
        read_rows(path, "volume")


def test_other_names_and_a_shift_and_nothing_else_changes() -> None:
    row = Reading("W-1", T0, {"volume": 1}, meter_time=T0 - 500, received_at=T0 + 9)
    (other,) = renamed([row], prefix="replay-", shift_ms=1000)
    assert other == Reading("replay-W-1", T0 + 1000, {"volume": 1}, meter_time=T0 + 500)
    assert row.meter == "W-1"


def test_rows_leave_at_their_own_distances() -> None:
    async def scenario(speed: float) -> list[tuple[float, list[str]]]:
        clock, left = ManualClock(), list[tuple[float, list[str]]]()

        async def append(rows: Sequence[Row]) -> None:
            left.append((clock.monotonic(), [row.meter for row in rows]))

        rows = [Reading(f"M{n}", T0 + at, {"volume": n}) for n, at in enumerate((0, 0, 20_000, 60_000))]
        sending = asyncio.ensure_future(send_rows(rows, append, clock, speed=speed))
        await clock.advance(100)
        assert await sending == 4
        return left

    assert asyncio.run(scenario(2.0)) == [(0.0, ["M0", "M1"]), (10.0, ["M2"]), (30.0, ["M3"])]
    assert asyncio.run(scenario(0.0)) == [(0.0, ["M0", "M1", "M2", "M3"])]
