"""Which parts of the city a pipeline works on, and the fence that keeps it from saving anything for others."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence

from sqlalchemy.engine import Connection

from ingest.checking import Counters
from metering.messages import PARTS, part_in
from metering.mqtt import Delivery
from registry import leases


class Holding:
    """Which parts of the city a pipeline works on: some for good by the settings, or (none of those) leased ones.

    ready: those whose deliveries it takes. tokens: leases of parts that are ready or being taken over.
    valid: False while our leases may have run out without our knowing. The sets are replaced, never changed: the
    registry's thread reads them too.
    """

    def __init__(self, parts: Iterable[int] = range(PARTS), *, valid: Callable[[], bool] = lambda: True) -> None:
        self.ready = frozenset(parts)
        self.tokens: dict[int, int] = {}
        self.valid = valid
        self._leased = not self.ready

    def ours(self, deliveries: Sequence[Delivery], counters: Counters) -> Sequence[Delivery]:
        """Return the deliveries to work on; others are only acknowledged to the broker, never to their gateway."""
        ready = self.ready if self.valid() else frozenset[int]()
        if len(ready) == PARTS:
            return deliveries
        mine = [one for one in deliveries if (part := part_in(one.topic)) is None or part in ready]
        counters["messages_total", 'result="not_ours"'] += len(deliveries) - len(mine)
        return mine

    def fence(self, connection: Connection, parts: Collection[int] | None = None) -> None:
        """Let a transaction go on only while the leases of `parts` (None: all) are ours. Raises: LeaseLostError."""
        if self._leased:
            tokens = self.tokens
            leases.check(connection, tokens if parts is None else {part: tokens.get(part, -1) for part in parts})

    def drop(self, parts: Collection[int]) -> None:
        """These are not ours any more."""
        self.ready = self.ready - set(parts)
        self.tokens = {part: token for part, token in self.tokens.items() if part not in parts}
