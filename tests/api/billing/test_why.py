"""`why` answers for every expected reading, with the cause and the times."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from api.billing.why import Stretch, counts, why
from ingest.store_sqlite import SqliteStore
from metering.errors import RegistryError
from metering.reading import Reading
from registry import ledger
from registry.database import Database
from registry.models_billing import GatewayOutage
from tests.api.billing.town import HOUR, M, add_place, at, deliver, readings

START = at("2026-02-10T00:00")
NOW = at("2026-03-25T00:00")
ALL = 28 * 24


def steady() -> list[int | None]:
    return [1000 * M + n * 10_000 for n in range(24 * 43)]


def asked(database: Database, store: SqliteStore, name: str = "P1", now: int = NOW) -> list[Stretch]:
    with database.read() as connection:
        point, bounds, found = why(connection, store, name, "2026-03", now=now)
    assert (point, bounds.end) == ("P1", at("2026-03-20T00:00"))
    assert sum(stretch.count for stretch in found) == ALL
    return found


def test_a_full_month_is_one_stretch_for_the_point_and_for_its_meter(database: Database, store: SqliteStore) -> None:
    add_place(database, "P1")
    deliver(database, store, readings("M-P1", START, steady()))
    (stretch,) = asked(database, store)
    assert (stretch.state, stretch.first, stretch.count) == ("received", at("2026-02-20T00:00"), ALL)
    assert asked(database, store, "M-P1") == [stretch]


def test_a_gateway_that_was_down_for_nine_days_says_so_with_the_times(database: Database, store: SqliteStore) -> None:
    add_place(database, "P1")
    away, back = at("2026-03-01T08:00"), at("2026-03-10T08:00")
    deliver(database, store, [r for r in readings("M-P1", START, steady()) if not away < r.read_at <= back])
    with database.begin() as connection:
        connection.execute(sa.insert(GatewayOutage).values(gateway="gw-1", from_at=away, to_at=back))
    before, down, after = asked(database, store)
    assert (before.state, after.state) == ("received", "received")
    assert (down.state, down.cause, down.count) == ("missing", "gateway_down", 9 * 24)
    assert (down.first, down.last) == (away, back)
    assert down.detail == "gateway gw-1 was away from 2026-03-01T00:00:00.000Z to 2026-03-10T00:00:00.000Z (9.0 d)"


def test_a_gateway_whose_absence_nobody_noted_is_found_in_the_closings_of_its_meters(
    database: Database, store: SqliteStore
) -> None:
    away, back = at("2026-03-01T08:00"), at("2026-03-10T08:00")
    for point in ("P1", "P2"):
        add_place(database, point)
        deliver(database, store, [r for r in readings(f"M-{point}", START, steady()) if not away < r.read_at <= back])
    _, down, _ = asked(database, store)
    assert (down.cause, down.count) == ("gateway_silent", 9 * 24)
    assert "no meter of gateway gw-1 was read between 2026-03-01T00:00:00.000Z and 2026-03-10" in down.detail


def test_late_quarantined_failed_and_silent_readings_are_told_apart(database: Database, store: SqliteStore) -> None:
    add_place(database, "P1")
    add_place(database, "P2")
    t = at("2026-03-05T00:00")
    rows = [r for r in readings("M-P1", START, steady()) if not t < r.read_at <= t + 4 * HOUR]
    late = Reading("M-P1", t + HOUR, {"volume": 1000 * M}, received_at=t + 30 * HOUR)
    deliver(database, store, [*rows, late, *readings("M-P2", START, steady())])
    with database.begin() as connection:
        ledger.add_quarantine(
            connection,
            [
                ledger.QuarantineRow(
                    "gw-1", "d", t, "conflict", "another value", b"x", meter="M-P1", read_at=t + 2 * HOUR
                )
            ],
        )
        ledger.add_events(
            connection, [ledger.EventRow("gw-1", "e", 1, "d", t + 3 * HOUR, t, "read_failed", "M-P1", "timeout")]
        )
    found = asked(database, store)
    assert [(s.state, s.cause) for s in found[1:-1]] == [
        ("late", "backlog"),
        ("quarantined", "conflict"),
        ("missing", "meter_silent"),
        ("missing", "meter_silent"),
    ]
    assert "timeout" in found[3].detail
    assert counts(found) == {
        "received": ALL - 4, "late": 1, "quarantined": 1, "waiting": 0, "missing": 2, "not_due": 0
    }  # fmt: skip


def test_rows_in_the_gateways_outbox_are_waiting_and_the_future_is_not_due(
    database: Database, store: SqliteStore
) -> None:
    add_place(database, "P1")
    now = at("2026-03-15T00:00")
    deliver(database, store, [r for r in readings("M-P1", START, steady()) if r.read_at <= now - 6 * HOUR])
    with database.begin() as connection:
        said = {"waiting": 6, "oldest_at": now - 5 * HOUR}
        ledger.save_gateway_status(connection, [ledger.StatusRow("gw-1", True, 1, now, said)])
    found = asked(database, store, now=now)
    assert [(s.state, s.count) for s in found[1:]] == [("waiting", 6), ("not_due", 5 * 24)]


def test_an_unknown_name_is_answered_with_the_nearest(database: Database, store: SqliteStore) -> None:
    add_place(database, "P1")
    with pytest.raises(RegistryError, match="P1"):
        asked(database, store, "P11")
