"""The book of work orders: one open order per place and type, every step kept, nobody overwritten."""

from __future__ import annotations

import itertools
import random
import threading
from dataclasses import replace

import pytest
import sqlalchemy as sa

from api.orders.book import (
    Evidence,
    Opened,
    Request,
    StaleError,
    UnknownOrderError,
    cancel_withdrawn,
    open_or_join,
    step,
)
from api.orders.deadlines import Deadline
from api.orders.lifecycle import OPEN, Deed, State, Step, StepError
from api.orders.words import Opens, OrderType, Priority, Result
from api.orders.working_days import WorkCalendar
from metering.clock import parse_rfc3339
from registry import audit
from registry.database import Database
from registry.models import UsagePoint
from registry.models_access import AuditRecord
from registry.models_work_orders import WorkOrder, WorkOrderFinding, WorkOrderStep
from registry.roles import Actor, Role, service
from tests.api.orders.test_lifecycle import MODEL

NOW = parse_rfc3339("2026-02-13T02:00:00Z")
BOSS = Actor("user:wu", frozenset({Role.SUPERVISOR}), areas=None)
CALENDAR = WorkCalendar()
LEAK = Request(
    place="UP-1",
    type=OrderType.LEAK_VISIT,
    priority=Priority.SOON,
    opens=Opens.ITSELF,
    deadline=Deadline.parse("24 h"),
    reason_en="0.3 m³/h through the night",
    reason_zh="夜间持续 0.3 m³/h",
    tz="Asia/Shanghai",
    usage_point_id="UP-1",
    evidence=[Evidence(7, {"rule": "leak_continuous"})],
)


@pytest.fixture
def book(database: Database) -> Database:
    with database.begin() as connection:
        for number in range(1, 21):
            connection.execute(sa.insert(UsagePoint).values(id=f"UP-{number}", medium="gas"))
    return database


def opened(book: Database, request: Request = LEAK, now_ms: int = NOW) -> Opened:
    with book.begin() as connection:
        return open_or_join(connection, service("anomaly"), request, now_ms=now_ms, calendar=CALENDAR)


def stepped(book: Database, order_id: int, wanted: Step, *, version: int | None = None, now_ms: int = NOW) -> str:
    with book.begin() as connection:
        state: str = step(connection, BOSS, order_id, wanted, now_ms=now_ms, version=version).state
        return state


def test_a_finding_opens_an_order_with_its_promise(book: Database) -> None:
    made = opened(book, replace(LEAK, deadline=Deadline.parse("5 working days")))
    with book.read() as connection:
        order = connection.execute(sa.select(WorkOrder)).one()
    assert made == Opened(order.id, True, 1, False)
    assert (order.state, order.accepted_at, order.due_rule) == ("accepted", NOW, "5 working days")
    assert order.due_at == parse_rfc3339("2026-02-27T16:00:00Z")


def test_a_proposal_waits_to_be_accepted(book: Database) -> None:
    made = opened(book, replace(LEAK, opens=Opens.PROPOSED))
    with book.read() as connection:
        assert connection.execute(sa.select(WorkOrder.state, WorkOrder.accepted_at)).one() == ("proposed", None)
    assert stepped(book, made.order_id, Step(Deed.ACCEPT), now_ms=NOW + 5) == "accepted"
    with book.read() as connection:
        assert connection.execute(sa.select(WorkOrder.accepted_at)).scalar_one() == NOW + 5


def test_a_second_finding_joins_the_open_order_and_may_make_it_more_urgent(book: Database) -> None:
    first = opened(book)
    second = opened(book, replace(LEAK, evidence=[Evidence(8, {})], priority=Priority.URGENT), NOW + 60_000)
    again = opened(book, replace(LEAK, evidence=[Evidence(8, {})], priority=Priority.WAIT), NOW + 61_000)
    assert second == Opened(first.order_id, False, 1, True)
    assert again == Opened(first.order_id, False, 0, False)
    with book.read() as connection:
        order = connection.execute(sa.select(WorkOrder)).one()
        deeds = connection.execute(sa.select(WorkOrderStep.deed).order_by(WorkOrderStep.number)).scalars().all()
    assert (order.priority, order.due_at) == ("urgent", NOW + 24 * 3_600_000)
    assert deeds == ["open", "raise"]


def test_another_type_at_the_same_place_is_another_order(book: Database) -> None:
    assert opened(book).order_id != opened(book, replace(LEAK, type=OrderType.READ_AGAIN)).order_id


def test_a_finished_order_makes_room_for_the_next(book: Database) -> None:
    first = opened(book)
    for wanted in (Step(Deed.DISPATCH, assignee="li"), Step(Deed.ARRIVE), Step(Deed.FINISH, result=Result.PASSED)):
        stepped(book, first.order_id, wanted)
    assert opened(book, replace(LEAK, evidence=[])).order_id != first.order_id


def test_two_who_open_at_once_open_one(book: Database) -> None:
    start = threading.Barrier(4)
    made: list[Opened] = []

    def work(number: int) -> None:
        start.wait()
        made.append(opened(book, replace(LEAK, evidence=[Evidence(number, {})])))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({item.order_id for item in made}) == 1
    assert sorted(item.new for item in made) == [False, False, False, True]
    with book.read() as connection:
        assert connection.execute(sa.select(sa.func.count()).select_from(WorkOrderFinding)).scalar_one() == 4


def test_of_two_dispatchers_one_wins_and_the_other_sees_who_was_faster(book: Database) -> None:
    order_id = opened(book).order_id
    stepped(book, order_id, Step(Deed.DISPATCH, assignee="li"), version=1)
    with pytest.raises(StaleError, match="user:wu did dispatch") as stale:
        stepped(book, order_id, Step(Deed.DISPATCH, assignee="zhao"), version=1)
    assert (stale.value.version, stale.value.at) == (2, NOW)
    with book.read() as connection:
        assert connection.execute(sa.select(WorkOrder.assignee)).scalar_one() == "li"


def test_a_step_that_is_refused_changes_nothing(book: Database) -> None:
    order_id = opened(book).order_id
    with book.read() as connection:
        before = connection.execute(sa.select(WorkOrder)).all(), connection.execute(sa.select(AuditRecord)).all()
    with pytest.raises(StepError, match="cannot finish"):
        stepped(book, order_id, Step(Deed.FINISH, result=Result.PASSED))
    with pytest.raises(UnknownOrderError):
        stepped(book, order_id + 1, Step(Deed.ACCEPT))
    with book.read() as connection:
        after = connection.execute(sa.select(WorkOrder)).all(), connection.execute(sa.select(AuditRecord)).all()
    assert before == after


def test_a_withdrawn_finding_cancels_what_only_it_spoke_for(book: Database) -> None:
    alone = opened(book).order_id
    both = opened(
        book, replace(LEAK, place="UP-2", usage_point_id="UP-2", evidence=[Evidence(7, {}), Evidence(9, {})])
    )
    begun = opened(book, replace(LEAK, place="UP-3", usage_point_id="UP-3")).order_id
    stepped(book, begun, Step(Deed.DISPATCH, assignee="li"))
    stepped(book, begun, Step(Deed.ARRIVE))
    with book.begin() as connection:
        done = cancel_withdrawn(
            connection, service("anomaly"), 7, reason="late readings show that the flow stopped", now_ms=NOW + 9
        )
    assert done == [alone]
    with book.read() as connection:
        found = {row.id: row for row in connection.execute(sa.select(WorkOrder))}
        note = connection.execute(
            sa.select(WorkOrderStep.note).where(WorkOrderStep.order_id == alone, WorkOrderStep.deed == "cancel")
        ).scalar_one()
    assert (found[alone].state, found[alone].result, found[alone].finished_at) == ("finished", "cancelled", NOW + 9)
    assert found[both.order_id].state == "accepted"
    assert found[begun].state == "arrived"
    assert note == "late readings show that the flow stopped"


def test_random_walks_leave_no_illegal_state_lose_nothing_and_the_audit_chain_holds(book: Database) -> None:
    steps = 10_000 if book.is_sqlite else 1_500
    chance = random.Random(17)
    model: dict[int, str] = {}
    taken: dict[int, int] = {}
    while steps > 0:
        with book.begin() as connection:
            for _ in range(100):
                steps -= 1
                if chance.random() < 0.15:
                    place = f"UP-{chance.randint(1, 20)}"
                    wanted = replace(
                        LEAK, place=place, usage_point_id=place, opens=chance.choice(list(Opens)), evidence=[]
                    )
                    made = open_or_join(connection, BOSS, wanted, now_ms=NOW, calendar=CALENDAR)
                    if made.new:
                        model[made.order_id] = "proposed" if wanted.opens is Opens.PROPOSED else "accepted"
                        taken[made.order_id] = 1
                    continue
                if not model:
                    continue
                order_id, deed, result = (
                    chance.choice(list(model)),
                    chance.choice(list(Deed)),
                    chance.choice(list(Result)),
                )
                words = f"{model[order_id]} {deed}" + (f" {result}" if deed is Deed.FINISH else "")
                done = Step(deed, "because", "li", result if deed is Deed.FINISH else None, NOW + 10**9)
                if words in MODEL:
                    after = step(connection, BOSS, order_id, done, now_ms=NOW)
                    model[order_id], taken[order_id] = MODEL[words], taken[order_id] + 1
                    assert after.state == model[order_id]
                else:
                    with pytest.raises(StepError):
                        step(connection, BOSS, order_id, done, now_ms=NOW)
    with book.read() as connection:
        orders = {row.id: row for row in connection.execute(sa.select(WorkOrder))}
        per_order = sa.select(WorkOrderStep.order_id, sa.func.count()).group_by(WorkOrderStep.order_id)
        counted = {row[0]: row[1] for row in connection.execute(per_order)}
        rows = connection.execute(sa.select(AuditRecord).order_by(AuditRecord.number)).all()
    assert {number: row.state for number, row in orders.items()} == model
    assert counted == taken
    assert all((row.open_key is not None) == (State(row.state) in OPEN) for row in orders.values())
    assert len(rows) == sum(taken.values())
    assert all(row.previous == before.hash for before, row in itertools.pairwise(rows))
    assert all(audit.row_hash(row._asdict()) == row.hash for row in rows)
