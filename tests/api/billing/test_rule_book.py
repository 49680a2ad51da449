"""Rules of billing are checked, audited, and never reach into a closed period."""

from __future__ import annotations

import pytest
import sqlalchemy as sa

from api.billing.calendars import Calendar, ExtraDay
from api.billing.close import close_period
from api.billing.load import calendars_of
from api.billing.rule_book import add_calendar, add_extra_day, calendars, end_calendar, set_calorific_value
from api.billing.settings import BillingSettings, parse_limit
from ingest.store_sqlite import SqliteStore
from metering.errors import RegistryError
from registry.database import Database
from registry.models_access import AuditRecord
from registry.roles import Actor, Role
from tests.api.billing.town import M, add_place, at, deliver, readings

ADMIN = Actor("user:wang", frozenset({Role.ADMIN}), areas=None)


def test_the_manuals_calendars_count_wherever_there_is_no_own_one(database: Database) -> None:
    with database.begin() as connection:
        assert calendars_of(connection).rule("commercial", "gas", "2026-03") == Calendar("commercial", "", 22, 23)
        add_calendar(connection, ADMIN, Calendar("commercial", "", 5, 5), now=1)
        found = calendars_of(connection)
        assert found.rule("commercial", "gas", "2026-03") == Calendar("commercial", "", 5, 5)
        assert found.rule("residential", "gas", "2026-03") == Calendar("residential", "", 20, 20)
        actions = connection.execute(sa.select(AuditRecord.action)).scalars().all()
    assert actions == ["calendar.add"]


def test_another_calendar_follows_once_the_first_one_was_ended(database: Database) -> None:
    with database.begin() as connection:
        number = add_calendar(connection, ADMIN, Calendar("", "", 5, 5), now=1)
        with pytest.raises(RegistryError, match="overlaps"):
            add_calendar(connection, ADMIN, Calendar("", "", 8, 8, from_period="2026-06"), now=1)
        end_calendar(connection, ADMIN, number, "2026-05", now=2)
        add_calendar(connection, ADMIN, Calendar("", "", 8, 8, from_period="2026-06"), now=3)
        assert [(row["first_day"], row["to_period"]) for row in calendars(connection)] == [(5, "2026-05"), (8, "")]
        with pytest.raises(RegistryError, match="no calendar has the number 99"):
            end_calendar(connection, ADMIN, 99, "2026-05", now=2)


def test_no_rule_reaches_into_a_closed_period(database: Database, store: SqliteStore) -> None:
    add_place(database, "P1")
    deliver(database, store, readings("M-P1", at("2026-02-10T00:00"), [1000 * M + n for n in range(24 * 43)]))
    now = at("2026-03-25T00:00")
    close_period(database, store, BillingSettings(), ADMIN, "2026-03", missing=0, doubtful=0, now=now)
    with database.begin() as connection:
        with pytest.raises(RegistryError, match="2026-03 is closed"):
            add_calendar(connection, ADMIN, Calendar("", "", 5, 5, from_period="2026-03"), now=now)
        add_calendar(connection, ADMIN, Calendar("", "", 5, 5, from_period="2026-04"), now=now)


def test_extra_days_and_calorific_values_stand_once(database: Database) -> None:
    with database.begin() as connection:
        add_extra_day(connection, ADMIN, ExtraDay("", "gas", "2026-04-01", "new price"), now=1)
        with pytest.raises(RegistryError, match="stands already"):
            add_extra_day(connection, ADMIN, ExtraDay("", "gas", "2026-04-01"), now=1)
        set_calorific_value(connection, ADMIN, "2026-04-01", 10_700_000, now=1)
        for day, value, says in (
            ("2026-04-01", 1, "stands already"),
            ("2026-04-31", 1, "date that exists"),
            ("2026-05-01", 0, "allowed are 1 to"),
        ):
            with pytest.raises(RegistryError, match=says):
                set_calorific_value(connection, ADMIN, day, value, now=1)


@pytest.mark.parametrize("text", ["residential gas 50", "residential gas fifty 100", "residential gas 100 50", ""])
def test_a_limit_that_cannot_be_read_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"write class, medium|must not be below"):
        parse_limit(text)
    assert parse_limit("residential gas 50 100") == (("residential", "gas"), (50 * M, 100 * M))
