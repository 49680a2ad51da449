"""The states of an alarm: what leads where, and ten thousand random steps beside a second, plainer model."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from registry.alarm_states import Alarm, AlarmEvent, AlarmState, TransitionError, allowed, apply
from tests.registry.plain_alarm import Plain

E, S = AlarmEvent, AlarmState
NOW, LATER = 1_000, 5_000


def after(*events: AlarmEvent, alarm: Alarm | None = None) -> Alarm:
    """Apply events one after the other; whatever needs an end gets LATER."""
    found = alarm or Alarm()
    for event in events:
        found = apply(found, event, at=NOW, until=LATER if event in (E.SHELVE, E.OUT_OF_SERVICE) else None)
    return found


@pytest.mark.parametrize(
    ("events", "state"),
    [
        ([], S.NORM),
        ([E.RAISE], S.UNACK),
        ([E.RAISE, E.ACKNOWLEDGE], S.ACKED),
        ([E.RAISE, E.ACKNOWLEDGE, E.CLEAR], S.NORM),
        ([E.RAISE, E.CLEAR], S.RTNUN),
        ([E.RAISE, E.CLEAR, E.ACKNOWLEDGE], S.NORM),
        ([E.RAISE, E.CLEAR, E.RAISE], S.UNACK),
        ([E.RAISE, E.ACKNOWLEDGE, E.CLEAR, E.RAISE], S.UNACK),
        ([E.RAISE, E.SHELVE], S.SHLVD),
        ([E.RAISE, E.SHELVE, E.UNSHELVE], S.UNACK),
        ([E.RAISE, E.SHELVE, E.CLEAR, E.UNSHELVE], S.RTNUN),
        ([E.RAISE, E.ACKNOWLEDGE, E.SHELVE, E.UNSHELVE], S.ACKED),
        ([E.RAISE, E.ACKNOWLEDGE, E.SHELVE, E.CLEAR, E.UNSHELVE], S.NORM),
        ([E.RAISE, E.ACKNOWLEDGE, E.SHELVE, E.CLEAR, E.RAISE, E.UNSHELVE], S.UNACK),
        ([E.SUPPRESS, E.RAISE], S.DSUPR),
        ([E.SUPPRESS, E.RAISE, E.RELEASE], S.UNACK),
        ([E.SUPPRESS, E.RAISE, E.CLEAR, E.RELEASE], S.NORM),
        ([E.RAISE, E.SUPPRESS, E.CLEAR, E.RELEASE], S.RTNUN),
        ([E.RAISE, E.ACKNOWLEDGE, E.SUPPRESS, E.RELEASE], S.ACKED),
        ([E.RAISE, E.SHELVE, E.SUPPRESS], S.DSUPR),
        ([E.RAISE, E.SHELVE, E.SUPPRESS, E.RELEASE], S.SHLVD),
        ([E.RAISE, E.OUT_OF_SERVICE, E.SUPPRESS], S.OOSRV),
        ([E.RAISE, E.OUT_OF_SERVICE, E.SUPPRESS, E.RETURN], S.DSUPR),
        ([E.OUT_OF_SERVICE, E.RAISE, E.CLEAR, E.RETURN], S.NORM),
        ([E.RAISE, E.OUT_OF_SERVICE, E.CLEAR, E.RETURN], S.RTNUN),
        ([E.RAISE, E.ACKNOWLEDGE, E.WITHDRAW], S.NORM),
        ([E.RAISE, E.SHELVE, E.WITHDRAW, E.RAISE], S.UNACK),
    ],
)
def test_where_events_lead(events: list[AlarmEvent], state: AlarmState) -> None:
    assert after(*events).state is state


@pytest.mark.parametrize(
    ("events", "forbidden"),
    [
        ([], E.ACKNOWLEDGE),
        ([E.RAISE], E.RAISE),
        ([E.RAISE], E.UNSHELVE),
        ([E.RAISE], E.RELEASE),
        ([E.RAISE, E.ACKNOWLEDGE], E.ACKNOWLEDGE),
        ([E.RAISE, E.SHELVE], E.ACKNOWLEDGE),
        ([E.SUPPRESS, E.RAISE], E.ACKNOWLEDGE),
        ([E.SUPPRESS, E.RAISE], E.SHELVE),
        ([E.RAISE, E.OUT_OF_SERVICE], E.SHELVE),
        ([E.RAISE, E.OUT_OF_SERVICE], E.ACKNOWLEDGE),
        ([E.RAISE, E.WITHDRAW], E.ACKNOWLEDGE),
        ([E.RAISE, E.WITHDRAW], E.WITHDRAW),
    ],
)
def test_what_is_not_permitted_is_refused_with_what_is(events: list[AlarmEvent], forbidden: AlarmEvent) -> None:
    alarm = after(*events)
    with pytest.raises(TransitionError) as caught:
        apply(alarm, forbidden, at=NOW, until=LATER)
    assert caught.value.allowed == allowed(alarm)
    assert str(caught.value).startswith(f"{forbidden.value} is not possible in state {alarm.state.value}")


def test_the_refusal_names_what_a_person_can_do() -> None:
    with pytest.raises(TransitionError, match="a person can: shelve, unshelve, out_of_service") as caught:
        apply(after(E.RAISE, E.SHELVE), E.ACKNOWLEDGE, at=NOW)
    assert E.UNSHELVE in caught.value.allowed


@pytest.mark.parametrize("until", [None, NOW, NOW - 1])
@pytest.mark.parametrize("event", [E.SHELVE, E.OUT_OF_SERVICE])
def test_nothing_is_put_aside_without_an_end(event: AlarmEvent, until: int | None) -> None:
    with pytest.raises(TransitionError, match="it needs an end in the future"):
        apply(after(E.RAISE), event, at=NOW, until=until)


def test_information_is_normal_for_ever() -> None:
    info = replace(Alarm(), alarm=False)
    raised = after(E.RAISE, alarm=info)
    assert (raised.active, raised.state) == (True, S.NORM)
    assert allowed(raised) == {E.CLEAR, E.WITHDRAW}


def test_an_end_lets_go_only_of_what_has_reached_it() -> None:
    alarm = replace(Alarm(active=True), shelved_until=2_000, out_until=3_000)
    assert apply(alarm, E.EXPIRE, at=1_999).state is S.OOSRV
    shelf_over = apply(alarm, E.EXPIRE, at=2_000)
    assert (shelf_over.state, shelf_over.shelved_until) == (S.OOSRV, None)
    assert apply(shelf_over, E.EXPIRE, at=3_000).state is S.UNACK


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_ten_thousand_random_steps_agree_with_a_plain_model(seed: int) -> None:
    chance = random.Random(seed)
    alarm, plain, now, seen, done = Alarm(), Plain(), 0, set(), 0
    for _ in range(10_000):
        now += chance.randrange(1, 100)
        event = chance.choice(list(AlarmEvent))
        if event is E.WITHDRAW and chance.random() < 0.9:
            continue
        until = now + chance.randrange(1, 1000)
        assert (event in allowed(alarm)) == plain.may(event.value), (event, alarm)
        if plain.may(event.value):
            alarm = apply(alarm, event, at=now, until=until)
            plain.do(event.value, now, until)
            done += 1
        else:
            with pytest.raises(TransitionError):
                apply(alarm, event, at=now, until=until)
        assert alarm.state.value == plain.word()
        seen.add(plain.word())
    assert seen == {state.value for state in AlarmState}
    assert done > 3_000
