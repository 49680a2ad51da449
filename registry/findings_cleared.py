"""A finding that a person made an end of on site: its alarm is cleared with the work order as the reason.

What the rules said before stays said: facts that are older than the clearing do not bring the alarm back, newer ones
do (the leak goes on, whatever the receipt says).
"""

from __future__ import annotations

from typing import Final

from sqlalchemy.engine import Connection

from registry import audit
from registry import findings_store as store
from registry.alarm_states import AlarmEvent, allowed
from registry.findings_words import Change
from registry.roles import Actor

WHY: Final = "work order {order}: found and repaired"


def clear_by_order(connection: Connection, actor: Actor, number: int, *, order_id: int, now_ms: int) -> Change | None:
    """Clear one finding that holds; None when there is none, or it is over or withdrawn already.

    An alarm that nobody had acknowledged is acknowledged by it: whoever repaired the thing knows of it.
    """
    case = store.by_id(connection, number)
    if case is None or not case.alarm.active or case.alarm.withdrawn:
        return None
    before = case.state
    note = WHY.format(order=order_id)
    for event in (AlarmEvent.ACKNOWLEDGE, AlarmEvent.CLEAR):
        if event in allowed(case.alarm):
            case.step(event, at=now_ms, who=actor.name, note=note)
    case.put({"cleared_at": now_ms, "updated_at": max(now_ms, case.values["updated_at"])})
    store.save(connection, [case])
    audit.append(
        connection,
        actor,
        "finding.clear",
        "finding",
        number,
        at=now_ms,
        before={"state": before.value},
        after={"state": case.state.value, "work_order": order_id},
        note=note,
    )
    return case.change("cleared", now_ms, note)
