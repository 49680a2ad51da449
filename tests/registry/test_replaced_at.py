"""`replaced_at` of a meters file is an exchange in the books, recorded once however often the file comes."""

from __future__ import annotations

import sqlalchemy as sa

from registry import history
from registry.books import import_meters
from registry.database import Database
from registry.models import Meter

JAN_5 = 1_767_571_200_000  # 2026-01-05T00:00:00Z
FIRST = "meter_id,medium,usage_point,start_index,install_date,tz\nM1,gas,P1,10,2025-01-05,UTC\n"


def spans(database: Database, point: str) -> list[tuple[str, int, int | None, int | None]]:
    with database.read() as connection:
        found = history.history(connection, [point])[point]
        return [(f.meter, f.from_at, f.to_at, f.start_index) for f in found]


def test_another_meter_at_the_same_usage_point_takes_over_at_replaced_at(database: Database) -> None:
    second = "meter_id,medium,usage_point,start_index,replaced_at,tz\nM2,gas,P1,3,2026-01-05,UTC\n"
    with database.begin() as connection:
        assert import_meters(connection, FIRST).bad == []
        assert import_meters(connection, second).bad == []
    began = JAN_5 - 365 * 86_400_000
    once = [("M1", began, JAN_5, 10_000_000), ("M2", JAN_5, None, 3_000_000)]
    assert spans(database, "P1") == once
    with database.begin() as connection:
        assert import_meters(connection, second).bad == []
        assert import_meters(connection, FIRST).bad == []
    assert spans(database, "P1") == once
    with database.read() as connection:
        states = {row.id: row.state for row in connection.execute(sa.select(Meter.id, Meter.state))}
    assert states == {"M1": "removed", "M2": "in_service"}


def test_where_the_head_end_keeps_the_id_the_readings_are_split(database: Database) -> None:
    file = "meter_id,medium,install_date,replaced_at,tz\nSM1,water,2025-01-05,2026-01-05T00:00:00Z,UTC\n"
    with database.begin() as connection:
        assert import_meters(connection, file).bad == []
        assert import_meters(connection, file).bad == []
    began = JAN_5 - 365 * 86_400_000
    assert spans(database, "SM1") == [("SM1", began, JAN_5, None), ("SM1", JAN_5, None, None)]


def test_an_exchange_before_the_meter_came_is_a_bad_row(database: Database) -> None:
    file = "meter_id,medium,install_date,replaced_at,tz\nSM1,water,2026-02-05,2026-01-05T00:00:00Z,UTC\n"
    with database.begin() as connection:
        (bad,) = import_meters(connection, file).bad
    assert (bad.line, bad.meter) == (2, "SM1")
    assert "not before" in bad.reason
