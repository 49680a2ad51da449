"""Open pages hear that an order changed, within their areas; a worker hears of orders and of nothing else."""

from __future__ import annotations

from api.access.identify import Identity
from api.orders.notes import add_note
from registry.roles import Actor, Role
from tests.api.orders_world import BOSS
from tests.api.screens.test_live import EVERYWHERE, SOUTH, events, find, hub_of, run, settled, until
from tests.api.world import HOUR, T0, World

NOW = T0 + 24 * HOUR
WORKER = Identity(Actor("user:zhao", frozenset({Role.WORKER}), areas=None))


def note(world: World, *, late_ms: int = 0) -> None:
    """A line in the story of order 1, in the north; late_ms: its transaction waited so long for the lock."""
    with world.database.begin() as connection:
        add_note(connection, BOSS, 1, "a line", now_ms=NOW - late_ms)


def test_an_order_that_changes_is_told_to_those_who_may_see_it(world: World) -> None:
    with hub_of(world) as (hub, database, clock):

        async def scenario() -> None:
            everywhere, south, worker = hub.join(EVERYWHERE), hub.join(SOUTH), hub.join(WORKER)
            assert everywhere
            assert south
            assert worker
            await settled(hub, database, clock, everywhere, south, worker)
            note(world, late_ms=20_000)
            find(world)
            await until(clock, lambda: {"findings", "orders"} <= everywhere._topics)
            await until(clock, worker.waiting.is_set)
            assert ("change", {"topics": ["orders"], "urgent": False}) in events(worker)
            assert [event for event in events(south) if event[0] == "change"] == []
            seen = database.reads
            await until(clock, lambda: database.reads >= seen + 3)
            assert not worker.waiting.is_set(), "the same step was told twice"

        run(scenario())
