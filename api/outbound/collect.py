"""Events from where they happened into the outbox, each exactly once.

The place that was reached is kept with the events, in one transaction. Two writers of PostgreSQL may commit their
numbers in another order than they drew them: so the place stays a minute behind (ten for steps of orders, which go by
time), what was seen above it is remembered, and an event's source is unique in the table.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Sequence
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from api.outbound import notify, outbox
from api.outbound.events import Event, finding_events, lines_behind, order_events, steps_since, wanted
from api.outbound.outbox import Put
from api.outbound.templates import of_event
from api.outbound.texts import Told
from metering.clock import rfc3339
from registry.findings_store import HISTORY, chunks
from registry.ledger import get_state, set_state
from registry.models_outbound import OutboundEvent, Webhook

PLACE: Final = "outbound.place"
MOST: Final = 2000
_LATE_MS: Final = 60_000
_LATE_STEPS_MS: Final = 600_000


class Collector:
    """Follows the sources; one per sending process."""

    def __init__(self) -> None:
        self._seen_lines: set[int] = set()
        self._heights: deque[tuple[int, int]] = deque()  # (seen at [ms], highest number then), oldest first
        self._seen_steps: dict[tuple[int, int], int] = {}

    def look(self, connection: Connection, now_ms: int) -> int:
        """Take what is new, in the caller's transaction; return how much was looked at (more waits when it is MOST).

        After a transaction that failed the collector must be made anew: it remembers what was not kept.
        """
        text = get_state(connection, PLACE)
        if text is None:  # the very first look: what was before concerns nobody
            place = {"line": _last_line(connection), "step_at": now_ms}
        else:
            place = json.loads(text)
        lines = lines_behind(connection, place["line"], self._seen_lines, MOST)
        steps = steps_since(connection, place["step_at"], self._seen_steps, MOST)
        events = finding_events(connection, lines) if lines else []
        if steps:
            events += order_events(connection, [(order, number) for _, order, number in steps])
        keep(connection, events, now_ms=now_ms)
        self._remember(place, lines, steps, now_ms)
        said = json.dumps(place)
        if said != text:
            set_state(connection, PLACE, said)
        return max(len(lines), len(steps))

    def _remember(
        self, place: dict[str, int], lines: Sequence[Any], steps: Sequence[tuple[int, int, int]], now_ms: int
    ) -> None:
        self._seen_lines.update(line["id"] for line in lines)
        if lines and (not self._heights or lines[-1]["id"] > self._heights[-1][1]):
            self._heights.append((now_ms, lines[-1]["id"]))
        while self._heights and self._heights[0][0] <= now_ms - _LATE_MS:
            place["line"] = self._heights.popleft()[1]
            self._seen_lines = {number for number in self._seen_lines if number > place["line"]}
        self._seen_steps.update({(order, number): at for at, order, number in steps})
        if len(steps) < MOST and place["step_at"] < now_ms - 2 * _LATE_STEPS_MS:
            place["step_at"] = now_ms - _LATE_STEPS_MS
            self._seen_steps = {key: at for key, at in self._seen_steps.items() if at >= place["step_at"]}


def _last_line(connection: Connection) -> int:
    return int(connection.execute(sa.select(sa.func.max(HISTORY.c.id))).scalar() or 0)


def keep(connection: Connection, events: Sequence[Event], *, now_ms: int) -> list[Any]:
    """Keep events that are not there yet, with the deliveries and notifications that follow; return their rows."""
    unique = {event.source: event for event in events}
    known: set[str] = set()
    for part in chunks(list(unique)):
        known.update(
            connection.execute(sa.select(OutboundEvent.source).where(OutboundEvent.source.in_(part))).scalars()
        )
    fresh = [event for source, event in unique.items() if source not in known]
    if not fresh:
        return []
    connection.execute(
        sa.insert(OutboundEvent), [{name: getattr(event, name) for name in Event.__slots__} for event in fresh]
    )
    rows: list[Any] = []
    for part in chunks([event.source for event in fresh]):
        rows += connection.execute(sa.select(OutboundEvent).where(OutboundEvent.source.in_(part))).all()
    rows.sort(key=lambda row: row.id)
    _to_webhooks(connection, rows, now_ms)
    notify.plan(connection, rows, now_ms=now_ms)
    return rows


def _to_webhooks(connection: Connection, rows: Sequence[Any], now_ms: int) -> None:
    webhooks = connection.execute(sa.select(Webhook).where(Webhook.enabled.is_(True)).order_by(Webhook.id)).all()
    items = [
        Put(
            f"{webhook.id}:{webhook.created_at}:{row.source}",
            "webhook",
            webhook.id,
            "",
            row.kind,
            row.district,
            "",
            of_event(webhook.template, told(row)),
        )
        for row in rows
        for webhook in webhooks
        if wanted(row.kind, webhook.kinds) and (not webhook.districts or row.district in webhook.districts)
    ]
    outbox.put(connection, items, now_ms=now_ms)


def told(row: Any) -> Told:
    """Return an event's row as texts need it."""
    return Told(
        row.kind, rfc3339(row.at), row.district, row.priority, row.subject, row.object_kind, row.object_id, row.data
    )
