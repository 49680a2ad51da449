"""Files people hand over: what is read, and that every fault is named with line and column."""

from __future__ import annotations

import gzip
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from anomaly.files import between, read_meters, read_readings, read_weather
from anomaly.meters import Meter, MeterTable
from metering.errors import SettingsError

HEAD = "meter_id,medium,customer_class,index_digits,resolution,interval_s,qmax_per_h,commission_date"
GOOD = "A,gas,residential,5,0.01,3600,4.0,2020-01-01"
ONE = MeterTable([Meter("A"), Meter("B")])


def write(folder: Path, name: str, *lines: str, encoding: str = "utf-8") -> Path:
    path = folder / name
    path.write_text("\n".join(lines) + "\n", encoding=encoding)
    return path


def problem(call, *arguments) -> str:
    with pytest.raises(SettingsError) as caught:
        call(*arguments)
    return str(caught.value)


def test_meters_are_read_with_their_exact_numbers(tmp_path: Path):
    table, warnings = read_meters(write(tmp_path, "m.csv", HEAD, GOOD))
    meter = table.meters[0]
    assert (meter.resolution, meter.qmax_per_h, meter.index_digits, meter.commissioned) == (
        10_000,
        4_000_000,
        5,
        True,
    )
    assert warnings == []


def test_meters_file_with_only_ids_is_read_with_defaults_and_a_warning(tmp_path: Path):
    table, warnings = read_meters(write(tmp_path, "m.csv", "meter_id", "A"))
    assert table.meters[0].commissioned
    assert "no column medium" in warnings[0]


@pytest.mark.parametrize(
    ("line", "column", "word"),
    [
        ("A,steam,residential,5,0.01,3600,4.0,x", "medium", "steam"),
        ("A,gas,residential,5,0,3600,4.0,x", "resolution", "above 0"),
        ("A,gas,residential,5,fine,3600,4.0,x", "resolution", "fine"),
        ("A,gas,residential,0,0.01,3600,4.0,x", "index_digits", "1 to 12"),
        ("A,gas,residential,5,0.01,7000,4.0,x", "interval_s", "divide a day"),
        ("A,gas,residential,5,0.01,3600,-4,x", "qmax_per_h", "above 0"),
        (",gas,residential,5,0.01,3600,4.0,x", "meter_id", "empty"),
    ],
)
def test_impossible_master_data_are_named_with_line_and_column(tmp_path: Path, line: str, column: str, word: str):
    text = problem(read_meters, write(tmp_path, "m.csv", HEAD, GOOD.replace("A,", "Z,", 1), line))
    assert "m.csv: line 3, column " + column in text
    assert word in text


def test_time_zone_nobody_knows_is_named(tmp_path: Path):
    path = write(tmp_path, "m.csv", HEAD + ",tz", GOOD + ",Asia/Shanghay")
    assert "line 2, column tz: time zone 'Asia/Shanghay'" in problem(read_meters, path)


def test_meter_that_stands_twice_is_named(tmp_path: Path):
    assert "stands in line 2 already" in problem(read_meters, write(tmp_path, "m.csv", HEAD, GOOD, GOOD))


def test_class_nobody_knows_is_a_warning_and_the_meter_is_kept(tmp_path: Path):
    table, warnings = read_meters(write(tmp_path, "m.csv", HEAD, GOOD.replace("residential", "castle")))
    assert table.meters[0].customer_class == "other"
    assert "line 2, column customer_class: 'castle'" in warnings[0]


def test_meters_without_ids_and_absent_files_are_refused(tmp_path: Path):
    assert "column meter_id is missing" in problem(read_meters, write(tmp_path, "m.csv", "id,medium", "A,gas"))
    assert "no such file" in problem(read_meters, tmp_path / "absent.csv")
    (tmp_path / "empty.csv").write_bytes(b"")
    assert "empty.csv" in problem(read_meters, tmp_path / "empty.csv")


READ = "meter_id,ts,received_at,index,flags"


def rows(folder: Path, *lines: str, encoding: str = "utf-8"):
    return read_readings(write(folder, "r.csv", READ, *lines, encoding=encoding), ONE)


def test_readings_are_exact_and_in_order_of_arrival(tmp_path: Path):
    got = rows(
        tmp_path,
        "B,2026-03-01T00:00:00Z,2026-03-01T02:00:00Z,0.000001,",
        "A,2026-03-01T08:00:00+08:00,2026-03-01T00:00:09Z,12345.67,VALVE_CLOSED LOWBAT",
        "A,2026-03-01T01:00:00Z,,12345.7,",
    )
    assert got.micro.tolist() == [12_345_670_000, 12_345_700_000, 1]
    assert got.received.tolist() == [1_772_323_209, 1_772_326_800, 1_772_330_400]
    assert got.ts[0] == 1_772_323_200
    assert got.flags.tolist() == [9, 0, 0]


def test_readings_of_unknown_meters_are_counted(tmp_path: Path):
    got = rows(tmp_path, "A,2026-03-01T00:00:00Z,,1,", "X,2026-03-01T00:00:00Z,,1,")
    assert (len(got), got.unknown_meters) == (1, 1)


@pytest.mark.parametrize(
    ("line", "column", "word"),
    [
        ('A,2026-03-01T00:00:00Z,,"12,3",', "index", "decimal point"),
        ("A,2026-03-01T00:00:00Z,,,", "index", "failed read"),
        ("A,2026-03-01T00:00:00Z,,NaN,", "index", "NaN"),
        ("A,2026-03-01T00:00:00Z,,1.2345678,", "index", "6 decimals"),
        ("A,2026-03-01T00:00:00Z,,123456789012345678901234567890,", "index", "1234"),
        ("A,2026-03-01 00:00,,1,", "ts", "offset"),
        ("A,,,1,", "ts", ""),
        ("A,2026-03-01T00:00:00Z,yesterday,1,", "received_at", "yesterday"),
        ("A,2026-03-01T00:00:00Z,,1,SMELL", "flags", "SMELL"),
    ],
)
def test_bad_reading_is_named_with_line_and_column(tmp_path: Path, line: str, column: str, word: str):
    text = problem(rows, tmp_path, "A,2026-03-01T00:00:00Z,,1,", line)
    assert "r.csv: line 3, column " + column in text
    assert word in text


def test_many_faults_stop_after_twenty(tmp_path: Path):
    text = problem(rows, tmp_path, *["A,2026-03-01T00:00:00Z,,x,"] * 50)
    assert text.count("column index") == 20
    assert "reading stopped" in text


def test_missing_column_and_cut_row_are_refused(tmp_path: Path):
    path = write(tmp_path, "r.csv", "meter_id,ts", "A,2026-03-01T00:00:00Z")
    assert "column index is missing" in problem(read_readings, path, ONE)
    path = write(tmp_path, "r.csv", READ, "A,2026-03-01T00:00:00Z")
    assert "r.csv" in problem(read_readings, path, ONE)


def test_gzip_gbk_and_parquet_give_the_same_rows(tmp_path: Path):
    table = MeterTable([Meter("表一")])
    lines = [READ, "表一,2026-03-01T00:00:00Z,2026-03-01T00:00:05Z,1.5,"]
    packed = tmp_path / "r.csv.gz"
    packed.write_bytes(gzip.compress(("\n".join(lines) + "\n").encode()))
    gbk = write(tmp_path, "g.csv", *lines, encoding="gbk")
    parquet = tmp_path / "r.parquet"
    when = pa.array([1_772_323_200_000], pa.timestamp("ms", tz="UTC"))
    columns = {"meter_id": ["表一"], "ts": when, "received_at": ["2026-03-01T00:00:05Z"], "index": [1.5]}
    pq.write_table(pa.table(columns), parquet)
    for path in (packed, gbk, parquet):
        got = read_readings(path, table)
        assert (got.micro.tolist(), got.ts.tolist(), got.received.tolist()) == (
            [1_500_000],
            [1_772_323_200],
            [1_772_323_205],
        )


def test_broken_gzip_and_parquet_are_refused_in_words(tmp_path: Path):
    for name, content in (("r.csv.gz", b"\x1f\x8b\x08broken"), ("r.parquet", b"PAR1broken")):
        (tmp_path / name).write_bytes(content)
        assert "cannot be read" in problem(read_readings, tmp_path / name, ONE)


def test_period_is_cut_by_arrival(tmp_path: Path):
    got = rows(tmp_path, "A,2026-03-01T00:00:00Z,,1,", "A,2026-03-02T00:00:00Z,,2,")
    assert between(got, "2026-03-01T12:00:00Z", "").micro.tolist() == [2_000_000]
    assert "offset" in problem(between, got, "2026-03-01", "")


def test_weather_is_read_by_local_date(tmp_path: Path):
    path = write(tmp_path, "w.csv", "date,temp_avg_c", "2026-03-01,-3.5")
    assert list(read_weather(path).values()) == [-3.5]
    assert "line 2" in problem(read_weather, write(tmp_path, "w.csv", "date,temp_avg_c", "2026-03-01,cold"))
