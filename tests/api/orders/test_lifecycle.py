"""The life of a work order, against a small model that shares nothing with the code."""

from __future__ import annotations

import random

import pytest

from api.orders.lifecycle import (
    OPEN,
    Deed,
    Standing,
    State,
    Step,
    StepError,
    check_actor,
    possible,
    take,
    withdraw,
)
from api.orders.words import Result
from registry.roles import Actor, Role

DUE = 1_000_000
NOW = 500_000

# worked out from the manuals' words, not from the code: "state deed [result]" -> state
MODEL = {
    "proposed accept": "accepted",
    "proposed decline": "declined",
    "accepted dispatch": "dispatched",
    "accepted cancel": "finished",
    "accepted extend": "accepted",
    "dispatched dispatch": "dispatched",
    "dispatched recall": "accepted",
    "dispatched arrive": "arrived",
    "dispatched cancel": "finished",
    "dispatched extend": "dispatched",
    "arrived extend": "arrived",
    "arrived finish passed": "finished",
    "arrived finish not_passed": "finished",
    "arrived finish cancelled": "finished",
    "arrived finish unfinished": "accepted",
    "arrived finish cannot_be_done": "accepted",
    **{f"{state} void": "voided" for state in ("proposed", "accepted", "dispatched", "arrived", "finished")},
}


def full(deed: Deed, result: Result | None = None) -> Step:
    return Step(deed, note="because", assignee="team-1", result=result, appointment_at=NOW + 1)


def test_ten_thousand_random_steps_follow_the_model() -> None:
    chance = random.Random(8)
    standing = Standing(State.PROPOSED, DUE)
    seen: set[str] = set()
    for _ in range(10_000):
        deed, result = chance.choice(list(Deed)), chance.choice(list(Result))
        words = f"{standing.state} {deed}" + (f" {result}" if deed is Deed.FINISH else "")
        try:
            after = take(standing, full(deed, result if deed is Deed.FINISH else None), now_ms=NOW)
        except StepError:
            assert words not in MODEL, words
        else:
            assert MODEL[words] == after.state
            seen.add(words)
            standing = after
        if not possible(standing) or chance.random() < 0.02:
            standing = Standing(chance.choice([State.PROPOSED, State.ACCEPTED]), DUE)
    assert seen == set(MODEL)


@pytest.mark.parametrize(
    ("state", "step", "says"),
    [
        (State.PROPOSED, Step(Deed.DECLINE), "note"),
        (State.ACCEPTED, Step(Deed.DISPATCH), "worker or a team"),
        (State.ACCEPTED, Step(Deed.CANCEL, note=" "), "note"),
        (State.ACCEPTED, Step(Deed.EXTEND, note="on holiday"), "appointment in the future"),
        (State.ACCEPTED, Step(Deed.EXTEND, note="on holiday", appointment_at=NOW), "appointment in the future"),
        (State.ARRIVED, Step(Deed.FINISH), "needs a result"),
        (State.ARRIVED, Step(Deed.FINISH, result=Result.NOT_PASSED), "note with the reason"),
        (State.ARRIVED, Step(Deed.FINISH, result=Result.UNFINISHED), "note with the reason"),
        (State.ACCEPTED, Step(Deed.VOID), "note"),
    ],
)
def test_what_is_missing_is_said(state: State, step: Step, says: str) -> None:
    with pytest.raises(StepError, match=says):
        take(Standing(state, DUE), step, now_ms=NOW)


def test_passed_is_the_default_of_a_good_visit_and_needs_no_note() -> None:
    after = take(Standing(State.ARRIVED, DUE), Step(Deed.FINISH, result=Result.PASSED), now_ms=NOW)
    assert (after.state, after.result, after.visits) == (State.FINISHED, Result.PASSED, 1)


def test_unfinished_is_dispatched_anew() -> None:
    visit = Standing(State.ARRIVED, DUE, assignee="li")
    after = take(visit, Step(Deed.FINISH, note="no parts", result=Result.UNFINISHED), now_ms=NOW)
    assert (after.state, after.assignee, after.result, after.visits) == (State.ACCEPTED, "", None, 1)


def test_a_customer_who_is_not_reached_is_tried_again_until_the_deadline() -> None:
    step = Step(Deed.CANCEL, note="nobody at home", not_reached=True)
    with pytest.raises(StepError, match="go on trying"):
        take(Standing(State.DISPATCHED, DUE), step, now_ms=DUE - 1)
    assert take(Standing(State.DISPATCHED, DUE), step, now_ms=DUE).result is Result.CANCELLED


def test_a_later_appointment_extends_the_promise_and_an_earlier_one_does_not_shorten_it() -> None:
    def extended(to: int) -> int:
        step = Step(Deed.EXTEND, note="the customer asked for it", appointment_at=to)
        return take(Standing(State.ACCEPTED, DUE), step, now_ms=NOW).due_at

    assert extended(DUE + 5) == DUE + 5
    assert extended(NOW + 5) == DUE


def test_only_a_supervisor_voids() -> None:
    standing = Standing(State.ACCEPTED, DUE)
    check_actor(standing, Deed.VOID, Actor("user:wu", frozenset({Role.SUPERVISOR})), own=frozenset())
    for role in set(Role) - {Role.SUPERVISOR}:
        with pytest.raises(StepError, match="supervisor"):
            check_actor(standing, Deed.VOID, Actor("user:li", frozenset({role})), own=frozenset())


def test_a_worker_touches_only_what_is_dispatched_to_him_or_his_team() -> None:
    worker = Actor("user:li", frozenset({Role.WORKER}))
    mine, other = (Standing(State.DISPATCHED, DUE, assignee=name) for name in ("team-1", "team-2"))
    check_actor(mine, Deed.ARRIVE, worker, own=frozenset({"li", "team-1"}))
    with pytest.raises(StepError, match="not dispatched to you"):
        check_actor(other, Deed.ARRIVE, worker, own=frozenset({"li", "team-1"}))


def test_withdrawal_cancels_what_nobody_has_begun() -> None:
    for state in State:
        after = withdraw(Standing(state, DUE))
        if state in (State.PROPOSED, State.ACCEPTED, State.DISPATCHED):
            assert after is not None
            assert (after.state, after.result) == (State.FINISHED, Result.CANCELLED)
        else:
            assert after is None


def test_open_states_are_those_in_which_somebody_may_still_go() -> None:
    assert {state for state in State if any(deed is not Deed.VOID for deed in possible(Standing(state, DUE)))} == OPEN
