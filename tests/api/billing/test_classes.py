"""A customer class that changes in mid-year: each period is billed by the class at its own boundary."""

from __future__ import annotations

from api.billing.calendars import Calendars
from api.billing.classes import ClassStay, period_of
from api.billing.compute import Total, compute
from api.billing.keep import refresh
from api.billing.load import Scope, calendars_of
from api.billing.settings import BillingSettings
from api.billing.spans import spots
from api.billing.why import why
from ingest.store_sqlite import SqliteStore
from registry import book_changes, classes
from registry.books import import_meters
from registry.database import Database
from registry.roles import Actor, Role
from tests.api.billing.town import HOUR, ZONE, M, add_place, at, deliver, readings

ADMIN = Actor("user:wang", frozenset({Role.ADMIN}), areas=None)
NOW = at("2026-06-01T00:00")
SETTINGS = BillingSettings()


def stays(change: str, first: str = "residential", then: str = "commercial") -> list[ClassStay]:
    moment = at(f"{change}T00:00")
    return [ClassStay(first, 0, moment), ClassStay(then, moment, None)]


def period(spans: list[ClassStay], month: str) -> tuple[str, int, int, int] | None:
    """(class, start, end, months); homes are read on the 20th, shops on the 22nd."""
    found = period_of(Calendars(), spans, "gas", month, ZONE)
    return None if found is None else (found[0], found[1].start, found[1].end, found[1].months)


def test_the_class_in_force_on_its_own_reading_day_counts_and_nothing_lies_between_two_periods() -> None:
    spans = stays("2026-03-10")
    assert period(spans, "2026-02") == ("residential", at("2026-01-20T00:00"), at("2026-02-20T00:00"), 1)
    assert period(spans, "2026-03") == ("commercial", at("2026-02-20T00:00"), at("2026-03-22T00:00"), 1)
    assert period(spans, "2026-04") == ("commercial", at("2026-03-22T00:00"), at("2026-04-22T00:00"), 1)


def test_a_change_on_the_boundary_itself_counts_from_the_next_period_on() -> None:
    spans = stays("2026-03-20")
    assert period(spans, "2026-03") == ("residential", at("2026-02-20T00:00"), at("2026-03-20T00:00"), 1)
    assert period(spans, "2026-04") == ("commercial", at("2026-03-20T00:00"), at("2026-04-22T00:00"), 1)


def test_a_change_between_two_reading_days_leaves_one_period_for_the_month() -> None:
    spans = stays("2026-03-21")  # as a home it was read on the 20th; the shop's 22nd comes after and is not its end
    assert period(spans, "2026-03") == ("residential", at("2026-02-20T00:00"), at("2026-03-20T00:00"), 1)
    assert period(spans, "2026-04") == ("commercial", at("2026-03-20T00:00"), at("2026-04-22T00:00"), 1)
    back = stays("2026-03-21", "commercial", "residential")  # the 20th passed as a shop, the 22nd comes as a home
    assert period(back, "2026-03") == ("commercial", at("2026-02-22T00:00"), at("2026-03-22T00:00"), 1)
    assert period(back, "2026-04") == ("residential", at("2026-03-22T00:00"), at("2026-04-20T00:00"), 1)


def due(database: Database, store: SqliteStore, month: str, scope: Scope | None = None) -> list[Total]:
    return [total for block in compute(database, store, SETTINGS, month, scope) for total in block]


def test_a_home_that_becomes_a_shop_is_billed_by_its_class_of_then_also_when_it_is_computed_late(
    database: Database, store: SqliteStore
) -> None:
    add_place(database, "P1")
    start = at("2026-01-15T00:00")
    deliver(database, store, readings("M-P1", start, [1000 * M + n * 200_000 for n in range(24 * 110)]))
    with database.begin() as connection:
        entry = classes.change_class(
            connection, ADMIN, "P1", customer_class="commercial", at=at("2026-03-10T00:00"), now=NOW
        )
    (home,) = due(database, store, "2026-02")
    # 31 days of 4.8 m³ a day: more than the 100 m³ above which a home is read again
    assert (home.place.customer_class, home.outcome.consumption) == ("residential", 31 * 24 * 200_000)
    assert (home.outcome.state, home.outcome.cause) == ("doubtful", "large_use")
    (shop,) = due(database, store, "2026-03")
    assert (shop.place.customer_class, shop.outcome.state) == ("commercial", "billed")
    hours = (at("2026-03-22T00:00") - at("2026-02-20T00:00")) // HOUR
    assert shop.outcome.consumption == hours * 200_000
    assert refresh(database, store, SETTINGS, "2026-02", now=NOW) == 1
    assert due(database, store, "2026-03") == due(database, store, "2026-03", Scope(customer_class="commercial"))
    assert due(database, store, "2026-03", Scope(customer_class="residential")) == []
    assert len(due(database, store, "2026-02", Scope(customer_class="residential"))) == 1
    with database.read() as connection:
        _, bounds, _ = why(connection, store, "M-P1", "2026-03", now=NOW)
        assert (bounds.start, bounds.end) == (at("2026-02-20T00:00"), at("2026-03-22T00:00"))
        assert spots(connection, ["P1"])["P1"].bounds(calendars_of(connection), "2026-03") == bounds
    with database.begin() as connection:
        book_changes.undo(connection, ADMIN, entry, now=NOW + 1, note="wrong house")
    (home,) = due(database, store, "2026-03")
    assert (home.place.customer_class, home.place.bounds.end) == ("residential", at("2026-03-20T00:00"))


def test_a_file_of_meters_that_names_another_class_keeps_the_former_one_for_the_past(
    database: Database, store: SqliteStore
) -> None:
    rows = "meter_id,medium,customer_class,district\nG1,gas,{},east\n"
    with database.begin() as connection:
        assert import_meters(connection, rows.format("residential"), now=NOW).bad == []
        assert import_meters(connection, rows.format("restaurant"), actor=ADMIN, now=NOW + HOUR).bad == []
        assert import_meters(connection, rows.format(""), now=NOW + 2 * HOUR).bad == []
        assert classes.known(connection, ["G1", "G2"]) == {"G1": "restaurant"}
        found = [(row.customer_class, row.from_at, row.to_at) for row in classes.stays(connection, "G1")]
    assert found == [("residential", 0, NOW + HOUR), ("restaurant", NOW + HOUR, None)]
