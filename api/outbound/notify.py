"""Events that people are told: planned by the rules when they happen, told when they are due and still true."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from api.outbound import outbox
from api.outbound.events import MASKED, OPENING
from api.outbound.outbox import Put
from api.outbound.rules import Rule, concerns, due_at, escalations, matches
from api.outbound.templates import of_message
from api.outbound.texts import Message, Told, message
from metering.clock import rfc3339
from registry.findings_store import FINDING, chunks
from registry.models_outbound import Notification, NotificationRule, OutboundEvent, Webhook

WAITING: Final = "waiting"
TOLD: Final = "told"
DROPPED: Final = "dropped"
FLOOD: Final = 10
"""So many messages of one rule within ten minutes are a flood (ISA-18.2): then urgent ones are gathered too."""
_FLOOD_MS: Final = 600_000
_OVER: Final = frozenset({"finding.cleared", "finding.withdrawn", "finding.acknowledged", "house.returned"})
_NOTE: Final = Notification


def plan(connection: Connection, events: Sequence[Any], *, now_ms: int) -> None:
    """Plan what the rules tell of events (rows of `outbound_event`), in the transaction that keeps them."""
    rules = [Rule.of(row) for row in connection.execute(_rules()).all()]
    for event in events:
        if event.kind in _OVER or event.kind == "finding.reopened":
            _drop(connection, event, steps_only=event.kind != "finding.withdrawn", why=event.kind)
    for rule in rules:
        planner = _Planner(connection, rule, now_ms)
        rows = [row for event in events for row in planner.rows(event)]
        if rows:
            connection.execute(sa.insert(Notification), rows)


def _rules() -> sa.Select[Any]:
    return sa.select(NotificationRule).where(NotificationRule.enabled.is_(True)).order_by(NotificationRule.id)


def _drop(connection: Connection, event: Any, *, steps_only: bool, why: str) -> None:
    """What waits for an object that is over: escalations, and for a withdrawn one everything."""
    condition = [_NOTE.object_kind == event.object_kind, _NOTE.object_id == event.object_id, _NOTE.state == WAITING]
    if steps_only:
        condition.append(_NOTE.step > 0)
    condition.append(_NOTE.event_id < event.id)
    connection.execute(sa.update(Notification).where(*condition).values(state=DROPPED, why=why))


class _Planner:
    """One rule while it looks at new events."""

    def __init__(self, connection: Connection, rule: Rule, now_ms: int) -> None:
        self._connection, self._rule, self._now = connection, rule, now_ms
        self._crowd = self._recent()
        self._bundle: int | None = None

    def _recent(self) -> int:
        """How many messages went out lately, however many events each of them told."""
        moments = sa.select(sa.func.count(sa.distinct(_NOTE.told_at))).where(
            _NOTE.rule_id == self._rule.id, _NOTE.state == TOLD, _NOTE.told_at > self._now - _FLOOD_MS
        )
        return int(self._connection.execute(moments).scalar_one())

    def rows(self, event: Any) -> Iterable[dict[str, Any]]:
        """Return the notifications that an event gets by this rule."""
        rule = self._rule
        fits = matches(rule, event)
        targets = list(rule.targets(0)) if fits else []
        if event.kind == "finding.withdrawn" and concerns(rule, event):
            targets = list(dict.fromkeys([*targets, *self._told(event)]))
        if not targets:
            return
        if self._bundle is None:
            self._bundle = self._waiting_bundle()
        due = due_at(rule, event, self._now, crowded=self._crowd >= FLOOD, bundle_ends=self._bundle)
        if due > self._now and (self._bundle is None or due < self._bundle):
            self._bundle = due
        yield self._row(event, 0, due, targets)
        if fits and event.kind in OPENING:
            for number, at in escalations(rule, event.at):
                late = max(at, self._now)
                yield self._row(
                    event,
                    number,
                    due_at(rule, event, late, crowded=False, bundle_ends=None),
                    list(rule.targets(number)),
                )

    def _told(self, event: Any) -> list[str]:
        """Whom this rule told of the finding so far."""
        statement = sa.select(_NOTE.targets).where(
            _NOTE.rule_id == self._rule.id,
            _NOTE.object_kind == event.object_kind,
            _NOTE.object_id == event.object_id,
            _NOTE.state == TOLD,
        )
        return [target for targets in self._connection.execute(statement).scalars() for target in targets]

    def _waiting_bundle(self) -> int | None:
        statement = sa.select(sa.func.min(_NOTE.due_at)).where(
            _NOTE.rule_id == self._rule.id, _NOTE.step == 0, _NOTE.state == WAITING, _NOTE.due_at > self._now
        )
        found: int | None = self._connection.execute(statement).scalar()
        return found

    def _row(self, event: Any, step: int, due: int, targets: list[str]) -> dict[str, Any]:
        return {
            "rule_id": self._rule.id,
            "event_id": event.id,
            "step": step,
            "object_kind": event.object_kind,
            "object_id": event.object_id,
            "due_at": due,
            "state": WAITING,
            "why": "",
            "targets": targets,
        }


# --- telling ------------------------------------------------------------------------------------------------------


def tell(connection: Connection, *, now_ms: int) -> int:
    """Put the messages of what is due into the outbox, one per rule, step and circle of people; return how many."""
    statement = (
        sa.select(_NOTE.id.label("note_id"), _NOTE.rule_id, _NOTE.step, _NOTE.targets, OutboundEvent.__table__)
        .join(OutboundEvent, OutboundEvent.id == _NOTE.event_id)
        .where(_NOTE.state == WAITING, _NOTE.due_at <= now_ms)
        .order_by(_NOTE.id)
    )
    rows = connection.execute(statement).all()
    if not rows:
        return 0
    rules = {row.id: Rule.of(row) for row in connection.execute(_rules()).all()}
    groups: dict[tuple[int, int, tuple[str, ...]], list[Any]] = defaultdict(list)
    states = _states(connection, rows)
    for row in rows:
        why = _why_not(row, states) if row.rule_id in rules else "the rule is switched off"
        if why:
            _mark(connection, [row.note_id], state=DROPPED, why=why)
        else:
            groups[(row.rule_id, row.step, tuple(row.targets))].append(row)
    hooks = {row.id: row for row in connection.execute(sa.select(Webhook)).all()}
    for (rule_id, step, targets), members in groups.items():
        _send(connection, rules[rule_id], step, targets, members, hooks, now_ms)
    return len(groups)


def _states(connection: Connection, rows: Sequence[Any]) -> dict[str, str]:
    """Return the present state of every finding among the rows; "withdrawn" for one that is."""
    numbers = sorted({int(row.object_id) for row in rows if row.object_kind == "finding"})
    found: dict[str, str] = {}
    for part in chunks(numbers):
        statement = sa.select(FINDING.c.id, FINDING.c.state, FINDING.c.withdrawn_at).where(FINDING.c.id.in_(part))
        for number, state, withdrawn_at in connection.execute(statement):
            found[str(number)] = "withdrawn" if withdrawn_at is not None else state
    return found


def _why_not(row: Any, states: dict[str, str]) -> str:
    """Return why a notification is no longer worth telling, "" when it is."""
    if row.object_kind != "finding" or row.kind not in OPENING:
        return ""
    state = states.get(row.object_id, "withdrawn")
    if row.step and state != "UNACK":
        return f"it is {state} now"
    if state == "withdrawn":
        return "withdrawn before anybody was told"
    return "explained or put aside meanwhile" if state in MASKED else ""


def _mark(connection: Connection, numbers: Sequence[int], **values: Any) -> None:
    for part in chunks(numbers):
        connection.execute(sa.update(Notification).where(_NOTE.id.in_(part)).values(**values))


def _send(
    connection: Connection,
    rule: Rule,
    step: int,
    targets: tuple[str, ...],
    members: Sequence[Any],
    hooks: dict[int, Any],
    now_ms: int,
) -> None:
    events = [
        Told(
            row.kind,
            rfc3339(row.at),
            row.district,
            row.priority,
            row.subject,
            row.object_kind,
            row.object_id,
            row.data,
        )
        for row in members
    ]
    made = message(rule.name, step, events, digest_above=rule.digest_above)
    numbers = [row.note_id for row in members]
    districts = {row.district for row in members}
    district = districts.pop() if len(districts) == 1 else ""
    items = [
        put
        for target in targets
        if (put := _put(target, made, f"{rule.id}:{step}:{numbers}:{now_ms}:{target}", hooks, district, now_ms))
    ]
    outbox.put(connection, items, now_ms=now_ms)
    _mark(connection, numbers, state=TOLD, told_at=now_ms)


def _put(target: str, made: Message, key: str, hooks: dict[int, Any], district: str, now_ms: int) -> Put | None:
    channel, _, address = target.partition(":")
    if channel == "mail":
        return Put(key, "email", None, address, "notification", district, made.subject, made.text)
    hook = hooks.get(int(address))
    if hook is None or not hook.enabled:
        return None
    payload = of_message(hook.template, made, rfc3339(now_ms))
    return Put(key, "webhook", hook.id, "", "notification", district, made.subject, payload)
