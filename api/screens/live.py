"""One fan-out of server-sent events: the registry is asked once for all who watch, however many they are.

An event says what changed, in words ("findings", "orders", "readings", "gateways"); a page that shows such a thing
fetches itself anew. What a viewer has not yet taken is merged into one event, so that a slow reader costs a set of
words and never a queue. Findings and orders of a district are told only to those who may see it; whoever may not look
at readings hears of orders alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import Counter, deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

import sqlalchemy as sa
import structlog
from sqlalchemy.engine import Connection
from sqlalchemy.exc import SQLAlchemyError

from api.access.identify import Identity
from api.access.table import LOOK
from api.problems import ProblemError
from api.queries.readiness import faults
from api.settings import ApiSettings
from api.workers import Workers
from metering.clock import Clock
from metering.errors import MetergateError
from registry.database import Database
from registry.findings_store import FINDING, HISTORY
from registry.models import GatewayStatus, PositionRecord
from registry.models_access import Session, User
from registry.models_work_orders import WorkOrder, WorkOrderStep
from registry.roles import Actor

_LOG: Final = structlog.get_logger("api")
POLL_S: Final = 0.5
BEAT_S: Final = 10.0
_OVERLAP: Final = 500
"""Lines of history that are looked at again: PostgreSQL may show a lower number after a higher one."""
_MOST_LINES: Final = 2000
_REMEMBERED: Final = 256
_STEPS_BACK_MS: Final = 60_000
"""Steps of orders carry the time at which their transaction began; it may have waited so long for the lock."""


@dataclass(frozen=True, slots=True)
class Change:
    """What changed at one look. districts: of findings; None stands for "everybody may know"."""

    number: int
    topics: frozenset[str]
    districts: frozenset[str] = frozenset()
    urgent: frozenset[str] = frozenset()
    """Districts with a new urgent alarm that nobody has confirmed."""
    order_districts: frozenset[str] = frozenset()
    """Of work orders that changed."""


@dataclass(eq=False, slots=True)
class Stream:
    """One viewer."""

    actor: Actor
    session_id: str = ""
    version: int = 0
    expires_at: int = 0
    ended: bool = False
    waiting: asyncio.Event = field(default_factory=asyncio.Event)
    _topics: set[str] = field(default_factory=set)
    _urgent: bool = False
    _number: int = 0
    _notes: dict[str, str] = field(default_factory=dict)

    def tell(self, change: Change) -> None:
        """Add a change to what is not yet taken."""
        looks = self.actor.has(*LOOK)
        topics = set(change.topics) if looks else set(change.topics) & {"orders"}
        for topic, districts in (("findings", change.districts), ("orders", change.order_districts)):
            if not any(map(self.actor.sees, districts)):
                topics.discard(topic)
        self._topics |= topics
        self._urgent |= looks and any(map(self.actor.sees, change.urgent))
        self._number = change.number
        if topics:
            self.waiting.set()

    def note(self, event: str, data: str) -> None:
        """Say something beside the changes; of each sort only the last counts."""
        self._notes[event] = data
        self.waiting.set()

    def end(self) -> None:
        """Let the viewer know that this login is over, or that we are."""
        self.ended = True
        self.note("bye", "{}")

    def take(self, boot: str) -> bytes:
        """Return everything that waits as the bytes of events, and forget it."""
        self.waiting.clear()
        lines = [f"event: {event}\ndata: {data}\n\n" for event, data in self._notes.items()]
        if self._topics:
            said = json.dumps({"topics": sorted(self._topics), "urgent": self._urgent})
            lines.insert(0, f"id: {boot}-{self._number}\nevent: change\ndata: {said}\n\n")
        self._notes, self._topics, self._urgent = {}, set(), False
        return "".join(lines).encode()


@dataclass(frozen=True, slots=True)
class _Seen:
    """What one look at the registry found. uplink, gateways: change when something changed there."""

    lines: tuple[tuple[int, str, str, str], ...]
    orders: frozenset[str]
    uplink: tuple[int, ...]
    gateways: tuple[int, int]
    stale: tuple[str, ...]


class Hub:
    """Looks at the registry while somebody watches, and tells every viewer. Used from the event loop only."""

    def __init__(self, database: Database, *, clock: Clock, workers: Workers, limits: ApiSettings) -> None:
        self._database, self._clock, self._workers, self._limits = database, clock, workers, limits
        self._boot = f"{clock.now_ms():x}"
        self._streams: dict[Stream, None] = {}
        self._task: asyncio.Task[None] | None = None
        self._seen: _Seen | None = None
        self._top = -1
        self._lines: set[int] = set()
        self._steps: set[tuple[int, int]] = set()
        self._number = 0
        self._past: deque[Change] = deque(maxlen=_REMEMBERED)

    @property
    def viewers(self) -> int:
        """How many watch now."""
        return len(self._streams)

    @property
    def boot(self) -> str:
        """What the ids of our events begin with."""
        return self._boot

    def join(self, identity: Identity, last_event_id: str = "") -> Stream | None:
        """Return a new viewer's stream, what it missed already in it; None when there is no room."""
        if len(self._streams) >= self._limits.max_event_streams and not self._make_room(identity.actor):
            return None
        facts = identity.session
        stream = (
            Stream(identity.actor, facts.id, facts.version, facts.expires_at) if facts else Stream(identity.actor)
        )
        self._streams[stream] = None
        stream.note("hello", self._state())
        self._catch_up(stream, last_event_id)
        if self._task is None or self._task.done() or self._task.get_loop() is not asyncio.get_running_loop():
            self._task = asyncio.create_task(self._run())
        return stream

    def leave(self, stream: Stream) -> None:
        """Forget a viewer; harmless twice."""
        self._streams.pop(stream, None)

    def close(self) -> None:
        """End every stream."""
        for stream in list(self._streams):
            stream.end()

    def _make_room(self, actor: Actor) -> bool:
        """End the oldest stream of whoever has many more than the newcomer, so that nobody takes all places."""
        held = Counter(stream.actor.name for stream in self._streams)
        name, most = held.most_common(1)[0]
        if most <= held[actor.name] + 1:
            return False
        oldest = next(stream for stream in self._streams if stream.actor.name == name)
        oldest.end()
        self.leave(oldest)
        return True

    def _catch_up(self, stream: Stream, last_event_id: str) -> None:
        boot, _, number = last_event_id.partition("-")
        if not last_event_id:
            return
        known = boot == self._boot and number.isascii() and number.isdigit() and len(number) < 16
        oldest = self._past[0].number if self._past else self._number + 1
        if not known or not oldest - 1 <= int(number) <= self._number:
            stream.note("resync", "{}")
            return
        for change in self._past:
            if change.number > int(number):
                stream.tell(change)

    # -- looking ---------------------------------------------------------------------------------------------------

    async def _run(self) -> None:
        """Look until nobody watches any more; then the past is forgotten, since nobody looked."""
        self._seen, beat_at = None, self._clock.monotonic() + BEAT_S
        while self._streams:
            await self._look_once()
            if self._clock.monotonic() >= beat_at:
                beat_at = self._clock.monotonic() + BEAT_S
                await self._beat()
            await self._clock.sleep(POLL_S)
        self._past.clear()
        self._number += 1  # an id from before the pause is too old to be caught up with

    async def _look_once(self) -> None:
        try:
            seen = await self._workers.run(self._look)
        except (SQLAlchemyError, MetergateError, ProblemError) as error:
            seen = None
            self._say_stale((f"registry: {getattr(error, 'orig', None) or error}",))
        if seen is None:
            return
        before, self._seen = self._seen, seen
        if before is None or before.stale != seen.stale:
            self._say_stale(seen.stale)
        if before is not None:
            self._tell(_change(self._number + 1, before, seen))

    def _tell(self, change: Change) -> None:
        if not change.topics:
            return
        self._number = change.number
        self._past.append(change)
        for stream in list(self._streams):
            stream.tell(change)

    def _look(self) -> _Seen:
        with self._database.read() as connection:
            return _Seen(
                self._new_lines(connection),
                self._changed_orders(connection),
                tuple(connection.execute(_UPLINK).one()),
                tuple(connection.execute(_GATEWAYS).one()),
                tuple(
                    f"{check.name}: {check.reason}"
                    for check in faults(connection, self._clock.now_ms(), self._limits.ingest_stale_s)
                ),
            )

    def _new_lines(self, connection: Connection) -> tuple[tuple[int, str, str, str], ...]:
        """Return (id, district, state, priority) of lines of history that were not seen before."""
        if self._seen is None:
            self._top = int(connection.execute(sa.select(sa.func.max(HISTORY.c.id))).scalar() or 0)
            floor = self._top - _OVERLAP
            self._lines = set(connection.execute(sa.select(HISTORY.c.id).where(HISTORY.c.id > floor)).scalars())
            return ()
        rows = connection.execute(_LINES, {"floor": self._top - _OVERLAP}).all()
        new = tuple((row.id, row.district, row.to_state, row.priority) for row in rows if row.id not in self._lines)
        self._top = max([self._top, *(row.id for row in rows)])
        self._lines = {row.id for row in rows if row.id > self._top - _OVERLAP}
        return new

    def _changed_orders(self, connection: Connection) -> frozenset[str]:
        """Return the districts of orders with steps that were not seen before."""
        since = self._clock.now_ms() - _STEPS_BACK_MS
        rows = connection.execute(_STEPS, {"since": since}).all()
        new = frozenset(row.district for row in rows if (row.order_id, row.number) not in self._steps)
        self._steps = {(row.order_id, row.number) for row in rows}
        return new if self._seen is not None else frozenset()

    # -- the beat --------------------------------------------------------------------------------------------------

    def _say_stale(self, stale: tuple[str, ...]) -> None:
        if self._seen is not None:
            self._seen = replace(self._seen, stale=stale)
        state = json.dumps({"at": self._clock.now_ms(), "stale": stale})
        for stream in list(self._streams):
            stream.note("beat", state)

    def _state(self) -> str:
        return json.dumps({"at": self._clock.now_ms(), "stale": self._seen.stale if self._seen else ()})

    async def _beat(self) -> None:
        """Say that the link lives, and end the streams of logins that are over."""
        with contextlib.suppress(SQLAlchemyError, MetergateError, ProblemError):
            good = await self._workers.run(self._good_sessions)
            now = self._clock.now_ms()
            for stream in [stream for stream in self._streams if stream.session_id]:
                until, version = good.get(stream.session_id, (0, -1))
                if until <= now or version != stream.version:
                    stream.end()
        state = self._state()
        for stream in list(self._streams):
            stream.note("beat", state)

    def _good_sessions(self) -> Mapping[str, tuple[int, int]]:
        """Return (expires_at, version of the user) of the sessions that are watched."""
        ids = sorted({stream.session_id for stream in list(self._streams) if stream.session_id})
        found: dict[str, tuple[int, int]] = {}
        with self._database.read() as connection:
            for start in range(0, len(ids), 500):
                rows = connection.execute(_SESSIONS.where(Session.id.in_(ids[start : start + 500])))
                found.update({row.id: (row.expires_at, row.version) for row in rows})
        return found


_LINES: Final = (
    sa.select(HISTORY.c.id, HISTORY.c.to_state, FINDING.c.district, FINDING.c.priority)
    .join(FINDING, FINDING.c.id == HISTORY.c.finding_id)
    .where(HISTORY.c.id > sa.bindparam("floor"))
    .order_by(HISTORY.c.id)
    .limit(_MOST_LINES)
)
_STEPS: Final = (
    sa.select(WorkOrderStep.order_id, WorkOrderStep.number, WorkOrder.district)
    .join(WorkOrder, WorkOrder.id == WorkOrderStep.order_id)
    .where(WorkOrderStep.at >= sa.bindparam("since"))
    .order_by(WorkOrderStep.at.desc(), WorkOrderStep.order_id.desc())
    .limit(_MOST_LINES)
)
_UPLINK: Final = sa.select(
    sa.func.coalesce(sa.func.sum(PositionRecord.stored), 0),
    sa.func.coalesce(sa.func.sum(PositionRecord.quarantined), 0),
    sa.func.coalesce(sa.func.max(PositionRecord.last_up_at), 0),
)
_GATEWAYS: Final = sa.select(
    sa.func.count(),
    sa.func.coalesce(sa.func.sum(sa.case((GatewayStatus.online, 1), else_=0)), 0),
)
_SESSIONS: Final = (
    sa.select(Session.id, Session.expires_at, User.version).join(User, User.id == Session.user_id).where(User.enabled)
)


def _change(number: int, before: _Seen, seen: _Seen) -> Change:
    topics = {
        name
        for name, changed in (
            ("findings", bool(seen.lines)),
            ("orders", bool(seen.orders)),
            ("readings", before.uplink != seen.uplink),
            ("gateways", before.gateways != seen.gateways),
        )
        if changed
    }
    urgent = _districts(line for line in seen.lines if line[2:] == ("UNACK", "urgent"))
    return Change(number, frozenset(topics), _districts(seen.lines), urgent, seen.orders)


def _districts(lines: Iterable[tuple[int, str, str, str]]) -> frozenset[str]:
    return frozenset(line[1] for line in lines)
