"""The life of an alarm: seven states, the events that lead from one to another, and what is permitted where.

    NORM    正常      nothing to do                     UNACK   未确认    the condition holds, nobody has confirmed it
    ACKED   已确认    it holds and somebody knows       RTNUN   恢复未确认 it is over, and nobody had confirmed it
    SHLVD   搁置      put aside by a person, with an end
    DSUPR   设计抑制  explained by another alarm (its parent)
    OOSRV   停用      taken out of service, with an end; maintenance windows do this

The last three lie over the first four and may lie over each other; the strongest is shown: OOSRV, DSUPR, SHLVD. When
the last one ends, the alarm is what it has become meanwhile: UNACK or ACKED when its condition still holds; when it
does not, RTNUN if it had been shown and nobody confirmed it, else NORM (what came and went unseen needs nobody).

A finding without alarm (priority none: information) is NORM for ever; a withdrawn one is NORM with its story kept.
Source: ANSI/ISA-18.2 and IEC 62682, the alarm state transition diagram (states A to G).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from metering.errors import MetergateError


class AlarmState(StrEnum):
    """What an alarm is now."""

    NORM = "NORM"
    UNACK = "UNACK"
    ACKED = "ACKED"
    RTNUN = "RTNUN"
    SHLVD = "SHLVD"
    DSUPR = "DSUPR"
    OOSRV = "OOSRV"


class AlarmEvent(StrEnum):
    """What may happen. RAISE, CLEAR, SUPPRESS, RELEASE and WITHDRAW come from the rules, EXPIRE from the clock."""

    RAISE = "raise"
    CLEAR = "clear"
    ACKNOWLEDGE = "acknowledge"
    SHELVE = "shelve"
    UNSHELVE = "unshelve"
    EXPIRE = "expire"
    SUPPRESS = "suppress"
    RELEASE = "release"
    OUT_OF_SERVICE = "out_of_service"
    RETURN = "return"
    WITHDRAW = "withdraw"


_S, _E = AlarmState, AlarmEvent
_MASKS: Final = frozenset({_E.SHELVE, _E.SUPPRESS, _E.OUT_OF_SERVICE, _E.WITHDRAW})
_CONDITION: Final = frozenset({_E.RAISE, _E.CLEAR})

PERMITTED: Final[Mapping[AlarmState, frozenset[AlarmEvent]]] = {
    _S.NORM: _MASKS | {_E.RAISE},
    _S.UNACK: _MASKS | {_E.CLEAR, _E.ACKNOWLEDGE},
    _S.ACKED: _MASKS | {_E.CLEAR},
    _S.RTNUN: _MASKS | {_E.RAISE, _E.ACKNOWLEDGE},
    _S.SHLVD: _MASKS | _CONDITION | {_E.UNSHELVE, _E.EXPIRE},
    _S.DSUPR: _CONDITION | {_E.RELEASE, _E.EXPIRE, _E.OUT_OF_SERVICE, _E.WITHDRAW},
    _S.OOSRV: _CONDITION | {_E.RETURN, _E.EXPIRE, _E.OUT_OF_SERVICE, _E.SUPPRESS, _E.RELEASE, _E.WITHDRAW},
}
"""Events by state; `allowed` leaves out those that would change nothing (a raise while it holds, …)."""

WITHDRAWN: Final = frozenset({_E.RAISE})
"""Events of a withdrawn finding: the rules may find the same thing again."""
NO_ALARM: Final = frozenset({_E.RAISE, _E.CLEAR, _E.WITHDRAW})
"""Events of information without alarm."""
TIMED: Final = frozenset({_E.SHELVE, _E.OUT_OF_SERVICE})
"""Events that need an end."""
BY_PEOPLE: Final = (_E.ACKNOWLEDGE, _E.SHELVE, _E.UNSHELVE, _E.OUT_OF_SERVICE, _E.RETURN)


class TransitionError(MetergateError):
    """An event that is not permitted now; `allowed` are those that are."""

    def __init__(self, state: AlarmState, event: AlarmEvent, allowed: frozenset[AlarmEvent], why: str = "") -> None:
        self.state, self.event, self.allowed = state, event, allowed
        possible = [name for name in BY_PEOPLE if name in allowed]
        now = f"a person can: {', '.join(possible)}" if possible else "there is nothing that a person must do"
        super().__init__(f"{event} is not possible in state {state}{f' ({why})' if why else ''}; now {now}")


@dataclass(frozen=True, slots=True)
class Alarm:
    """Everything that decides the state.

    alarm: False for information. active: its condition holds. acked: somebody confirmed it since it was raised.
    told: it was shown as UNACK since it was raised. suppressed: explained by a parent. *_until: [ms UTC] ends.
    """

    alarm: bool = True
    active: bool = False
    acked: bool = False
    told: bool = False
    suppressed: bool = False
    shelved_until: int | None = None
    out_until: int | None = None
    withdrawn: bool = False

    @property
    def masked(self) -> bool:
        return self.suppressed or self.shelved_until is not None or self.out_until is not None

    @property
    def state(self) -> AlarmState:
        """The one word for it."""
        if not self.alarm or self.withdrawn:
            return _S.NORM
        if self.out_until is not None:
            return _S.OOSRV
        if self.suppressed:
            return _S.DSUPR
        if self.shelved_until is not None:
            return _S.SHLVD
        if self.active:
            return _S.ACKED if self.acked else _S.UNACK
        return _S.RTNUN if self.told and not self.acked else _S.NORM


def allowed(alarm: Alarm) -> frozenset[AlarmEvent]:
    """Return the events that may happen to it now (EXPIRE: as soon as an end is reached)."""
    if alarm.withdrawn:
        return WITHDRAWN
    idle = {_E.RAISE if alarm.active else _E.CLEAR, _E.SUPPRESS if alarm.suppressed else _E.RELEASE}
    if alarm.shelved_until is None and alarm.out_until is None:
        idle.add(_E.EXPIRE)
    return (PERMITTED[alarm.state] if alarm.alarm else NO_ALARM) - idle


def apply(alarm: Alarm, event: AlarmEvent, *, at: int, until: int | None = None) -> Alarm:
    """Return the alarm after `event` at `at` [ms UTC]. until: [ms UTC], the end of SHELVE and OUT_OF_SERVICE.

    Raises: TransitionError when it is not permitted now, or when an end is missing or over.
    """
    possible = allowed(alarm)
    if event not in possible:
        raise TransitionError(alarm.state, event, possible)
    if event in TIMED and (until is None or until <= at):
        raise TransitionError(alarm.state, event, possible, "it needs an end in the future")
    after = _after(alarm, event, at, until)
    return replace(after, told=True) if after.state is _S.UNACK else after


def _after(alarm: Alarm, event: AlarmEvent, at: int, until: int | None) -> Alarm:
    match event:
        case _E.RAISE:
            return replace(alarm, active=True, acked=False, told=False, withdrawn=False)
        case _E.CLEAR:
            return replace(alarm, active=False)
        case _E.ACKNOWLEDGE:
            return replace(alarm, acked=True)
        case _E.SHELVE:
            return replace(alarm, shelved_until=until)
        case _E.UNSHELVE:
            return replace(alarm, shelved_until=None)
        case _E.SUPPRESS | _E.RELEASE:
            return replace(alarm, suppressed=event is _E.SUPPRESS)
        case _E.OUT_OF_SERVICE:
            return replace(alarm, out_until=until)
        case _E.RETURN:
            return replace(alarm, out_until=None)
        case _E.EXPIRE:
            return replace(alarm, shelved_until=_kept(alarm.shelved_until, at), out_until=_kept(alarm.out_until, at))
        case _E.WITHDRAW:
            return Alarm(alarm.alarm, withdrawn=True)


def _kept(until: int | None, at: int) -> int | None:
    return until if until is not None and until > at else None
