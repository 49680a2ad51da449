"""The commands for hand-held readers: a list goes out, comes back filled in, is looked at and posted."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
import sqlalchemy as sa
from typer.testing import CliRunner

from ingest.store_sqlite import SqliteStore
from metergate.__main__ import build
from metering.reading import Reading
from registry.database import Database
from registry.models import Installation
from registry.models_books import OfficeRow

MICRO = 1_000_000
T0 = 1_772_323_200_000  # 2026-03-01T00:00:00Z
METERS = (
    "meter_id,medium,usage_point,customer_class,index_digits,resolution,qmax_per_h,install_date,tz,district\n"
    "M1,gas,U1,residential,5,0.001,6,2025-01-01,UTC,D1\nM2,gas,U2,residential,5,0.001,6,2025-01-01,UTC,D1\n"
)


class Desk:
    """A registry in a folder, and the command line before it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.config = folder / "metergate.toml"
        self.config.write_text(
            f'[registry]\nurl = "sqlite:///{folder / "registry.db"}"\n[store]\npath = "{folder / "readings.db"}"\n'
        )
        (folder / "meters.csv").write_text(METERS)
        assert self.run("import", "meters", str(folder / "meters.csv"))[0] == 0

    def run(self, *arguments: str) -> tuple[int, str]:
        """(exit code, standard output)"""
        done = CliRunner().invoke(build(), [*arguments, "--config", str(self.config)])
        return done.exit_code, done.stdout

    def count(self, table: type) -> int:
        database = Database(f"sqlite:///{self.folder / 'registry.db'}")
        with database.read() as connection:
            found = int(connection.execute(sa.select(sa.func.count()).select_from(table)).scalar_one())
        database.close()
        return found


@pytest.fixture
def desk(tmp_path: Path) -> Desk:
    return Desk(tmp_path)


def test_a_list_in_gbk_goes_out_and_comes_back(desk: Desk, tmp_path: Path) -> None:
    path = tmp_path / "march.csv"
    assert desk.run("export", "readings-list", str(path), "--encoding", "gbk", "--reading-day", "2026-03-20")[0] == 0
    with path.open(encoding="gbk", newline="") as file:
        table = list(csv.reader(file))
    assert [row[3] for row in table] == ["meter", "M1", "M2"]
    table[1][8:11] = ["130", "2026-03-20 09:00", "\u5c0f\u738b"]
    with path.open("w", encoding="gbk", newline="") as file:
        csv.writer(file).writerows(table)
    code, out = desk.run("import", "readings", str(path))
    seen = json.loads(out)
    assert (code, seen["counts"], seen["expected"], seen["delivered"]) == (0, {"ok": 1}, 2, 1)
    assert desk.count(OfficeRow) == 0
    assert desk.run("import", "post", str(seen["batch"]))[0] == 0
    assert desk.count(OfficeRow) == 1


def test_bad_rows_fail_the_command_and_stand_in_the_error_file(desk: Desk, tmp_path: Path) -> None:
    path, errors = tmp_path / "a.csv", tmp_path / "bad.csv"
    path.write_text("meter,read_at,index\nM1,2026-03-20,1\n=X,2026-03-20,1\n", "utf-8")
    assert desk.run("import", "readings", str(path), "--errors", str(errors))[0] == 1
    with errors.open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.reader(file))
    assert [(row[0], row[1], row[3]) for row in rows[1:]] == [("3", "bad", "'=X")]
    assert desk.run("import", "readings", str(path), "--post")[0] == 1
    assert desk.count(OfficeRow) == 0
    path.write_bytes(b"\xff\xfe\x00")
    assert desk.run("import", "readings", str(path))[0] == 2


def test_exchanges_are_posted_and_reversed(desk: Desk, tmp_path: Path) -> None:
    path = tmp_path / "e.csv"
    path.write_text(
        "usage_point,old_meter,new_meter,at,final_index,start_index\nU1,M1,N1,2026-03-10,130,0\n", "utf-8"
    )
    code, out = desk.run("import", "exchanges", str(path), "--post")
    assert (code, desk.count(Installation)) == (0, 3)
    assert desk.run("import", "reverse", str(json.loads(out)["batch"]), "--note", "wrong list")[0] == 0
    assert desk.count(Installation) == 2


def test_validate_names_a_bad_value_as_a_line(desk: Desk, tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "readings.db", mode="write")
    indexes = enumerate((100, 0, 101, 102))
    store.write([Reading("M1", T0 + hour * 3_600_000, {"volume": m3 * MICRO}) for hour, m3 in indexes])
    store.close()
    code, out = desk.run("validate", "M1", "--from", "2026-03-01", "--to", "2026-03-02")
    (line,) = [json.loads(line) for line in out.splitlines()]
    assert (code, line["rule"], line["reason"], line["read_at"]) == (
        0,
        "step",
        "transient",
        "2026-03-01T01:00:00.000Z",
    )


def test_all_meters_are_validated_by_the_rules_in_force(desk: Desk, tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "readings.db", mode="write")
    store.write([Reading("M2", T0, {"volume": 5 * MICRO}, meter_time=T0 + 7_200_000)])
    store.close()
    code, out = desk.run("validate", "--from", "2026-03-01", "--to", "2026-03-02")
    (line,) = [json.loads(line) for line in out.splitlines()]
    assert (code, line["meter"], line["rule"], line["version"]) == (0, "M2", "clock_off", 1)
    assert desk.run("validate", "--from", "2026-03-02", "--to", "2026-03-02")[0] == 2
    change = ("validation", "change", "clock_off", "--from", "2099-01-01", "--reason", "set weekly")
    code, out = desk.run(*change, "most_s=600")
    assert (code, json.loads(out)["version"], json.loads(out)["limits"]) == (0, 2, {"most_s": 600})
    assert desk.run(*change, "most_s=6")[0] == 1
    assert desk.run(*change, "most_s=ten")[0] == 2
    code, out = desk.run("validation", "list")
    versions = [json.loads(line) for line in out.splitlines()]
    assert [v["valid_from"] for v in versions if v["rule"] == "clock_off"] == [None, "2099-01-01T00:00:00.000Z"]
