"""What people do with findings: acknowledge, comment, shelve, take out of service, and back. Audited, one by one.

Every function runs in the caller's writing transaction, and writes state, history and audit there or nothing.
"""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy.engine import Connection

from metering.clock import rfc3339
from metering.errors import MetergateError
from registry import audit
from registry import findings_store as store
from registry.alarm_states import AlarmEvent, AlarmState, TransitionError, allowed
from registry.findings_store import Case
from registry.findings_words import Change, Sort
from registry.roles import Actor

_E = AlarmEvent
_SORTS: Final[dict[AlarmEvent, Sort]] = {
    _E.ACKNOWLEDGE: "acknowledged",
    _E.SHELVE: "shelved",
    _E.UNSHELVE: "unshelved",
    _E.OUT_OF_SERVICE: "out_of_service",
    _E.RETURN: "returned",
}


class UnknownFindingError(MetergateError):
    """There is no such finding, or it lies in a district that the actor may not see."""


class StaleFindingError(MetergateError):
    """Somebody or something changed it since the actor looked. version: its present one."""

    def __init__(self, number: int, version: int, state: str) -> None:
        self.version, self.state = version, state
        super().__init__(f"finding {number} was changed meanwhile: it is {state} now, version {version}")


def act(
    connection: Connection,
    actor: Actor,
    number: int,
    event: AlarmEvent,
    *,
    now_ms: int,
    note: str = "",
    until: int | None = None,
    version: int | None = None,
) -> Change:
    """Let a person's event happen to one finding. until: [ms UTC]. version: that the actor has seen, None for any.

    Raises: UnknownFindingError, StaleFindingError, TransitionError (which says what is possible now).
    """
    case = _looked_at(connection, actor, number, version)
    if event is _E.RETURN and case.values["window_id"] is not None and case.alarm.out_until is not None:
        why = f"maintenance window {case.values['window_id']} lasts until {rfc3339(case.alarm.out_until)}; end that"
        raise TransitionError(case.state, event, allowed(case.alarm) - {_E.RETURN}, why)
    if event is _E.OUT_OF_SERVICE:
        case.values["window_id"] = None
    before = case.state
    case.step(event, at=now_ms, who=actor.name, note=note, until=until)
    after: dict[str, Any] = {"state": case.state.value}
    if until is not None:
        after["until"] = rfc3339(until)
    return _done(connection, actor, case, event.value, _SORTS[event], before, after, now_ms, note)


def comment(
    connection: Connection, actor: Actor, number: int, note: str, *, now_ms: int, version: int | None = None
) -> Change:
    """Add a comment. Raises: UnknownFindingError, StaleFindingError."""
    case = _looked_at(connection, actor, number, version)
    case.comment(note, at=now_ms, who=actor.name)
    return _done(connection, actor, case, store.COMMENT, "commented", case.state, {}, now_ms, note)


def _looked_at(connection: Connection, actor: Actor, number: int, version: int | None) -> Case:
    case = store.by_id(connection, number)
    if case is None or not actor.sees(case.values["district"]):
        raise UnknownFindingError(f"there is no finding {number}")
    if version is not None and version != case.values["version"]:
        raise StaleFindingError(number, case.values["version"], case.state.value)
    return case


def _done(
    connection: Connection,
    actor: Actor,
    case: Case,
    verb: str,
    sort: Sort,
    before: AlarmState,
    after: dict[str, Any],
    now_ms: int,
    note: str,
) -> Change:
    store.save(connection, [case])
    audit.append(
        connection,
        actor,
        f"finding.{verb}",
        "finding",
        case.values["id"],
        at=now_ms,
        before={"state": before.value} if after else None,
        after=after,
        note=note,
    )
    return case.change(sort, now_ms, note)
