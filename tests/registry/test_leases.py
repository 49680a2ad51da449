"""Leases: fair shares, nothing taken from the living, and a token that shuts out whoever does not know yet."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import psycopg
import pytest
import sqlalchemy as sa
from alembic import command
from alembic.config import Config

import registry
from metering.messages import PARTS
from registry import leases, ledger
from registry.database import Database
from registry.leases import LeaseLostError, Turn
from registry.models import PartLease
from tests.databases import PostgresProcess

LEASE_MS = 10_000


class Hand:
    """One worker as its process would be: it remembers what it believes to hold."""

    def __init__(self, database: Database, name: str) -> None:
        self.database = database
        self.name = name
        self.held: dict[int, int] = {}

    def turn(self, now: int) -> Turn:
        with self.database.begin() as connection:
            turn = leases.turn(connection, self.name, self.held, now=now, lease_ms=LEASE_MS)
        self.held = {**turn.kept, **turn.gained}
        return turn

    def give_back(self, parts: list[int]) -> None:
        with self.database.begin() as connection:
            leases.release(connection, self.name, {part: self.held.pop(part) for part in parts})

    def may_save(self, *parts: int) -> bool:
        try:
            with self.database.begin() as connection:
                leases.check(connection, {part: self.held[part] for part in parts or self.held})
        except LeaseLostError:
            return False
        return True


def test_one_worker_holds_the_whole_city_and_keeps_its_tokens(database: Database) -> None:
    a = Hand(database, "a")
    assert sorted(a.turn(0).gained) == list(range(PARTS))
    tokens = dict(a.held)
    again = a.turn(2000)
    assert (again.kept, again.gained, again.lost, again.surplus) == (tokens, {}, [], [])
    assert a.may_save()


def test_a_second_worker_gets_half_after_the_first_has_given_it_back(database: Database) -> None:
    a, b = Hand(database, "a"), Hand(database, "b")
    a.turn(0)
    assert b.turn(0).gained == {}
    surplus = a.turn(1000).surplus
    assert surplus == list(range(32, 64))
    assert b.turn(1500).gained == {}, "nothing is taken from a living holder"
    a.give_back(surplus)
    assert sorted(b.turn(2000).gained) == surplus
    assert a.turn(3000).surplus == []
    assert a.may_save()
    assert b.may_save()


def test_a_dead_workers_parts_move_on_when_its_lease_has_run_out_and_its_ghost_saves_nothing(
    database: Database,
) -> None:
    a, b = Hand(database, "a"), Hand(database, "b")
    a.turn(0)
    a.give_back(a.turn(0).surplus)
    b.turn(0)
    a.give_back(a.turn(100).surplus)
    b.turn(200)
    assert (len(a.held), len(b.held)) == (32, 32)
    ghost = dict(a.held)
    assert b.turn(100 + LEASE_MS - 1).gained == {}
    assert sorted(b.turn(100 + LEASE_MS).gained) == sorted(ghost)
    assert not a.may_save()
    assert not a.may_save(0)
    assert b.may_save()
    assert sorted(a.turn(200 + LEASE_MS).lost) == sorted(ghost)


def test_a_worker_that_was_away_too_long_but_missed_by_nobody_goes_on(database: Database) -> None:
    a = Hand(database, "a")
    a.turn(0)
    tokens = dict(a.held)
    late = a.turn(10 * LEASE_MS)
    assert (late.kept, late.lost) == (tokens, [])


def test_a_restarted_worker_takes_its_own_parts_at_once_with_new_tokens(database: Database) -> None:
    before = Hand(database, "a")
    before.turn(0)
    after = Hand(database, "a")
    assert len(after.turn(10).gained) == PARTS
    assert not before.may_save(5)
    assert after.may_save(5)


def test_a_worker_that_leaves_is_followed_without_waiting(database: Database) -> None:
    a, b = Hand(database, "a"), Hand(database, "b")
    a.turn(0)
    b.turn(0)
    with database.begin() as connection:
        leases.release(connection, "a", a.held, leave=True)
    assert len(b.turn(1).gained) == PARTS


def test_giving_back_what_is_no_longer_ours_changes_nothing(database: Database) -> None:
    a, b = Hand(database, "a"), Hand(database, "b")
    a.turn(0)
    b.turn(LEASE_MS)
    with database.begin() as connection:
        leases.release(connection, "a", a.held)
    assert b.may_save()


@pytest.mark.parametrize("workers", [1, 2, 3, 5, 64, 70])
def test_shares_cover_the_city_exactly(workers: int) -> None:
    names = {f"w{number:02}" for number in range(workers)}
    shares = [leases.share_of(name, names) for name in names]
    assert sum(shares) == PARTS
    assert max(shares) - min(shares) <= 1


def test_floors_are_kept_for_each_part(database: Database) -> None:
    with database.begin() as connection:
        assert leases.floor_of(connection, [3, 4]) == 0
        leases.set_floor(connection, range(PARTS), 500)
        leases.set_floor(connection, [3], 200)
        assert leases.floor_of(connection, [4, 5]) == 500
        assert leases.floor_of(connection, [3, 5]) == 200
        assert leases.floor_of(connection, []) == 0


def test_whatever_happens_no_part_ever_has_two_who_may_save(database: Database) -> None:
    """Workers that come, die, hang and return in a random order; after each step at most one may save for a part."""
    chance = random.Random(64)
    hands = [Hand(database, f"w{number}") for number in range(4)]
    now = 0
    for _ in range(60):
        now += chance.randrange(1, LEASE_MS)
        hand = chance.choice(hands)
        surplus = hand.turn(now).surplus
        if surplus and chance.random() < 0.7:
            hand.give_back(surplus)
        if chance.random() < 0.1:
            hand.held = {}  # killed and started again
        part = chance.randrange(PARTS)
        assert sum(part in other.held and other.may_save(part) for other in hands) <= 1
    with database.read() as connection:
        assert connection.execute(sa.select(sa.func.count()).select_from(PartLease)).scalar_one() == PARTS


def test_on_postgresql_a_part_cannot_change_hands_inside_a_saving_transaction(postgres_url: str) -> None:
    database = Database(postgres_url)
    a, b = Hand(database, "a"), Hand(database, "b")
    a.turn(0)
    with ThreadPoolExecutor(1) as pool:
        with database.begin() as connection:
            leases.check(connection, {7: a.held[7]})
            taking = pool.submit(b.turn, LEASE_MS)
            assert not taking.done()
            with database.begin() as other:
                other.execute(sa.text("SET LOCAL lock_timeout = '200ms'"))
                with pytest.raises(sa.exc.OperationalError, match="lock timeout"):
                    other.execute(sa.update(PartLease).where(PartLease.part == 7).values(token=99))
                other.rollback()
            assert not taking.done()
        assert 7 in taking.result(30).gained
    database.close()


def test_on_postgresql_a_worker_that_freezes_inside_a_transaction_does_not_hold_the_city(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leases, "IDLE_MS", 1500)  # PostgreSQL keeps it, in real time; longer than a pause of ours
    database = Database(postgres_url)
    a, b = Hand(database, "a"), Hand(database, "b")
    a.turn(0)

    def frozen() -> None:
        with database.begin() as connection:
            leases.check(connection, a.held)
            assert len(b.turn(LEASE_MS).gained) == PARTS  # comes back only because the frozen session was ended
            leases.set_floor(connection, [1], 99)

    with pytest.raises(sa.exc.DBAPIError):
        frozen()
    with database.read() as connection:
        assert leases.floor_of(connection, [1]) == 0
    database.close()


def test_on_postgresql_a_worker_that_froze_inside_a_statement_is_ended_by_who_waits(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a pipeline the server waits for the rest of the messages, which no timeout of PostgreSQL 15 counts."""
    monkeypatch.setattr(leases, "IDLE_MS", 1000)  # PostgreSQL keeps both, in real time
    monkeypatch.setattr(leases, "_LOCK_MS", 2000)
    database = Database(postgres_url)
    a, b = Hand(database, "a"), Hand(database, "b")
    a.turn(0)
    ghost = psycopg.pq.PGconn.connect(postgres_url.replace("+psycopg", "").encode())
    ghost.enter_pipeline_mode()
    for statement in (b"BEGIN", b"UPDATE part_lease SET floor = 77"):
        ghost.send_query_params(statement, None)
    ghost.send_flush_request()
    while ghost.flush():
        pass

    def wait_for_it() -> None:
        while True:  # until the server has come to the ghost's statement
            b.turn(LEASE_MS - 1)

    with pytest.raises(sa.exc.OperationalError, match="lock timeout"):
        wait_for_it()
    with database.begin() as connection:
        assert leases.end_silent(connection) == 1
    assert len(b.turn(LEASE_MS).gained) == PARTS
    ghost.finish()
    with database.read() as connection:
        assert leases.floor_of(connection, range(PARTS)) == 0
    database.close()


def test_workers_that_take_turns_at_the_same_time_share_without_overlap(database: Database) -> None:
    hands = [Hand(database, f"w{number}") for number in range(4)]
    start = Barrier(4)

    def live(hand: Hand) -> None:
        start.wait(30)
        for step in range(6):
            surplus = hand.turn(step).surplus
            if surplus:
                hand.give_back(surplus)

    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(live, hand) for hand in hands]:
            done.result(60)
    for hand in hands:
        hand.give_back(hand.turn(10).surplus)
    for hand in hands:
        hand.turn(11)
    held = [part for hand in hands for part in hand.held]
    assert sorted(held) == list(range(PARTS))
    assert {len(hand.held) for hand in hands} == {16}


def test_several_programs_that_start_together_make_the_tables_once(postgres_server: PostgresProcess) -> None:
    url = postgres_server.create("together")

    def upgrade() -> None:
        database = Database(url)
        database.upgrade()
        database.close()

    with ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(upgrade) for _ in range(4)]:
            done.result(60)
    postgres_server.drop("together")


def test_the_recovery_floor_of_before_is_every_parts_floor_now(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'old.db'}")
    config = Config()
    config.set_main_option("script_location", str(Path(registry.__file__).parent / "migrations"))
    with database.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, "0001")
        ledger.set_state(connection, "ingest.recovery_floor", "1772323200000")
    database.upgrade()
    with database.read() as connection:
        assert leases.floor_of(connection, range(PARTS)) == 1_772_323_200_000
        assert ledger.get_state(connection, "ingest.recovery_floor") is None
    database.close()
