"""One viewer of the pages: what changed for him since he was last told, merged into one event."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from api.access.table import LOOK
from registry.roles import Actor


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
    latest: Mapping[str, int] = field(default_factory=dict)
    """Time of the newest reading [ms UTC] of meters that somebody watches."""
    at: float = 0.0
    """When it was told [s], by the clock's own time."""


@dataclass(eq=False, slots=True)
class Stream:
    """One viewer. meter, seen_at: the one meter that his page shows, and the time [ms UTC] of the reading there.

    language: of his page. number: the last change that he was told of. unsure: nobody looked while his page was made.
    """

    actor: Actor
    session_id: str = ""
    version: int = 0
    expires_at: int = 0
    meter: str = ""
    seen_at: int = 0
    language: str = "en"
    ended: bool = False
    unsure: bool = False
    number: int = 0
    waiting: asyncio.Event = field(default_factory=asyncio.Event)
    _topics: set[str] = field(default_factory=set)
    _urgent: bool = False
    _notes: dict[str, str] = field(default_factory=dict)

    def tell(self, change: Change) -> None:
        """Add a change to what is not yet taken."""
        looks = self.actor.has(*LOOK)
        topics = set(change.topics) if looks else set(change.topics) & {"orders"}
        for topic, districts in (("findings", change.districts), ("orders", change.order_districts)):
            if not any(map(self.actor.sees, districts)):
                topics.discard(topic)
        if looks and change.latest.get(self.meter, self.seen_at) != self.seen_at:
            self.seen_at = change.latest[self.meter]
            topics.add("meter")
        self._topics |= topics
        self._urgent |= looks and any(map(self.actor.sees, change.urgent))
        self.number = change.number
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
        """Return everything that waits as the bytes of events, and forget it.

        Each batch says how far it goes, also one without a change: whoever comes back was told as much.
        """
        self.waiting.clear()
        lines = [f"event: {event}\ndata: {data}\n\n" for event, data in self._notes.items()]
        if self._topics:
            said = json.dumps({"topics": sorted(self._topics), "urgent": self._urgent})
            lines.insert(0, f"event: change\ndata: {said}\n\n")
        self._notes, self._topics, self._urgent = {}, set(), False
        if lines and not self.unsure:
            lines.insert(0, f"id: {boot}-{self.number}\n")
        return "".join(lines).encode()
