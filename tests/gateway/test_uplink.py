"""The uplink against a real Mosquitto: rows leave the outbox when ingest says so, and for no other reason."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from gateway.outbox import Outbox
from gateway.send_ledger import SendLedger
from gateway.uplink import Uplink, build_up
from metering.clock import SystemClock
from metering.messages import (
    VERSION,
    Ack,
    Health,
    Refused,
    Up,
    decode_state,
    decode_up,
    encode,
    payload_digest,
    topic,
)
from metering.mqtt import BrokerSettings, MqttSession
from metering.reading import Event, Reading, Row
from tests.brokers import BrokerProcess, mosquitto, running

CLOCK = SystemClock()


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[BrokerProcess]:
    with running(mosquitto(tmp_path / "broker")) as process:
        yield process


def _rows(start: int, count: int) -> list[Row]:
    return [Reading(f"m-{n}", 1_772_323_200_000 + n, {"volume": n}) for n in range(start, start + count)]


class _Ingest:
    """Takes `up` messages and answers when the test lets it."""

    def __init__(self, port: int) -> None:
        self.answers = True
        self.ups: list[Up] = []
        self.payloads: list[bytes] = []
        self.states: list[bool] = []
        self.have: dict[str, set[int]] = {}
        topics = [("mg/v1/+/+/up", 1), ("mg/v1/+/+/state", 1)]
        self.session = MqttSession(BrokerSettings(port=port), client_id="ingest", clock=CLOCK, subscriptions=topics)

    async def run(self) -> None:
        session = asyncio.ensure_future(self.session.run())
        try:
            while True:
                for delivery in await self.session.receive(100):
                    if delivery.topic.endswith("/state"):
                        self.states.append(decode_state(delivery.payload).online)
                    else:
                        self._take(delivery.payload)
                    delivery.ack()
        finally:
            session.cancel()
            await asyncio.gather(session, return_exceptions=True)

    def _take(self, payload: bytes) -> None:
        up = decode_up(payload)
        self.ups.append(up)
        self.payloads.append(payload)
        self.have.setdefault(up.epoch, set()).update(range(up.seq, up.seq + len(up.rows)))
        if self.answers and up.rows:
            self.say(Ack(VERSION, up.epoch, max(self.have[up.epoch])))

    def say(self, ack: Ack, *, retain: bool = False) -> None:
        self.session.send(topic("gw", "ack"), encode(ack), retain=retain)


@asynccontextmanager
async def _house(
    folder: Path, port: int, *, ack_timeout_s: float = 30.0
) -> AsyncIterator[tuple[Outbox, Uplink, _Ingest, list[Event]]]:
    outbox = Outbox(
        folder / "outbox.db", gateway="gw", clock=CLOCK, rng=random.Random(time.time_ns()), commit_interval_s=0.0
    )
    await outbox.open()
    events: list[Event] = []
    uplink = Uplink(
        outbox, SendLedger(random.Random(1), ack_timeout_s=ack_timeout_s, gather_s=0.01), BrokerSettings(port=port),
        clock=CLOCK, version="test", health_interval_s=0.2, on_event=events.append,
        health=lambda: Health(1, "gw", outbox.epoch, 0, 0, 0, 0, 0, None, "ok", "", 0, 0, {}),
    )  # fmt: skip
    ingest = _Ingest(port)
    jobs = [asyncio.ensure_future(ingest.run()), asyncio.ensure_future(uplink.run())]
    try:
        await until(lambda: uplink.session.connected and ingest.session.connected)
        yield outbox, uplink, ingest, events
    finally:
        for job in reversed(jobs):
            job.cancel()
            await asyncio.gather(job, return_exceptions=True)
        await outbox.close()


async def until(condition: Callable[[], bool], deadline_s: float = 90.0) -> None:
    end = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < end, "did not happen in time"
        await asyncio.sleep(0.01)


def test_a_message_built_by_hand_is_byte_for_byte_what_the_schema_encodes() -> None:
    rows = [*_rows(0, 3), Event(kind="read_failed", at=5, meter='a"b\n', cause="timeout", text="ü")]
    raw = b",".join(msgspec.json.encode(row) for row in rows)
    up = Up(VERSION, "gw", "0123456789abcdef", 7, 3, 10, 1_772_323_200_000, rows)
    assert build_up("gw", up.epoch, 7, 3, 10, up.sent_at, raw) == encode(up)
    with_gone = Up(VERSION, "gw", up.epoch, 11, 3, 10, up.sent_at, [], [(1, 2), (5, 5)])
    assert build_up("gw", up.epoch, 11, 3, 10, up.sent_at, b"", [(1, 2), (5, 5)]) == encode(with_gone)


def test_rows_arrive_in_order_and_leave_the_outbox_only_when_acknowledged(
    tmp_path: Path, broker: BrokerProcess
) -> None:
    async def scenario() -> None:
        async with _house(tmp_path, broker.port) as (outbox, uplink, ingest, _):
            ingest.answers = False
            await outbox.append(_rows(0, 1200))
            await until(lambda: len(ingest.have.get(outbox.epoch, ())) == 1200)
            await until(lambda: uplink.session.counters["sent"] >= len(ingest.ups))
            assert outbox.held.count == 1200, "every message has its PUBACK, and nothing has left"
            assert all(len(up.rows) <= 500 for up in ingest.ups)
            assert all(len(payload) <= 64 * 1024 for payload in ingest.payloads)
            assert [row for up in ingest.ups for row in up.rows] == _rows(0, 1200)
            assert {up.oldest for up in ingest.ups} == {1}
            ingest.say(Ack(VERSION, outbox.epoch, 1200, [(301, 310)]))
            await until(lambda: outbox.held.count == 10)
            assert list(outbox.held) == [(301, 310)]

    asyncio.run(scenario())


def test_nothing_is_lost_when_the_broker_is_killed_and_comes_back(tmp_path: Path, broker: BrokerProcess) -> None:
    """Whoever is back first: what the gateway says before ingest listens again is not answered, and comes again."""

    async def scenario() -> None:
        async with _house(tmp_path, broker.port, ack_timeout_s=1.0) as (outbox, uplink, ingest, _):
            await outbox.append(_rows(0, 100))
            await until(lambda: outbox.held.count == 0)
            await asyncio.to_thread(broker.kill)
            await until(lambda: not uplink.session.connected)
            await outbox.append(_rows(100, 300))
            assert outbox.held.count == 300
            await asyncio.to_thread(broker.start)
            await until(lambda: outbox.held.count == 0)
            assert ingest.have[outbox.epoch] == set(range(1, 401))

    asyncio.run(scenario())


def test_an_ingest_that_says_nothing_gets_the_rows_again(tmp_path: Path, broker: BrokerProcess) -> None:
    async def scenario() -> None:
        async with _house(tmp_path, broker.port, ack_timeout_s=0.3) as (outbox, uplink, ingest, _):
            ingest.answers = False
            await outbox.append(_rows(0, 10))
            await until(lambda: len(ingest.ups) >= 2)
            assert ingest.ups[0].rows == ingest.ups[1].rows
            ingest.answers = True
            await until(lambda: outbox.held.count == 0)
            assert uplink.ledger.counters["ack_timeouts"] >= 1

    asyncio.run(scenario())


def test_a_message_refused_by_ingest_comes_again_row_by_row(tmp_path: Path, broker: BrokerProcess) -> None:
    async def scenario() -> None:
        async with _house(tmp_path, broker.port) as (outbox, _, ingest, _events):
            ingest.answers = False
            await outbox.append(_rows(0, 3))
            await until(lambda: len(ingest.ups) == 1)
            ingest.say(Ack(VERSION, "", 0, [], Refused(payload_digest(ingest.payloads[0]), "broken")))
            await until(lambda: len(ingest.ups) == 4)
            assert [len(up.rows) for up in ingest.ups] == [3, 1, 1, 1]
            ingest.say(Ack(VERSION, "", 0, [], Refused(payload_digest(ingest.payloads[2]), "broken")))
            await until(lambda: outbox.held.count == 2)
            assert list(outbox.held) == [(1, 1), (3, 3)]

    asyncio.run(scenario())


def test_a_retained_acknowledgement_and_garbage_are_ignored(tmp_path: Path, broker: BrokerProcess) -> None:
    async def scenario() -> None:
        async with _house(tmp_path, broker.port) as (outbox, _, ingest, _events):
            epoch = outbox.epoch
            ingest.say(Ack(VERSION, epoch, 5), retain=True)
            await until(lambda: outbox.epoch != epoch)  # heard live it is ahead of us: see the restored disk
        async with _house(tmp_path, broker.port) as (outbox, uplink, ingest, _events):
            ingest.answers = False
            await outbox.append(_rows(0, 5))
            await until(lambda: uplink.counters["retained_acks"] == 1)
            ingest.session.send(topic("gw", "ack"), b"{broken")
            await until(lambda: uplink.counters["bad_acks"] == 1)
            assert outbox.held.count == 5

    asyncio.run(scenario())


def test_an_acknowledgement_ahead_of_us_renames_the_numbering_and_rows_keep_going(
    tmp_path: Path, broker: BrokerProcess
) -> None:
    async def scenario() -> None:
        async with _house(tmp_path, broker.port) as (outbox, _, ingest, events):
            ingest.answers = False
            await outbox.append(_rows(0, 5))
            epoch = outbox.epoch
            await until(lambda: len(ingest.ups) == 1)
            ingest.say(Ack(VERSION, epoch, 1_000_000))
            await until(lambda: len(ingest.ups) == 2)
            assert outbox.epoch != epoch
            assert ingest.ups[1].epoch == outbox.epoch
            assert ingest.ups[1].rows == _rows(0, 5)
            ingest.say(Ack(VERSION, epoch, 5))
            ingest.say(Ack(VERSION, "ffffffffffffffff", 5))
            await until(lambda: len(events) == 1)
            assert events[0].kind == "security", "an epoch that was never ours; our own old one is no news"
            assert outbox.held.count == 5
            ingest.say(Ack(VERSION, outbox.epoch, 5))
            await until(lambda: outbox.held.count == 0)

    asyncio.run(scenario())


def test_birth_and_goodbye_are_retained_and_a_kill_is_told_by_the_last_will(
    tmp_path: Path, broker: BrokerProcess
) -> None:
    async def scenario() -> None:
        async with _house(tmp_path, broker.port) as (_outbox, uplink, ingest, _):
            await until(lambda: ingest.states == [True])
            link = uplink.session._link
            assert link is not None
            link._socket.shutdown(2)  # as a kill -9 does: no DISCONNECT
            await until(lambda: ingest.states[1:2] == [False])
            await until(lambda: ingest.states[-1] is True)
            states = ingest.states
        late: list[bool] = []
        watcher = MqttSession(
            BrokerSettings(port=broker.port), client_id="w", clock=CLOCK, subscriptions=[("mg/v1/+/gw/state", 1)]
        )
        job = asyncio.ensure_future(watcher.run())
        (said,) = await watcher.receive(1)
        late.append(json.loads(said.payload)["online"])
        job.cancel()
        await asyncio.gather(job, return_exceptions=True)
        assert states[0] is True
        assert said.retain
        assert late == [False], "who looks later sees that it ended"

    asyncio.run(scenario())
