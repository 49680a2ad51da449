"""A closed period never changes: later knowledge becomes a delta line, approved by size, never by its proposer."""

from __future__ import annotations

from typing import Any

import pytest
import sqlalchemy as sa

from api.billing.close import checklist, close_period, find_deltas, propose_adjustment
from api.billing.keep import refresh
from api.billing.load import Scope
from api.billing.settings import BillingSettings
from ingest.store_sqlite import SqliteStore
from metering.errors import RegistryError
from metering.reading import Reading
from registry import billing_close, billing_words
from registry.database import Database
from registry.models_access import AuditRecord
from registry.models_billing import BillingLine, BillingTotal
from registry.roles import Actor, Rank, Role
from tests.api.billing.town import HOUR, M, add_place, at, deliver, readings

SETTINGS = BillingSettings()
START = at("2026-02-10T00:00")
NOW = at("2026-03-25T09:00")
CLERK = Actor("user:li", frozenset({Role.BILLING}), areas=None)
ADMIN = Actor("user:wang", frozenset({Role.ADMIN}), areas=None)


def ranked(name: str, *ranks: Rank) -> Actor:
    return Actor(f"user:{name}", frozenset({Role.APPROVER}), frozenset(ranks), None)


def steady(hours: int, rate: int = 10_000) -> list[int | None]:
    return [1000 * M + n * rate for n in range(hours)]


@pytest.fixture
def town(database: Database, store: SqliteStore) -> Database:
    """P1 is read each hour; P2's last index before 20 March is of 18:00, six hours early."""
    add_place(database, "P1")
    add_place(database, "P2")
    rows = readings("M-P1", START, steady(24 * 43)) + readings("M-P2", START, steady(24 * 43))
    early, late = at("2026-03-19T18:00"), at("2026-03-20T05:00")
    deliver(database, store, [r for r in rows if r.meter == "M-P1" or not early < r.read_at < late])
    return database


def close(database: Database, store: SqliteStore, **more: Any) -> dict[str, Any]:
    actor = more.pop("actor", CLERK)
    confirmed = {"missing": 0, "doubtful": 0, "now": NOW} | more
    return close_period(database, store, SETTINGS, actor, "2026-03", **confirmed)


def rows_of(database: Database) -> tuple[list[Any], list[Any]]:
    with database.read() as connection:
        totals = connection.execute(sa.select(BillingTotal.__table__).order_by(BillingTotal.id)).all()
        lines = connection.execute(sa.select(BillingLine.__table__)).all()
    return list(totals), list(lines)


def test_a_late_reading_leaves_the_closed_numbers_and_becomes_a_delta_next_month(
    town: Database, store: SqliteStore
) -> None:
    closed = close(town, store)
    assert closed["totals"] == 2
    before = rows_of(town)
    midnight = Reading("M-P2", at("2026-03-20T00:00"), {"volume": 1_009_120_000}, received_at=NOW)
    deliver(town, store, [midnight])
    assert refresh(town, store, SETTINGS, "2026-03", now=NOW + 1) == 0
    numbers = find_deltas(town, store, SETTINGS, "2026-03", now=NOW + 2)
    assert find_deltas(town, store, SETTINGS, "2026-03", now=NOW + 3) == []
    assert rows_of(town) == before
    with town.read() as connection:
        (delta,) = billing_words.deltas(connection)
        assert billing_close.verify(connection, closed["id"]) == []
    # at 18:00 the index was 1009.06; six hours later 1009.12
    assert (delta["id"], delta["usage_point_id"], delta["in_period"]) == (numbers[0], "P2", "2026-04")
    assert (delta["before"], delta["after"], delta["amount"]) == (6_660_000, 6_720_000, 60_000)
    assert (delta["state"], delta["needs"], delta["cause"]) == ("proposed", "admin", "changed_data")


def test_the_next_period_opens_where_the_delta_ends_so_that_nothing_is_billed_twice(
    town: Database, store: SqliteStore
) -> None:
    close(town, store)
    deliver(town, store, [Reading("M-P2", at("2026-03-20T00:00"), {"volume": 1_009_120_000}, received_at=NOW)])
    find_deltas(town, store, SETTINGS, "2026-03", now=NOW)
    deliver(town, store, readings("M-P2", START + 24 * 43 * HOUR, steady(24 * 70)[24 * 43 :]))
    refresh(town, store, SETTINGS, "2026-04", Scope(points=("P2",)), now=NOW)
    totals = {(row.usage_point_id, row.period): row for row in rows_of(town)[0]}
    april = totals["P2", "2026-04"]
    assert april.opening_index == 1_009_120_000
    assert april.consumption == 31 * 240_000


def test_more_late_data_replace_a_delta_that_nobody_finished(town: Database, store: SqliteStore) -> None:
    close(town, store)
    deliver(town, store, [Reading("M-P2", at("2026-03-19T20:00"), {"volume": 1_009_080_000}, received_at=NOW)])
    first = find_deltas(town, store, SETTINGS, "2026-03", now=NOW)
    deliver(town, store, [Reading("M-P2", at("2026-03-20T00:00"), {"volume": 1_009_120_000}, received_at=NOW)])
    second = find_deltas(town, store, SETTINGS, "2026-03", now=NOW)
    with town.begin() as connection:
        assert [(d["id"], d["state"], d["amount"]) for d in billing_words.deltas(connection)] == [
            (first[0], "replaced", 20_000),
            (second[0], "proposed", 60_000),
        ]
        assert billing_words.approve(connection, ADMIN, second[0], capacity="admin", now=NOW) == "approved"
    assert find_deltas(town, store, SETTINGS, "2026-03", now=NOW) == []


def test_closing_wants_the_open_ones_confirmed_and_closes_nothing_otherwise(
    town: Database, store: SqliteStore
) -> None:
    add_place(town, "P3")
    with pytest.raises(RegistryError, match="1 usage points are missing and 0 doubtful; confirmed were 0 and 0"):
        close(town, store)
    with town.read() as connection:
        seen = checklist(connection, "2026-03", Scope(), now=NOW)
        assert billing_close.closes(connection) == []
    assert list(seen.open) == [("P3", "missing", "not_commissioned")]
    assert close(town, store, missing=1, note="P3 is new")["open_missing"] == 1


def test_a_period_that_is_not_over_or_comes_after_an_open_one_is_not_closed(
    town: Database, store: SqliteStore
) -> None:
    with pytest.raises(RegistryError, match="not over yet at 2 usage points"):
        close(town, store, now=at("2026-03-19T23:00"))
    refresh(town, store, SETTINGS, "2026-02", now=NOW)
    with pytest.raises(RegistryError, match="period 2026-02 is still open at 2"):
        close(town, store)


def test_only_billing_and_the_administrator_close(town: Database, store: SqliteStore) -> None:
    with pytest.raises(RegistryError, match="billing or an administrator"):
        close(town, store, actor=Actor("user:x", frozenset({Role.VIEWER}), areas=None))


@pytest.mark.parametrize(
    "change",
    [
        "update billing_total set consumption = consumption + 1 where usage_point_id = 'P1'",
        "update billing_line set closing_index = closing_index + 1 where usage_point_id = 'P1'",
        "delete from billing_total where usage_point_id = 'P2'",
    ],
)
def test_whoever_changes_a_closed_total_is_found_out(town: Database, store: SqliteStore, change: str) -> None:
    closed = close(town, store)
    with town.begin() as connection:
        assert billing_close.verify(connection, closed["id"]) == []
        connection.exec_driver_sql(change)
        assert billing_close.verify(connection, closed["id"])


def adjust(database: Database, m3: int, account: str = "the meter test showed 3 % too much") -> int:
    with database.begin() as connection:
        return propose_adjustment(
            connection, SETTINGS, CLERK, "P1", "2026-03", amount=m3 * M, cause="meter_test", account=account, now=NOW
        )


@pytest.mark.parametrize(
    ("m3", "needs"),
    [
        (-500, "admin"),
        (501, "admin,team_lead,department_head"),
        (-1000, "admin,team_lead,department_head"),
        (1001, "admin,team_lead,department_head,finance,deputy_manager"),
    ],
)
def test_who_approves_follows_from_the_size(town: Database, store: SqliteStore, m3: int, needs: str) -> None:
    close(town, store)
    number = adjust(town, m3)
    with town.read() as connection:
        (delta,) = billing_words.deltas(connection)
    assert (delta["id"], delta["needs"]) == (number, needs)


def test_a_large_correction_needs_a_written_account_and_an_open_period_none_at_all(
    town: Database, store: SqliteStore
) -> None:
    with pytest.raises(RegistryError, match="is not closed"):
        adjust(town, 1)
    close(town, store)
    with pytest.raises(RegistryError, match="written account"):
        adjust(town, 501, account=" ")


def test_nobody_approves_his_own_nor_twice_nor_as_somebody_else(town: Database, store: SqliteStore) -> None:
    close(town, store)
    number = adjust(town, 501)
    own = Actor("user:li", frozenset({Role.ADMIN}), frozenset(Rank), None)
    both = ranked("zhao", Rank.TEAM_LEAD, Rank.DEPARTMENT_HEAD)
    with town.begin() as connection:
        for actor, capacity, says in (
            (own, "admin", "his own"),
            (both, "admin", "may not approve as admin"),
            (both, "finance", "not for"),
        ):
            with pytest.raises(RegistryError, match=says):
                billing_words.approve(connection, actor, number, capacity=capacity, now=NOW)
        assert billing_words.approve(connection, ADMIN, number, capacity="admin", now=NOW) == "proposed"
        assert billing_words.approve(connection, both, number, capacity="team_lead", now=NOW) == "proposed"
        with pytest.raises(RegistryError, match="given a word"):
            billing_words.approve(connection, both, number, capacity="department_head", now=NOW)
        head = ranked("sun", Rank.DEPARTMENT_HEAD)
        assert billing_words.approve(connection, head, number, capacity="department_head", now=NOW) == "approved"
        with pytest.raises(RegistryError, match="nothing is open"):
            billing_words.approve(connection, ranked("qi", Rank.FINANCE), number, capacity="finance", now=NOW)
        actions = connection.execute(sa.select(AuditRecord.action).order_by(AuditRecord.number)).scalars().all()
    assert actions == ["period.close", "delta.propose", "delta.approved", "delta.approved", "delta.approved"]


def test_a_rejected_finding_is_not_proposed_again(town: Database, store: SqliteStore) -> None:
    close(town, store)
    deliver(town, store, [Reading("M-P2", at("2026-03-20T00:00"), {"volume": 1_009_120_000}, received_at=NOW)])
    (number,) = find_deltas(town, store, SETTINGS, "2026-03", now=NOW)
    with town.begin() as connection:
        word = billing_words.approve(connection, ADMIN, number, capacity="admin", now=NOW, word="rejected")
    assert word == "rejected"
    assert find_deltas(town, store, SETTINGS, "2026-03", now=NOW) == []


def test_a_clerk_accepts_a_doubtful_total_as_it_stands_and_not_another_one(
    database: Database, store: SqliteStore
) -> None:
    add_place(database, "P1")
    deliver(database, store, readings("M-P1", START, steady(24 * 43, 160_000)))  # 0.16 x 24 x 28 = 107.52 m³
    refresh(database, store, SETTINGS, "2026-03", now=NOW)
    with database.begin() as connection:
        billing_words.decide(connection, CLERK, "P1", "2026-03", "accept", now=NOW, note="visited, a new boiler")
    assert refresh(database, store, SETTINGS, "2026-03", now=NOW) == 0
    (row,), _ = rows_of(database)
    assert (row.state, row.cause, row.detail) == ("billed", "large_use", "large_use accepted by user:li")
    with database.begin() as connection:
        billing_words.correct(
            connection, CLERK, meter="M-P1", read_at=at("2026-03-20T00:00"), quantity="volume", was=row.closing_index,
            becomes=row.closing_index + 10_000, reason="photograph", now=NOW,
        )  # fmt: skip
    refresh(database, store, SETTINGS, "2026-03", now=NOW)
    (row,), _ = rows_of(database)
    assert (row.state, row.consumption, row.edited) == ("doubtful", 107_530_000, True)


def test_sent_back_stays_doubtful_until_it_was_read_again(database: Database, store: SqliteStore) -> None:
    add_place(database, "P1")
    deliver(database, store, readings("M-P1", START, steady(24 * 43)))
    refresh(database, store, SETTINGS, "2026-03", now=NOW)
    with database.begin() as connection:
        billing_words.decide(connection, CLERK, "P1", "2026-03", "reread", now=NOW)
        with pytest.raises(RegistryError, match="a new reading settles it"):
            billing_words.decide(connection, CLERK, "P1", "2026-03", "accept", now=NOW)
        with pytest.raises(RegistryError, match="has no total"):
            billing_words.decide(connection, CLERK, "P1", "2026-07", "accept", now=NOW)
    refresh(database, store, SETTINGS, "2026-03", now=NOW)
    (row,), _ = rows_of(database)
    assert (row.state, row.cause) == ("doubtful", "reread")
