"""The life of a work order: which step is possible now, for whom, and what it needs. Pure; no database, no clock.

    proposed ──accept──> accepted ──dispatch──> dispatched ──arrive──> arrived ──finish──> finished
        │ decline           │  ^                   │  ^ to somebody else     │
        v                   │  └── recall ─────────┤  └── dispatch           │ unfinished, cannot be done:
     declined               └── cancel ────────────┴──────> finished         └──> accepted, dispatched anew

An order that nobody has started may be cancelled (by a person with a reason, or because late data withdrew its
finding); a supervisor voids a mistaken one in any state. Source: the manuals' rules on dispatch slips and receipts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from api.orders.words import Priority, Result
from registry.roles import Actor, Role


class State(StrEnum):
    """Where an order is."""

    PROPOSED = "proposed"
    ACCEPTED = "accepted"
    DISPATCHED = "dispatched"
    ARRIVED = "arrived"
    FINISHED = "finished"
    DECLINED = "declined"
    VOIDED = "voided"


class Deed(StrEnum):
    """What somebody does with an order."""

    ACCEPT = "accept"
    DECLINE = "decline"
    DISPATCH = "dispatch"
    RECALL = "recall"
    ARRIVE = "arrive"
    FINISH = "finish"
    CANCEL = "cancel"
    EXTEND = "extend"
    VOID = "void"


OPEN: Final = frozenset({State.PROPOSED, State.ACCEPTED, State.DISPATCHED, State.ARRIVED})
"""States in which an order counts as open: no second one of its type at its place."""

NOT_STARTED: Final = frozenset({State.PROPOSED, State.ACCEPTED, State.DISPATCHED})

ANEW: Final = frozenset({Result.UNFINISHED, Result.CANNOT_BE_DONE})
"""Results after which the order is dispatched anew."""

STEPS: Final[Mapping[State, Mapping[Deed, State]]] = MappingProxyType(
    {
        State.PROPOSED: {Deed.ACCEPT: State.ACCEPTED, Deed.DECLINE: State.DECLINED, Deed.VOID: State.VOIDED},
        State.ACCEPTED: {
            Deed.DISPATCH: State.DISPATCHED,
            Deed.CANCEL: State.FINISHED,
            Deed.EXTEND: State.ACCEPTED,
            Deed.VOID: State.VOIDED,
        },
        State.DISPATCHED: {
            Deed.DISPATCH: State.DISPATCHED,
            Deed.RECALL: State.ACCEPTED,
            Deed.ARRIVE: State.ARRIVED,
            Deed.CANCEL: State.FINISHED,
            Deed.EXTEND: State.DISPATCHED,
            Deed.VOID: State.VOIDED,
        },
        State.ARRIVED: {
            Deed.FINISH: State.FINISHED,
            Deed.EXTEND: State.ARRIVED,
            Deed.VOID: State.VOIDED,
        },
        State.FINISHED: {Deed.VOID: State.VOIDED},
        State.DECLINED: {},
        State.VOIDED: {},
    }
)
"""State -> deed -> next state. FINISH with a result of `ANEW` leads back to accepted."""

NEEDS_NOTE: Final = frozenset({Deed.DECLINE, Deed.CANCEL, Deed.EXTEND, Deed.VOID, Deed.RECALL})
MAY: Final[Mapping[Deed, frozenset[Role]]] = MappingProxyType(
    {
        Deed.ACCEPT: frozenset({Role.DISPATCHER, Role.SUPERVISOR}),
        Deed.DECLINE: frozenset({Role.DISPATCHER, Role.SUPERVISOR}),
        Deed.DISPATCH: frozenset({Role.DISPATCHER, Role.SUPERVISOR}),
        Deed.RECALL: frozenset({Role.DISPATCHER, Role.SUPERVISOR}),
        Deed.ARRIVE: frozenset({Role.WORKER, Role.DISPATCHER, Role.SUPERVISOR}),
        Deed.FINISH: frozenset({Role.WORKER, Role.DISPATCHER, Role.SUPERVISOR}),
        Deed.CANCEL: frozenset({Role.DISPATCHER, Role.SUPERVISOR}),
        Deed.EXTEND: frozenset({Role.DISPATCHER, Role.SUPERVISOR}),
        Deed.VOID: frozenset({Role.SUPERVISOR}),
    }
)
"""Who may do what; a worker only with orders that are dispatched to him or his team."""


class StepError(Exception):
    """A step that is not possible. sort: forbidden (not this person), impossible (not in this state), incomplete."""

    def __init__(self, sort: str, message: str) -> None:
        super().__init__(message)
        self.sort = sort


@dataclass(frozen=True, slots=True)
class Standing:
    """What of an order decides over its steps. Times [ms UTC].

    due_at: the promise. assignee: worker or team, "" while nobody is sent. visits: receipts so far.
    """

    state: State
    due_at: int
    assignee: str = ""
    result: Result | None = None
    appointment_at: int | None = None
    visits: int = 0


@dataclass(frozen=True, slots=True)
class Step:
    """A step that somebody asks for, with what it needs. not_reached: the customer could not be reached.

    priority: as chosen at acceptance; None leaves what the policy proposed.
    """

    deed: Deed
    note: str = ""
    assignee: str = ""
    result: Result | None = None
    appointment_at: int | None = None
    not_reached: bool = False
    priority: Priority | None = None


def possible(standing: Standing, actor: Actor | None = None) -> tuple[Deed, ...]:
    """Return the steps that are possible now, for `actor` when one is given."""
    deeds = STEPS[standing.state]
    return tuple(deed for deed in deeds if actor is None or actor.has(*MAY[deed]))


def take(standing: Standing, step: Step, *, now_ms: int) -> Standing:
    """Return the order after a step. Who may take it is asked of `check_actor`.

    Raises: StepError that says what is possible, or what is missing.
    """
    deeds = STEPS[standing.state]
    if step.deed not in deeds:
        allowed = ", ".join(deeds) or "nothing"
        raise StepError(
            "impossible", f"an order that is {standing.state} cannot {step.deed}; possible now: {allowed}"
        )
    _check_complete(standing, step, now_ms)
    after = replace(standing, state=deeds[step.deed])
    match step.deed:
        case Deed.DISPATCH:
            return replace(after, assignee=step.assignee)
        case Deed.RECALL:
            return replace(after, assignee="")
        case Deed.FINISH:
            return _finish(after, step)
        case Deed.CANCEL:
            return replace(after, result=Result.CANCELLED)
        case Deed.EXTEND:
            assert step.appointment_at is not None
            later = max(standing.due_at, step.appointment_at)
            return replace(after, appointment_at=step.appointment_at, due_at=later)
    return after


def _finish(after: Standing, step: Step) -> Standing:
    assert step.result is not None
    if step.result in ANEW:
        return replace(after, state=State.ACCEPTED, assignee="", result=None, visits=after.visits + 1)
    return replace(after, result=step.result, visits=after.visits + 1)


def _check_complete(standing: Standing, step: Step, now_ms: int) -> None:
    if step.deed in NEEDS_NOTE and not step.note.strip():
        raise StepError("incomplete", f"to {step.deed} an order needs a note that says why")
    if step.deed is Deed.DISPATCH and not step.assignee:
        raise StepError("incomplete", "to dispatch needs a worker or a team")
    if step.deed is Deed.EXTEND and (step.appointment_at is None or step.appointment_at <= now_ms):
        raise StepError("incomplete", "an extension needs an appointment in the future")
    if step.deed is Deed.FINISH:
        if step.result is None:
            raise StepError("incomplete", f"to finish needs a result: {', '.join(Result)}")
        if step.result is not Result.PASSED and not step.note.strip():
            raise StepError("incomplete", f"the result {step.result} needs a note with the reason")
    gives_up = step.deed is Deed.CANCEL or step.result is Result.CANCELLED
    if gives_up and step.not_reached and now_ms < standing.due_at:
        raise StepError("impossible", "the customer was not reached, but the deadline is not over: go on trying")


def check_actor(standing: Standing, deed: Deed, actor: Actor, *, own: frozenset[str]) -> None:
    """Refuse who may not. own: the worker's name and teams. Raises: StepError (forbidden)."""
    if not actor.has(*MAY[deed]):
        roles = ", ".join(sorted(MAY[deed]))
        raise StepError("forbidden", f"to {deed} an order takes one of the roles {roles}")
    only_worker = not actor.has(Role.DISPATCHER, Role.SUPERVISOR)
    if only_worker and standing.assignee not in own:
        raise StepError("forbidden", "this order is not dispatched to you or your team")


def withdraw(standing: Standing) -> Standing | None:
    """Return the order cancelled because late data withdrew its finding; None when somebody has already begun."""
    if standing.state not in NOT_STARTED:
        return None
    return replace(standing, state=State.FINISHED, result=Result.CANCELLED)
