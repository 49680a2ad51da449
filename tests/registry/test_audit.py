"""The audit chain: numbers without a gap, and every row bound to the one before."""

from __future__ import annotations

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
    assert all(audit.row_hash(row._mapping) == row.hash for row in rows)


def test_a_change_that_fails_leaves_no_row(database: Database) -> None:
    try:
        with database.begin() as connection:
            audit.append(connection, Actor("user:li"), "meter.edit", "meter", "G-1", at=1)
            raise ValueError
    except ValueError:
        pass
    with database.begin() as connection:
        assert audit.append(connection, Actor("user:li"), "meter.edit", "meter", "G-1", at=2) == 1
