"""The audit chain: numbers without a gap, and every row bound to the one before."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from registry import audit
from registry.database import Database
from registry.models_access import AuditRecord
from registry.roles import Actor


def test_rows_are_numbered_without_a_gap_and_chained(database: Database) -> None:
    for number in (1, 2, 3):
        with database.begin() as connection:
            assert audit.append(connection, Actor("user:li"), "meter.edit", "meter", "G-1", at=number) == number
    with database.read() as connection:
        rows = connection.execute(sa.select(AuditRecord).order_by(AuditRecord.number)).all()
    assert [row.previous for row in rows] == [audit.GENESIS, rows[0].hash, rows[1].hash]
    assert all(audit.row_hash(dict(row._mapping)) == row.hash for row in rows)


def test_a_change_that_fails_leaves_no_row(database: Database) -> None:
    try:
        with database.begin() as connection:
            audit.append(connection, Actor("user:li"), "meter.edit", "meter", "G-1", at=1)
            raise ValueError
    except ValueError:
        pass
    with database.begin() as connection:
        assert audit.append(connection, Actor("user:li"), "meter.edit", "meter", "G-1", at=2) == 1


def test_rows_are_found_by_who_what_and_when(database: Database) -> None:
    with database.begin() as connection:
        for number, (who, what) in enumerate([("li", "meter.edit"), ("hua", "user.edit"), ("li", "user.create")], 1):
            audit.append(connection, Actor(f"user:{who}"), what, what.split(".")[0], f"G-{number}", at=number * 10)

        def numbers(**wanted: Any) -> list[int]:
            return [row["number"] for row in audit.records(connection, **wanted)]

        assert numbers() == [3, 2, 1]
        assert numbers(after=0) == [1, 2, 3]
        assert numbers(after=1, limit=1) == [2]
        assert numbers(before=3) == [2, 1]
        assert numbers(actor="user:li") == [3, 1]
        assert numbers(action="user.") == [3, 2]
        assert numbers(action="user.edit") == [2]
        assert numbers(action="user") == numbers(action="%.") == []
        assert numbers(object_kind="meter", object_id="G-1") == [1]
        assert numbers(since=20, until=30) == [2]


def test_words_that_do_not_fit_a_column_are_cut_and_the_chain_holds(database: Database) -> None:
    with database.begin() as connection:
        audit.append(connection, Actor("user:li", address="f" * 100), "meter.edit", "meter", "x\0" + "y" * 200, at=1)
    with database.read() as connection:
        row = connection.execute(sa.select(AuditRecord.__table__)).mappings().one()
    assert (row["object_id"], row["address"]) == ("x" + "y" * 127, "f" * 64)
    assert audit.row_hash(dict(row)) == row["hash"]
