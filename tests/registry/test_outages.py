"""When a gateway was away is kept from its last will, its birth and the silence between."""

from __future__ import annotations

import sqlalchemy as sa

from registry.database import Database
from registry.ledger import StatusRow, save_gateway_status
from registry.models_billing import GatewayOutage

MINUTE = 60_000


def outages(database: Database, *rows: StatusRow) -> list[tuple[str, int, int | None]]:
    for row in rows:
        with database.begin() as connection:
            save_gateway_status(connection, [row])
    with database.read() as connection:
        table = GatewayOutage.__table__
        return [tuple(row) for row in connection.execute(sa.select(table).order_by(table.c.from_at))]


def test_an_outage_lasts_from_the_last_sign_of_life_to_the_next_birth(database: Database) -> None:
    found = outages(
        database,
        StatusRow("gw-1", online=True, state_at=MINUTE),
        StatusRow("gw-1", health_at=5 * MINUTE, health={}),
        StatusRow("gw-1", online=False, state_at=MINUTE),  # a will carries the time of its making
        StatusRow("gw-1", online=False, state_at=MINUTE),
        StatusRow("gw-1", online=True, state_at=9 * MINUTE),
    )
    assert found == [("gw-1", 5 * MINUTE, 9 * MINUTE)]


def test_a_gateway_that_is_still_away_has_an_open_outage(database: Database) -> None:
    found = outages(database, StatusRow("gw-1", online=True, state_at=7), StatusRow("gw-1", online=False, state_at=7))
    assert found == [("gw-1", 7, None)]


def test_a_long_silence_without_a_will_is_kept_and_a_short_one_is_not(database: Database) -> None:
    found = outages(
        database,
        StatusRow("gw-1", online=True, state_at=MINUTE),
        StatusRow("gw-1", health_at=10 * MINUTE, health={}),
        StatusRow("gw-1", health_at=40 * MINUTE, health={}),
        StatusRow("gw-2", online=True, state_at=MINUTE),
    )
    assert found == [("gw-1", 10 * MINUTE, 40 * MINUTE)]
