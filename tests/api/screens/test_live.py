"""The fan-out: one look for all, nothing queued, nobody told of what is not his, ended logins end their streams."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from api.access.identify import Identity
from api.screens.live import BEAT_S, Hub
from api.screens.live_stream import Stream
from api.settings import ApiSettings
from api.workers import Workers
from metering.clock import ManualClock
from registry import findings, ledger, sessions, users
from registry.database import Database
from registry.roles import Actor, Role
from registry.settings import AccessSettings
from tests.api import findings_world
from tests.api.world import T0, World, make_user

EVERYWHERE = Identity(Actor("key:all", frozenset({Role.OPERATOR}), areas=None))
SOUTH = Identity(Actor("key:south", frozenset({Role.OPERATOR}), areas=frozenset({"south"})))


class Looked(Database):
    """Counts how often it is read."""

    reads = 0

    def read(self) -> Any:
        self.reads += 1
        return super().read()


@contextmanager
def hub_of(world: World, **settings: Any) -> Iterator[tuple[Hub, Looked, ManualClock]]:
    clock = ManualClock(T0 + 86_400_000)
    database = Looked(f"sqlite:///{world.folder / 'registry.db'}")
    workers = Workers(threads=1, timeout_s=1e6, clock=clock)
    try:
        yield Hub(database, clock=clock, workers=workers, limits=ApiSettings(**settings)), database, clock
    finally:
        workers.close()
        database.close()


async def until(clock: ManualClock, holds: Callable[[], bool], step_s: float = 0.25) -> None:
    """Let time pass until it is so."""
    for _ in range(4000):
        if holds():
            return
        await clock.advance(step_s)
        await asyncio.sleep(0.005)  # the thread that looks works in real time
    raise AssertionError("it never came")


def run(scenario: Awaitable[None]) -> None:
    async def bounded() -> None:
        await asyncio.wait_for(scenario, 60)

    asyncio.run(bounded())


def events(stream: Stream) -> list[tuple[str, Any]]:
    found = []
    for block in stream.take("boot").decode().split("\n\n"):
        lines = dict(line.split(": ", 1) for line in block.splitlines())
        if lines:
            found.append((lines["event"], json.loads(lines["data"])))
    return found


def find(world: World, district: str = "north", key: str = "new:1") -> None:
    now = T0 + 86_400_000
    with world.database.begin() as connection:
        findings.record(connection, [replace(findings_world.leak(now), key=key, district=district)], now_ms=now)


async def settled(hub: Hub, database: Looked, clock: ManualClock, *streams: Stream) -> None:
    """Wait until the hub has looked twice, and forget what was said."""
    seen = database.reads
    await until(clock, lambda: database.reads >= seen + 2)
    for stream in streams:
        events(stream)


def test_a_finding_is_told_to_those_who_may_see_it(world: World) -> None:
    with hub_of(world) as (hub, database, clock):

        async def scenario() -> None:
            everywhere, south = hub.join(EVERYWHERE), hub.join(SOUTH)
            assert everywhere
            assert south
            await settled(hub, database, clock, everywhere, south)
            find(world)
            await until(clock, everywhere.waiting.is_set)
            assert ("change", {"topics": ["findings"], "urgent": True}) in events(everywhere)
            assert [event for event in events(south) if event[0] == "change"] == []

        run(scenario())


def test_two_hundred_viewers_cost_one_look(world: World) -> None:
    with hub_of(world) as (hub, database, clock):

        async def scenario() -> None:
            streams = [hub.join(EVERYWHERE) for _ in range(200)]
            await settled(hub, database, clock)
            before = database.reads
            find(world)
            await until(clock, lambda: all(stream and stream._topics for stream in streams))
            assert database.reads - before < 20
            for stream in streams:
                assert stream
                hub.leave(stream)
            await until(clock, lambda: hub._task is None or hub._task.done())
            at_rest = database.reads
            await clock.advance(60)
            await asyncio.sleep(0.05)
            assert database.reads == at_rest, "nobody watches and the registry is asked"

        run(scenario())


def test_what_a_slow_reader_has_not_taken_is_one_event(world: World) -> None:
    with hub_of(world) as (hub, database, clock):

        async def scenario() -> None:
            stream = hub.join(EVERYWHERE)
            assert stream
            await settled(hub, database, clock, stream)
            for number in range(5):
                find(world, key=f"n:{number}")
                with world.database.begin() as connection:
                    status = ledger.StatusRow(f"gw-{number}", online=True, state_at=T0)
                    ledger.save_gateway_status(connection, [status])
                before = database.reads
                await until(clock, lambda before=before: database.reads > before + 1)  # type: ignore[misc]
            changes = [data for event, data in events(stream) if event == "change"]
            assert changes == [{"topics": ["findings", "gateways"], "urgent": True}]

        run(scenario())


def test_an_ended_login_ends_its_stream(world: World) -> None:
    make_user(world.database, "wang", Role.OPERATOR)
    with world.database.begin() as connection:
        user = users.need(connection, "wang")
        token = sessions.open_session(connection, user.id, "", T0 + 86_400_000, AccessSettings())[0]
        facts = sessions.find(connection, token, T0 + 86_400_000)
    assert facts
    with hub_of(world) as (hub, _, clock):

        async def scenario() -> None:
            stream = hub.join(Identity(facts.actor, facts))
            assert stream
            await until(clock, lambda: not clock.now_ms() < T0 + 86_400_000 + 2 * BEAT_S * 1000)
            assert not stream.ended
            with world.database.begin() as connection:
                sessions.close(connection, facts.id)
            await until(clock, lambda: stream.ended)
            assert "bye" in dict(events(stream))

        run(scenario())


def test_whoever_comes_back_gets_what_was_missed_or_is_told_to_look_anew(world: World) -> None:
    with hub_of(world) as (hub, database, clock):

        async def scenario() -> None:
            stays, leaves = hub.join(EVERYWHERE), hub.join(EVERYWHERE)
            assert stays
            assert leaves
            await settled(hub, database, clock, stays, leaves)
            hub.leave(leaves)
            find(world)
            await until(clock, lambda: bool(stays._topics))
            back = hub.join(EVERYWHERE, f"{hub.boot}-0")
            assert back
            assert "findings" in dict(events(back))["change"]["topics"]
            for unknown in ("other-1", f"{hub.boot}-99", f"{hub.boot}-x", "-", "\u0661"):
                lost = hub.join(EVERYWHERE, unknown)
                assert lost
                assert "resync" in dict(events(lost)), unknown

        run(scenario())


def test_whoever_comes_before_the_first_look_looks_anew_after_it(world: World) -> None:
    """What was committed between his page and that look would else be told to nobody."""
    with hub_of(world) as (hub, database, clock):

        async def scenario() -> None:
            assert hub.place == ""
            stream = hub.join(EVERYWHERE)
            assert stream
            assert stream.take("boot").startswith(b"event: hello")  # no id: this is no place to come back to
            await until(clock, lambda: "resync" in stream._notes)
            assert database.reads

        run(scenario())


def test_a_page_is_told_what_came_after_it_was_read_and_nothing_else(world: World) -> None:
    with hub_of(world) as (hub, database, clock):

        async def scenario() -> None:
            stays = hub.join(EVERYWHERE)
            assert stays
            await settled(hub, database, clock, stays)
            await until(clock, lambda: hub.place == f"{hub.boot}-0")
            place = hub.place
            find(world)
            await until(clock, lambda: bool(stays._topics))
            assert hub.place == place, "answers that pages share are up to a second old"
            for missed, seen in ((place, True), ("", False)):
                late = hub.join(EVERYWHERE, missed)
                assert late
                assert ("change" in dict(events(late))) is seen
            await until(clock, lambda: hub.place != place)
            fresh = hub.join(EVERYWHERE, hub.place)
            assert fresh
            assert [event for event, _ in events(fresh)] == ["hello"]

        run(scenario())


def test_whoever_heard_nothing_but_the_greeting_can_come_back_to_it(world: World) -> None:
    with hub_of(world) as (hub, database, clock):

        async def scenario() -> None:
            stays = hub.join(EVERYWHERE)
            assert stays
            await settled(hub, database, clock, stays)
            leaves = hub.join(EVERYWHERE, hub.place)
            assert leaves
            last = leaves.take(hub.boot).decode().splitlines()[0]
            hub.leave(leaves)
            find(world)
            await until(clock, lambda: bool(stays._topics))
            back = hub.join(EVERYWHERE, last.removeprefix("id: "))
            assert back
            assert "findings" in dict(events(back))["change"]["topics"]

        run(scenario())


def test_a_page_that_is_watched_is_use_of_its_login(world: World) -> None:
    """The list of alarms stays before the operator in a night without any."""
    make_user(world.database, "wang", Role.OPERATOR)
    limits, begin = AccessSettings(session_idle_min=10), T0 + 86_400_000
    with world.database.begin() as connection:
        user = users.need(connection, "wang")
        token = sessions.open_session(connection, user.id, "", begin, limits)[0]
        facts = sessions.find(connection, token, begin)
    assert facts
    with hub_of(world) as (hub, database, clock):
        hub._access = limits

        async def scenario() -> None:
            stream = hub.join(Identity(facts.actor, facts))
            assert stream
            await settled(hub, database, clock, stream)
            while clock.now_ms() < begin + 15 * 60_000:
                beat = database.reads + 3  # the look, whose use is to be noted, whose login is over
                await clock.advance(BEAT_S)
                while database.reads < beat:
                    await asyncio.sleep(0.02)  # the threads work in real time
                    await clock.advance(0.25)
            assert not stream.ended

        run(scenario())


def test_who_holds_most_makes_room_and_else_there_is_none(world: World) -> None:
    with hub_of(world, max_event_streams=4) as (hub, _, _clock):

        async def scenario() -> None:
            mine = [hub.join(EVERYWHERE) for _ in range(4)]
            assert hub.join(EVERYWHERE) is None
            assert hub.join(SOUTH) is not None
            assert mine[0]
            assert mine[0].ended
            assert hub.viewers == 4

        run(scenario())


def test_a_registry_that_is_away_is_told_as_stale_and_over_when_it_is_back(world: World) -> None:
    with hub_of(world) as (hub, database, clock):

        async def scenario() -> None:
            stream = hub.join(EVERYWHERE)
            assert stream
            await settled(hub, database, clock, stream)
            chinese = hub.join(EVERYWHERE, language="zh")
            assert chinese
            with world.database.begin() as connection:
                connection.exec_driver_sql("ALTER TABLE position RENAME TO away")
            await until(clock, lambda: "beat" in stream._notes and "no such table" in stream._notes["beat"])
            (said,) = json.loads(chinese._notes["beat"])["stale"]
            assert said.startswith("台账库：")
            with world.database.begin() as connection:
                connection.exec_driver_sql("ALTER TABLE away RENAME TO position")
            await until(clock, lambda: "no such table" not in stream._notes.get("beat", "no such table"))

        run(scenario())


def test_only_those_who_ask_for_a_stream_get_one(world: World) -> None:
    assert world.get("/events").status_code == 406


def test_a_page_of_one_meter_is_told_of_that_meter_alone(world: World) -> None:
    async def scenario() -> None:
        with hub_of(world) as (hub, _, clock):
            one = hub.join(EVERYWHERE, meter="G-0001", seen_at=T0)
            other = hub.join(EVERYWHERE, meter="W-0001", seen_at=_read_at(world, "W-0001"))
            assert one is not None
            assert other is not None
            await until(clock, lambda: told(one, "meter"))  # its page shows an older reading than there is
            row = replace(_latest(world, "G-0001"), read_at=T0 + 86_400_000)
            with world.database.begin() as connection:
                ledger.save_latest(connection, [row])
            await until(clock, lambda: told(one, "meter"))
            assert not told(other, "meter")

    run(scenario())


def told(stream: Stream, topic: str) -> bool:
    return any(topic in data.get("topics", ()) for event, data in events(stream) if event == "change")


def _latest(world: World, meter: str) -> ledger.LatestRow:
    with world.database.read() as connection:
        return ledger.load_latest(connection)[meter]


def _read_at(world: World, meter: str) -> int:
    return _latest(world, meter).read_at


def test_where_many_watch_each_page_renews_less_often(world: World) -> None:
    async def scenario() -> None:
        with hub_of(world) as (hub, _, clock):
            streams = [hub.join(EVERYWHERE) for _ in range(200)]
            hub.leave(streams.pop())  # type: ignore[arg-type]  # there was room
            last = hub.join(EVERYWHERE)
            assert last is not None
            assert events(last)[0][1]["pace"] == 4000  # 200 pages at 20 ms each
            await clock.advance(0)

    run(scenario())
