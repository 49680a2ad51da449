"""Histories of meters: every change is checked and kept, nothing overlaps, a wrong record is struck out and seen."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy.engine import Connection

from metering.errors import RegistryError
from registry import book_changes, history, installations, occupancy
from registry.database import Database
from registry.models import Gateway, Installation, Meter, UsagePoint
from registry.models_access import AuditRecord
from registry.roles import console

LI = console("li")
DAY = 86_400_000
NOW = 1_772_323_200_000  # 2026-03-01T00:00:00Z
M3 = 1_000_000


def fill(connection: Connection, *, meters: int = 3, points: int = 2) -> None:
    """Meters M1 … (5 digits; the first on a gateway, at usage point U1 since day -100), usage points U1 …"""
    connection.execute(sa.insert(Gateway), [{"id": "gw-1"}])
    connection.execute(
        sa.insert(UsagePoint),
        [{"id": f"U{n}", "medium": "gas", "account_number": f"A{n}"} for n in range(1, points + 1)],
    )
    rows = [
        {"id": f"M{n}", "medium": "gas", "quantity": "volume", "index_digits": 5, "state": "registered",
         "gateway_id": "gw-1" if n == 1 else None, "address": "7" if n == 1 else "", "profile": "p" if n == 1 else "",
         "interval_s": 60 if n == 1 else None}
        for n in range(1, meters + 1)
    ]  # fmt: skip
    connection.execute(sa.insert(Meter), rows)
    installations.install(connection, LI, "U1", "M1", at=NOW - 100 * DAY, start_index=10 * M3, now=NOW)


@contextmanager
def writing(database: Database) -> Iterator[Connection]:
    with database.begin() as connection:
        fill(connection)
    with database.begin() as connection:
        yield connection


def spans(connection: Connection, point: str = "U1") -> list[tuple[str, int, int | None, int | None, int | None]]:
    """(meter, from and to in days from NOW, start and final index in m³) of a usage point."""

    def days(at: int | None) -> int | None:
        return None if at is None else (at - NOW) // DAY

    def volume(index: int | None) -> int | None:
        return None if index is None else index // M3

    found = history.history(connection, [point]).get(point, [])
    return [
        (f.meter, days(f.from_at) or 0, days(f.to_at), volume(f.start_index), volume(f.final_index)) for f in found
    ]


def state(connection: Connection, meter: str) -> str:
    return str(connection.execute(sa.select(Meter.state).where(Meter.id == meter)).scalar_one())


def swap(connection: Connection, **other: Any) -> int:
    facts: dict[str, Any] = {"old_meter": "M1", "new_meter": "M2", "at": NOW - 10 * DAY, "final_index": 110 * M3,
                             "start_index": 5 * M3, "now": NOW} | other  # fmt: skip
    return installations.exchange(connection, LI, "U1", **facts)


def test_an_exchange_settles_the_old_index_and_starts_from_the_new(database: Database) -> None:
    with writing(database) as connection:
        entry = swap(connection)
        assert spans(connection) == [("M1", -100, -10, 10, 110), ("M2", -10, None, 5, None)]
        assert (state(connection, "M1"), state(connection, "M2")) == ("removed", "in_service")
        new = connection.execute(sa.select(Meter.__table__).where(Meter.id == "M2")).mappings().one()
        assert (new["gateway_id"], new["address"], new["profile"], new["interval_s"]) == ("gw-1", "7", "p", 60)
        audited = connection.execute(sa.select(AuditRecord.action, AuditRecord.actor, AuditRecord.object_id)).all()
        assert tuple(audited[-1]) == ("book.exchange", "console:li", "U1")
        assert history.version(connection) == entry


REFUSED: list[tuple[str, Callable[[Connection], object], str]] = [
    ("an exchange before the old meter came", lambda c: swap(c, at=NOW - 101 * DAY), "not before"),
    ("an exchange tomorrow", lambda c: swap(c, at=NOW + DAY), "after it happened"),
    ("a final index of six digits", lambda c: swap(c, final_index=100_000 * M3), "below 100000"),
    ("a negative start index", lambda c: swap(c, start_index=-1), "below 100000"),
    ("a meter that is not there", lambda c: swap(c, old_meter="M3"), "M3 is not at usage point U1"),
    ("a meter that nobody knows", lambda c: swap(c, new_meter="M9"), 'no meter "M9"'),
    (
        "a second meter at one place",
        lambda c: installations.install(c, LI, "U1", "M2", at=NOW - DAY, start_index=0, now=NOW),
        "has meter M1",
    ),
    (
        "one meter at two places",
        lambda c: installations.install(c, LI, "U2", "M1", at=NOW - DAY, start_index=0, now=NOW),
        "M1 is at usage point U1",
    ),
    (
        "a place that nobody knows",
        lambda c: installations.install(c, LI, "U9", "M2", at=NOW - DAY, start_index=0, now=NOW),
        'no usage point "U9"',
    ),
    ("no such entry", lambda c: book_changes.undo(c, LI, 999, now=NOW), "no entry 999"),
]


@pytest.mark.parametrize(("work", "words"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED])
def test_what_cannot_be_is_refused_in_words(
    database: Database, work: Callable[[Connection], object], words: str
) -> None:
    with writing(database) as connection:
        before = spans(connection)
        with pytest.raises(RegistryError, match=words), connection.begin_nested():
            work(connection)
        assert spans(connection) == before


def test_a_struck_out_exchange_puts_everything_back_and_stays_visible(database: Database) -> None:
    with writing(database) as connection:
        wrong = swap(connection)
        undone = book_changes.undo(connection, LI, wrong, now=NOW, note="wrong house")
        assert spans(connection) == [("M1", -100, None, 10, None)]
        assert (state(connection, "M1"), state(connection, "M2")) == ("in_service", "registered")
        seen = [(e["id"], e["kind"], e["struck_by"]) for e in book_changes.entries(connection, "U1")][:2]
        assert seen == [(undone, "undo", None), (wrong, "exchange", undone)]
        with pytest.raises(RegistryError, match="already"):
            book_changes.undo(connection, LI, wrong, now=NOW)
        assert swap(connection, at=NOW - 9 * DAY) > undone


def test_a_record_on_which_others_stand_cannot_be_struck_out_first(database: Database) -> None:
    with writing(database) as connection:
        first = swap(connection)
        second = swap(connection, old_meter="M2", new_meter="M3", at=NOW - DAY, final_index=6 * M3)
        with pytest.raises(RegistryError, match="later records stand"), connection.begin_nested():
            book_changes.undo(connection, LI, first, now=NOW)
        book_changes.undo(connection, LI, second, now=NOW)
        book_changes.undo(connection, LI, first, now=NOW)
        assert spans(connection) == [("M1", -100, None, 10, None)]


def test_a_removal_cannot_be_struck_out_once_another_meter_hangs_there(database: Database) -> None:
    with writing(database) as connection:
        gone = installations.remove(connection, LI, "U1", "M1", at=NOW - 20 * DAY, final_index=None, now=NOW)
        installations.install(connection, LI, "U1", "M2", at=NOW - DAY, start_index=0, now=NOW)
        with pytest.raises(RegistryError, match="later records stand"), connection.begin_nested():
            book_changes.undo(connection, LI, gone, now=NOW)
        assert spans(connection) == [("M1", -100, -20, 10, None), ("M2", -1, None, 0, None)]


def test_a_test_meter_stands_in_and_the_tested_one_comes_back(database: Database) -> None:
    with writing(database) as connection:
        swap(connection, kind="temporary", at=NOW - 20 * DAY)
        assert history.history(connection, ["U1"])["U1"][-1].kind == "temporary"
        swap(connection, kind="test_return", old_meter="M2", new_meter="M1", at=NOW - 15 * DAY, final_index=9 * M3,
             start_index=111 * M3)  # fmt: skip
        assert spans(connection) == [
            ("M1", -100, -20, 10, 110), ("M2", -20, -15, 5, 9), ("M1", -15, None, 111, None),
        ]  # fmt: skip
        with pytest.raises(RegistryError, match="no test meter"), connection.begin_nested():
            swap(connection, kind="test_return", at=NOW - DAY)


def test_removal_sealing_and_coming_back_follow_each_other(database: Database) -> None:
    with writing(database) as connection:
        seal: dict[str, Any] = {"at": NOW - 30 * DAY, "index": 90 * M3, "now": NOW}
        installations.seal(connection, LI, "U1", "M1", **seal)
        with pytest.raises(RegistryError, match="is sealed"), connection.begin_nested():
            installations.seal(connection, LI, "U1", "M1", **seal)
        with pytest.raises(RegistryError, match="open the seal"), connection.begin_nested():
            installations.set_state(connection, LI, "M1", "unused", at=NOW, now=NOW)
        installations.seal(connection, LI, "U1", "M1", **seal, open_again=True)
        installations.remove(connection, LI, "U1", "M1", at=NOW - 20 * DAY, final_index=91 * M3, now=NOW)
        assert state(connection, "M1") == "removed"
        installations.install(connection, LI, "U2", "M1", at=NOW - 5 * DAY, start_index=91 * M3, now=NOW)
        assert (spans(connection), spans(connection, "U2")) == (
            [("M1", -100, -20, 10, 91)],
            [("M1", -5, None, 91, None)],
        )


def test_an_opening_index_of_an_old_system_splits_what_is_known(database: Database) -> None:
    with writing(database) as connection:
        installations.take_over(connection, LI, "U1", "M1", at=NOW - 59 * DAY, index=44 * M3, now=NOW)
        assert spans(connection) == [("M1", -100, -59, 10, 44), ("M1", -59, None, 44, None)]


def test_a_new_customer_needs_the_index_of_every_meter_there(database: Database) -> None:
    with writing(database) as connection:
        with pytest.raises(RegistryError, match="hang at U1 then: M1"), connection.begin_nested():
            occupancy.change_customer(
                connection, LI, "U1", account_number="B1", at=NOW - 7 * DAY, indexes={}, now=NOW
            )
        said: dict[str, Any] = {"indexes": {"M1": 100 * M3}, "now": NOW}
        first = occupancy.change_customer(connection, LI, "U1", account_number="B1", at=NOW - 7 * DAY, **said)
        found = history.occupancies(connection, ["U1", "U2"])
        assert list(found) == ["U1"]
        assert [
            (o.account_number, o.from_at, o.to_at, dict(o.start_indexes), dict(o.final_indexes)) for o in found["U1"]
        ] == [
            ("A1", 0, NOW - 7 * DAY, {}, {"M1": 100 * M3}),
            ("B1", NOW - 7 * DAY, None, {"M1": 100 * M3}, {}),
        ]
        with pytest.raises(RegistryError, match="not before"), connection.begin_nested():
            occupancy.change_customer(connection, LI, "U1", account_number="C1", at=NOW - 8 * DAY, **said)
        book_changes.undo(connection, LI, first, now=NOW)
        assert history.occupancies(connection, ["U1"]) == {}
        account = sa.select(UsagePoint.account_number).where(UsagePoint.id == "U1")
        assert connection.execute(account).scalar_one() == "A1"


OPERATION = st.tuples(
    st.sampled_from(["install", "exchange", "temporary", "remove", "take_over", "undo"]),
    st.integers(1, 2),
    st.integers(1, 3),
    st.integers(1, 3),
    st.integers(-105, 0),
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(OPERATION, max_size=12))
def test_no_sequence_of_operations_makes_installations_overlap(
    operations: list[tuple[str, int, int, int, int]],
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        database = Database(f"sqlite:///{Path(folder) / 'registry.db'}")
        database.upgrade()
        with writing(database) as connection:
            done: list[int] = [1]
            for operation in operations:
                try:
                    with connection.begin_nested():
                        done.append(play(connection, done, *operation))
                except RegistryError:
                    continue
                nothing_overlaps(connection)
        database.close()


def play(connection: Connection, done: list[int], what: str, point: int, old: int, new: int, day: int) -> int:
    at, place = NOW + day * DAY, f"U{point}"
    common: dict[str, Any] = {"at": at, "now": NOW}
    match what:
        case "install":
            return installations.install(connection, LI, place, f"M{old}", start_index=None, **common)
        case "exchange" | "temporary":
            return installations.exchange(
                connection, LI, place, old_meter=f"M{old}", new_meter=f"M{new}", final_index=1, start_index=2,
                kind="temporary" if what == "temporary" else "exchange", **common,
            )  # fmt: skip
        case "remove":
            return installations.remove(connection, LI, place, f"M{old}", final_index=None, **common)
        case "take_over":
            return installations.take_over(connection, LI, place, f"M{old}", index=7, **common)
        case _:
            return book_changes.undo(connection, LI, done[day % len(done)], now=NOW)


def nothing_overlaps(connection: Connection) -> None:
    rows = connection.execute(sa.select(Installation.__table__)).all()
    for column in ("meter_id", "usage_point_id"):
        for key in {getattr(row, column) for row in rows}:
            stays = sorted((r.installed_at, r.removed_at or 2**60) for r in rows if getattr(r, column) == key)
            assert all(begin < end for begin, end in stays)
            assert all(one[1] <= two[0] for one, two in pairwise(stays)), (column, key, stays)
