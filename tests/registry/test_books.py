"""The meters file: 300 meters in one go, and one clear line for each bad row."""

from __future__ import annotations

from typing import Any

import pytest
import sqlalchemy as sa

from registry import books
from registry.database import Database
from registry.ledger import load_meters
from registry.models import Base, Installation, Meter, UsagePoint

HEADER = "meter_id,medium,gateway,bus,host,port,address,profile,interval_s"


def take(database: Database, *lines: str, header: str = HEADER) -> books.ImportResult:
    with database.begin() as connection:
        return books.import_meters(connection, "\n".join([header, *lines]))


def count(database: Database, table: type[Base]) -> int:
    with database.read() as connection:
        return int(connection.execute(sa.select(sa.func.count()).select_from(table)).scalar_one())


def one(database: Database, table: type[Base]) -> dict[str, Any]:
    with database.read() as connection:
        return dict(connection.execute(sa.select(table.__table__)).mappings().one())


def test_three_hundred_meters_come_in_one_file(database: Database) -> None:
    lines = [f"G{i:03},gas,gw-1,bus-{i % 4},127.0.0.1,{5020 + i % 4},{i % 240 + 1},evc,60" for i in range(300)]
    result = take(database, *lines)
    assert (result.meters, result.bad) == (300, [])
    with database.read() as connection:
        buses, meters = books.polled_meters(connection, "gw-1")
        facts = load_meters(connection)
    assert [bus["name"] for bus in buses] == ["bus-0", "bus-1", "bus-2", "bus-3"]
    assert len(meters) == 300
    assert facts["G000"].quantity == "volume"
    assert facts["G000"].tz == "Asia/Shanghai"


def test_the_same_file_twice_changes_nothing(database: Database) -> None:
    line = "G1,gas,gw-1,b,127.0.0.1,502,1,evc,60"
    take(database, line)
    take(database, line)
    assert [count(database, table) for table in (Meter, UsagePoint, Installation)] == [1, 1, 1]


def test_every_bad_row_is_named_with_its_line_and_the_sound_ones_go_in(database: Database) -> None:
    result = take(
        database,
        "G1,gas,gw-1,b,127.0.0.1,502,1,evc,60",
        "G2,gass,gw-1,b,127.0.0.1,502,2,evc,60",
        "G3,gas,gw-1,b,127.0.0.1,70000,3,evc,-5",
        "G1,gas,gw-1,b,127.0.0.1,502,4,evc,60",
        "G5,gas,gw-1,,127.0.0.1,502,5,,60",
        "G6,gas,gw-1,b,10.0.0.9,502,6,evc,60",
        "G7,gas,gw-1",
        ",gas,gw-1,b,127.0.0.1,502,8,evc,60",
        "G9,gas,gw-1,b,127.0.0.1,502,one,evc,60",
    )
    assert result.meters == 1
    told = {bad.line: bad.reason for bad in result.bad}
    assert sorted(told) == [3, 4, 5, 6, 7, 8, 9, 10]
    assert 'medium = "gass": allowed: gas, water, electricity, heat; did you mean "gas"?' in told[3]
    assert "port" in told[4]
    assert "interval_s" in told[4]
    assert told[5] == "meter_id stands already on line 2"
    assert told[6] == "a meter of a gateway needs bus, profile too"
    assert "elsewhere" in told[7]
    assert "3 cells, the header has 9" in told[8]
    assert "meter_id" in told[9]
    assert told[10] == 'address = "one": a Modbus unit is a number, 0 … 255'


@pytest.mark.parametrize(
    ("header", "words"),
    [
        ("meter_id,medium,adress", 'unknown column "adress"; did you mean "address"?'),
        ("medium,gateway", 'column "meter_id" is missing'),
        ("meter_id,medium,medium", "a column stands twice"),
        ("", 'column "meter_id" is missing'),
    ],
)
def test_a_header_that_cannot_be_used_is_refused_whole(database: Database, header: str, words: str) -> None:
    with pytest.raises(ValueError, match=words.replace("?", r"\?")):
        take(database, "G1,gas,x", header=header)


def test_dates_are_local_midnights_and_indexes_exact(database: Database) -> None:
    result = take(
        database,
        "G1,water,2026-03-01,123.456,Asia/Shanghai,0.001",
        header="meter_id,medium,install_date,start_index,tz,resolution",
    )
    assert result.bad == []
    installation, meter = one(database, Installation), one(database, Meter)
    assert installation["installed_at"] == 1_772_294_400_000  # 2026-02-28T16:00:00Z
    assert installation["start_index"] == 123_456_000
    assert meter["resolution"] == 1000


@pytest.mark.parametrize(
    ("column", "cell"),
    [
        ("tz", "Asia/Shanghay"),
        ("tz", "../../etc/passwd"),
        ("resolution", "0"),
        ("start_index", "12,3"),
        ("start_index", "NaN"),
        ("install_date", "2026-02-30"),
        ("quantity", "pressure"),
        ("quantity", "volumes"),
        ("district", "a\x07b"),
    ],
)
def test_impossible_cells_are_refused_by_column(database: Database, column: str, cell: str) -> None:
    result = take(database, f'G1,gas,"{cell}"', header=f"meter_id,medium,{column}")
    assert result.meters == 0
    assert column in result.bad[0].reason


def test_a_removed_meter_is_not_polled(database: Database) -> None:
    take(database, "G1,gas,gw-1,b,h,502,1,evc,60,removed", header=HEADER + ",state")
    with database.read() as connection:
        assert books.polled_meters(connection, "gw-1")[1] == []


def test_the_columns_of_the_sample_fleet_are_understood(database: Database) -> None:
    header = (
        "meter_id,medium,unit,customer_class,install_date,commission_date,replaced_at,index_digits,resolution,"
        "interval_s,qmax_per_h,tz,district,first_ts,last_ts"
    )
    line = (
        "SM10001,electricity,kWh,residential,2019-10-02,2019-10-09,,6,0.01,3600,13.2,Asia/Shanghai,D3,"
        "2025-10-19T16:00:00Z,2025-12-18T16:00:00Z"
    )
    assert take(database, line, header=header).bad == []
    assert one(database, Meter)["quantity"] == "energy_import"


def test_the_profile_decides_what_is_billed_and_must_exist(database: Database) -> None:
    text = f"{HEADER}\nG1,gas,gw-1,b,h,502,1,evc,60\nG2,gas,gw-1,b,h,502,2,evv,60"
    with database.begin() as connection:
        result = books.import_meters(connection, text, billed={"evc": "volume_standard"})
    assert [(bad.line, bad.reason) for bad in result.bad] == [
        (3, 'profile = "evv": no such meter model; did you mean "evc"?')
    ]
    assert one(database, Meter)["quantity"] == "volume_standard"
