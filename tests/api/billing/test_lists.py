"""Lists of totals, closes, deltas and corrections on both databases; answers that are given once."""

from __future__ import annotations

import pytest

from api.billing import lists, report
from api.billing.lists import Filters
from api.billing.load import Scope
from api.queries import billing
from registry import billing_keys
from registry.database import Database
from registry.refusals import RefusedError
from tests.api.billing.town import add_place
from tests.api.billing_world import CLERK, END, PERIOD, fill
from tests.registry.conftest import database

__all__ = ["database"]
NORTH = frozenset({"north"})
SOUTH = frozenset({"south"})


@pytest.fixture
def filled(database: Database) -> Database:
    add_place(database, "UP-1", meter="G-0001", district="north")
    add_place(database, "UP-3", meter="E-0001", district="north")
    with database.begin() as connection:
        fill(connection, END)
    return database


def test_totals_come_by_place_and_by_version(filled: Database) -> None:
    with filled.read() as connection:
        page = billing.totals(connection, NORTH, Filters(), 1, None)
        assert [t.usage_point for t in page.items] == ["UP-1"]
        rest = billing.totals(connection, NORTH, Filters(), 1, page.next_cursor)
        assert ([t.usage_point for t in rest.items], rest.next_cursor) == (["UP-3"], None)
        changes = billing.totals(connection, None, Filters(since=0), 1, None)
        later = billing.totals(connection, None, Filters(since=0), 1, changes.next_cursor)
        assert {changes.items[0].usage_point, later.items[0].usage_point} == {"UP-1", "UP-3"}
        assert later.resume_since == max(t.version for t in (*changes.items, *later.items))
        assert billing.totals(connection, SOUTH, Filters(), 9, None).items == []
        assert (lists.latest_period(connection, NORTH), lists.latest_period(connection, SOUTH)) == (PERIOD, None)


def test_periods_closes_deltas_and_corrections_keep_to_areas(filled: Database) -> None:
    with filled.read() as connection:
        (period,) = billing.periods(connection, NORTH).items
        assert (period.closed, period.open) == ({"billed": 1}, {"missing": 1})
        assert billing.periods(connection, SOUTH).items == []
        (close,) = billing.closes(connection, None, PERIOD, 9, None).items
        assert (close.totals, close.closed_by) == (1, "user:clerk")
        assert billing.closes(connection, NORTH, None, 9, None).items == []
        (delta,) = billing.deltas(connection, NORTH, {"state": "proposed"}, since=0, limit=9, cursor=None).items
        assert (delta.amount, delta.waits_for) == ("-0.5", ["admin"])
        assert billing.deltas(connection, SOUTH, {}, since=None, limit=9, cursor=None).items == []
        (correction,) = billing.corrections(connection, NORTH, "G-0001", 9, None).items
        assert (correction.was, correction.becomes, correction.withdrawn_at) == ("1000", "999.5", None)
        assert billing.corrections(connection, SOUTH, None, 9, None).items == []
        assert report.lasting_exceptions(connection, NORTH, PERIOD) == {}
        seen = billing.checklist_of(connection, PERIOD, Scope(district="north"), END)
        assert (seen.missing, seen.causes, seen.closable) == (1, {"gateway_down": 1}, True)


def test_a_key_gives_its_answer_again_and_is_good_for_one_question(database: Database) -> None:
    with database.begin() as connection:
        assert billing_keys.known(connection, CLERK, "k", {"a": 1}) is None
        billing_keys.remember(connection, CLERK, "k", {"a": 1}, {"id": 7, "name": "表"}, END)
        assert billing_keys.known(connection, CLERK, "k", {"a": 1}) == {"id": 7, "name": "表"}
        assert billing_keys.known(connection, CLERK, None, {"a": 1}) is None
        with pytest.raises(RefusedError, match="used for another request"):
            billing_keys.known(connection, CLERK, "k", {"a": 2})
