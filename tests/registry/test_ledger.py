"""Ingest's ledgers: every function is safe to repeat, and an old value never becomes latest."""

from __future__ import annotations

from dataclasses import replace

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from registry import ledger
from registry.database import Database
from registry.models import (
    Closing,
    EventRecord,
    Gateway,
    GatewayStatus,
    Installation,
    Meter,
    Quarantine,
    UsagePoint,
)
from registry.tables import Base


def test_migrations_lead_to_exactly_the_tables_of_the_models(database: Database) -> None:
    with database.read() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        assert compare_metadata(context, Base.metadata) == []


def test_upgrade_twice_changes_nothing(database: Database) -> None:
    database.upgrade()
    with database.read() as connection:
        assert sorted(sa.inspect(connection).get_table_names()) == sorted([*Base.metadata.tables, "alembic_version"])


def test_a_position_comes_back_as_it_was_saved(database: Database) -> None:
    position = ledger.Position(
        "gw-1", "00ff00ff", 7, [(1, 5), (9, 12)], oldest=3, produced=12, stored=8, last_up_at=5
    )
    with database.begin() as connection:
        ledger.save_positions(connection, [position])
        ledger.save_positions(connection, [replace(position, stored=9)])
    with database.read() as connection:
        assert ledger.load_positions(connection) == {("gw-1", "00ff00ff"): replace(position, stored=9)}


def test_an_older_reading_never_replaces_the_latest(database: Database) -> None:
    new = ledger.LatestRow("M1", 2000, 2100, None, "valid", "", "poll", 0, {"volume": 5_000_000})
    old = replace(new, read_at=1000, values={"volume": 1})
    with database.begin() as connection:
        ledger.save_latest(connection, [new])
        ledger.save_latest(connection, [old])
    with database.read() as connection:
        assert ledger.load_latest(connection) == {"M1": new}


def test_the_last_index_of_a_day_closes_it_in_any_order_of_arrival(database: Database) -> None:
    rows = [ledger.ClosingRow("M1", "2026-03-01", "volume", at, at * 10, "valid") for at in (300, 100, 200)]
    with database.begin() as connection:
        for row in rows:
            ledger.save_closings(connection, [row])
        found = connection.execute(sa.select(Closing.read_at, Closing.index)).all()
    assert [tuple(row) for row in found] == [(300, 3000)]


def test_events_and_quarantine_rows_are_kept_once(database: Database) -> None:
    event = ledger.EventRow("gw-1", "00ff00ff", 4, "abc", 1, 2, "read_failed", "M1", "timeout")
    refused = ledger.QuarantineRow("gw-1", "d1", 5, "unknown_meter", "no such meter", b"\x00\xff raw")
    with database.begin() as connection:
        assert ledger.add_events(connection, [event, replace(event, seq=5)]) == 2
        assert ledger.add_events(connection, [event]) == 0
        assert ledger.add_quarantine(connection, [refused]) == 1
        assert ledger.add_quarantine(connection, [refused]) == 0
        assert connection.execute(sa.select(sa.func.count()).select_from(EventRecord)).scalar_one() == 2
        assert connection.execute(sa.select(Quarantine.raw)).scalar_one() == b"\x00\xff raw"


def test_a_status_row_leaves_what_it_does_not_speak_of(database: Database) -> None:
    with database.begin() as connection:
        ledger.save_gateway_status(connection, [ledger.StatusRow("gw-1", online=True, state_at=10)])
        ledger.save_gateway_status(connection, [ledger.StatusRow("gw-1", health_at=20, health={"waiting": 3})])
        row = connection.execute(sa.select(GatewayStatus.__table__)).mappings().one()
    assert (row["online"], row["state_at"], row["health_at"], row["health"]) == (True, 10, 20, {"waiting": 3})


def test_states_and_counters_are_overwritten(database: Database) -> None:
    with database.begin() as connection:
        assert ledger.get_state(connection, "floor") is None
        ledger.set_state(connection, "floor", "1")
        ledger.set_state(connection, "floor", "2")
        assert ledger.get_state(connection, "floor") == "2"
        ledger.save_counters(connection, "ingest", {"rows_total": 1.0, ("rows_total", 'kind="x"'): 2.0}, 7)
        ledger.save_counters(connection, "ingest", {"rows_total": 3.0}, 8)


def test_empty_lists_are_no_work(database: Database) -> None:
    with database.begin() as connection:
        assert ledger.add_events(connection, []) == 0
        ledger.save_latest(connection, [])
        ledger.save_positions(connection, [])


def test_two_thousand_rows_go_in_together(database: Database) -> None:
    rows = [ledger.LatestRow(f"M{i}", 1, 1, None, "valid", "", "poll", 0, {"volume": i}) for i in range(2000)]
    with database.begin() as connection:
        ledger.save_latest(connection, rows)
    with database.read() as connection:
        assert len(ledger.load_latest(connection)) == 2000


def test_a_failed_transaction_leaves_nothing(database: Database) -> None:
    def half_done() -> None:
        with database.begin() as connection:
            ledger.set_state(connection, "x", "1")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        half_done()
    with database.read() as connection:
        assert ledger.get_state(connection, "x") is None


def test_facts_of_some_meters_and_of_all_gateways(database: Database) -> None:
    with database.begin() as connection:
        connection.execute(sa.insert(Gateway), [{"id": "gw-1"}, {"id": "gw-2"}])
        common = {"medium": "water", "quantity": "volume"}
        meters = [{"id": f"M{i}", "gateway_id": "gw-1", **common} for i in range(1200)]
        connection.execute(sa.insert(Meter), meters)
        connection.execute(sa.insert(Meter), [{"id": "shelf", "gateway_id": None, **common}])
    with database.read() as connection:
        assert ledger.load_gateways(connection) == {"gw-1", "gw-2", "office"}
        assert len(ledger.load_meters(connection)) == 1201
        some = ledger.load_meters(connection, [f"M{i}" for i in range(900)] + ["shelf", "nobody"])
        assert set(some) == {f"M{i}" for i in range(900)} | {"shelf"}
        assert (some["M1"].gateway, some["shelf"].gateway) == ("gw-1", "office")
        assert ledger.load_meters(connection, []) == {}


def test_late_readings_of_a_removed_meter_still_belong_to_the_days_of_its_last_place(database: Database) -> None:
    with database.begin() as connection:
        connection.execute(sa.insert(UsagePoint), [{"id": "U1", "medium": "gas", "tz": "Asia/Shanghai"}])
        connection.execute(sa.insert(UsagePoint), [{"id": "U2", "medium": "gas", "tz": "Europe/Berlin"}])
        connection.execute(sa.insert(Meter), [{"id": "M1", "medium": "gas", "quantity": "volume"}])
        stays = [("U2", 500, 900), ("U1", 100, 400)]
        connection.execute(
            sa.insert(Installation),
            [{"meter_id": "M1", "usage_point_id": p, "installed_at": i, "removed_at": r} for p, i, r in stays],
        )
        assert ledger.load_meters(connection)["M1"].tz == "Europe/Berlin"
