"""Webhooks from the finding to the receiver: signed, once in effect, retried, dead, never held up by others."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import replace

import pytest
import sqlalchemy as sa

from api.outbound import book, outbox
from api.outbound.service import Outbound
from api.outbound.settings import OutboundSettings
from metering.clock import SystemClock
from registry import audit
from registry.alarm_states import AlarmEvent
from registry.database import Database
from registry.findings_actions import act
from registry.models_outbound import OutboundEvent, Webhook
from tests.api.outbound.conftest import Trust
from tests.api.outbound.receiver import Receiver
from tests.api.outbound.scene import ACTOR, LOOPBACK, Scene, play


def test_a_receiver_that_answers_500_twice_verifies_and_sees_each_id_once_in_effect(database: Database) -> None:
    scene = Scene(database)
    answers = iter([500, 500])

    async def work() -> None:
        async with Receiver(lambda _: (next(answers, 200), "", b"")) as receiver:
            _, secret = scene.webhook(receiver.url)
            scene.find()
            await scene.turn()
            assert [row.state for row in scene.deliveries()] == ["waiting"]
            await scene.pass_time(4)
            # at once; after 0.5 to 1 s; after 1 to 2 s
            assert len(receiver.hits) == 3
            bodies = receiver.verified(secret)
            assert {hit.headers["webhook-id"] for hit in receiver.hits} == {scene.deliveries()[0].id}
            assert bodies[0] == bodies[2]
            assert (bodies[0]["type"], bodies[0]["data"]["usage_point"]) == ("finding.opened", "UP-1")
            assert receiver.hits[0].path == "/hook?key=k1"
        (row,) = scene.deliveries()
        assert (row.state, row.attempts, row.answer) == ("delivered", 3, "200")

    play(scene, work)


def test_over_tls_by_name_and_never_with_a_stranger(database: Database, trust: Trust) -> None:
    plain = LOOPBACK.model_copy(update={"http_hosts": ()})
    scene = Scene(database, plain.model_copy(update={"tls_ca": trust.ca}))

    async def work() -> None:
        async with Receiver(tls=trust.server) as receiver:
            _, secret = scene.webhook(receiver.url)
            scene.find()
            await scene.turn()
            assert len(receiver.verified(secret)) == 1
            stranger = Outbound(plain, database, scene.clock)  # does not know the receiver's authority
            scene.find(2)
            await scene.sender.close()
            await stranger.turn()
            await stranger.settled()
            await stranger.close()
            assert len(receiver.hits) == 1
        assert "certificate" in scene.deliveries()[-1].answer or "certificate" in scene.deliveries()[0].answer

    play(scene, work)


def test_a_dead_delivery_is_sent_again_by_hand_with_its_old_id(database: Database) -> None:
    scene = Scene(database, LOOPBACK.model_copy(update={"max_attempts": 3}))
    broken = threading.Event()
    broken.set()

    async def work() -> None:
        async with Receiver(lambda _: (503 if broken.is_set() else 204, "", b"")) as receiver:
            scene.webhook(receiver.url)
            scene.find()
            await scene.pass_time(8)
            (row,) = scene.deliveries()
            assert (row.state, row.attempts, row.answer) == ("dead", 3, "it answered 503")
            await scene.pass_time(60, step=10)
            assert len(receiver.hits) == 3
            broken.clear()
            with database.begin() as c:
                outbox.replay(c, ACTOR, row.id, now_ms=scene.clock.now_ms())
                assert audit.records(c)[0]["action"] == "webhook_delivery.replay"
            await scene.turn()
            assert receiver.hits[-1].headers["webhook-id"] == row.id
        assert scene.deliveries()[0].state == "delivered"

    play(scene, work)


def test_a_receiver_that_is_gone_is_switched_off(database: Database) -> None:
    scene = Scene(database)

    async def work() -> None:
        async with Receiver(lambda _: (410, "", b"")) as receiver:
            number, _ = scene.webhook(receiver.url)
            scene.find()
            await scene.turn()
            scene.find(2)
            await scene.pass_time(3)
            assert len(receiver.hits) == 1
        with database.read() as c:
            row = c.execute(sa.select(Webhook).where(Webhook.id == number)).one()
            assert (row.enabled, row.disabled_why) == (False, "it answered 410")
            assert audit.records(c)[0]["action"] == "webhook.disable"

    play(scene, work)


def test_who_asks_for_a_pause_gets_it(database: Database) -> None:
    scene = Scene(database)
    answers = iter([(429, "Retry-After: 30\r\n", b"")])

    async def work() -> None:
        async with Receiver(lambda _: next(answers, (200, "", b""))) as receiver:
            scene.webhook(receiver.url)
            scene.find()
            await scene.pass_time(29)
            assert len(receiver.hits) == 1
            await scene.pass_time(2)
            assert len(receiver.hits) == 2

    play(scene, work)


def test_a_slow_receiver_holds_up_nobody(database: Database) -> None:
    scene = Scene(database)

    async def work() -> None:
        async with Receiver(lambda _: None) as slow, Receiver() as quick:
            scene.webhook(slow.url, "slow")
            scene.webhook(quick.url, "quick")
            for number in range(5):
                scene.find(number)
                await scene.sender.turn()
                while len(quick.hits) <= number:
                    await SystemClock().sleep(0.01)
                await asyncio.gather(*(t for k, t in scene.sender._lanes.items() if k[1] == 2))
            assert (len(slow.hits), len(quick.hits)) == (1, 5)
            while len([row for row in scene.deliveries() if row.state == "delivered"]) < 5:
                await SystemClock().sleep(0.01)

    play(scene, work)


def test_a_redirect_into_the_house_is_not_followed(database: Database) -> None:
    scene = Scene(database)

    async def work() -> None:
        async with Receiver() as inside:
            moved = f"Location: {inside.url}\r\n"
            async with Receiver(lambda _: (302, moved, b"")) as receiver:
                scene.webhook(receiver.url)
                scene.find()
                await scene.turn()
            assert inside.hits == []
        assert scene.deliveries()[0].answer == "it answered 302; redirects are not followed"

    play(scene, work)


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ((200, "X: " + "a" * 40_000 + "\r\n", b""), "its headers have no end"),
        ((200, "Content-Length: x\r\n", b""), "what came back is no HTTP"),
    ],
)
def test_odd_answers_are_failures_in_words(database: Database, answer: tuple[int, str, bytes], words: str) -> None:
    scene = Scene(database)

    async def work() -> None:
        async with Receiver(lambda _: answer) as receiver:
            scene.webhook(receiver.url)
            scene.find()
            await scene.turn()
        assert words in scene.deliveries()[0].answer

    play(scene, work)


def test_an_endless_answer_is_cut_off_and_counts(database: Database) -> None:
    scene = Scene(database)

    async def work() -> None:
        async with Receiver(lambda _: (200, "", b"x" * 5_000_000)) as receiver:
            scene.webhook(receiver.url)
            scene.find()
            await scene.turn()
        assert scene.deliveries()[0].state == "delivered"

    play(scene, work)


def test_a_crash_at_any_moment_neither_loses_nor_doubles_an_event(database: Database) -> None:
    scene = Scene(database)

    async def work() -> None:
        async with Receiver() as receiver:
            scene.webhook(receiver.url)
            for number in range(6):
                scene.find(number)
                sender = Outbound(LOOPBACK, database, scene.clock)  # a new process, which knows nothing
                sender.holder = scene.sender.holder
                await sender.turn()
                if number % 2:
                    await sender.settled()
                    await sender.turn()
                    await sender.settled()
                for task in sender._lanes.values():
                    task.cancel()  # killed in the middle of sending
                await scene.clock.advance(45)
            await scene.pass_time(5)
            seen = [hit.data["data"]["usage_point"] for hit in receiver.hits]
            ids = {hit.headers["webhook-id"]: hit.data["data"]["usage_point"] for hit in receiver.hits}
        assert sorted(ids.values()) == [f"UP-{n}" for n in range(6)]
        assert set(seen) == set(ids.values())
        with database.read() as c:
            assert c.execute(sa.select(sa.func.count()).select_from(OutboundEvent)).scalar_one() == 6

    play(scene, work)


def test_of_two_processes_one_sends_and_the_other_takes_over(database: Database) -> None:
    scene = Scene(database)

    async def work() -> None:
        async with Receiver() as receiver:
            scene.webhook(receiver.url)
            other = Outbound(LOOPBACK, database, scene.clock)
            scene.find()
            assert await other.turn() is False
            await scene.turn()
            scene.find(2)
            await scene.clock.advance(LOOPBACK.lease_s + 1)  # the leader is gone without a word
            assert await other.turn() is True
            await other.settled()
            assert await scene.sender.turn() is False
            await other.close()
            assert await scene.sender.turn() is True
            assert [hit.data["data"]["usage_point"] for hit in receiver.hits] == ["UP-1", "UP-2"]

    play(scene, work)


def test_events_that_somebody_caused_name_him(database: Database) -> None:
    scene = Scene(database)

    async def work() -> None:
        async with Receiver() as receiver:
            scene.webhook(receiver.url, kinds=["finding.acknowledged"])
            scene.find()
            with database.begin() as c:
                act(c, ACTOR, 1, AlarmEvent.ACKNOWLEDGE, now_ms=scene.clock.now_ms(), note="on my way")
            await scene.turn()
            (hit,) = receiver.hits
            assert (hit.data["data"]["who"], hit.data["data"]["note"]) == ("console:test", "on my way")

    play(scene, work)


def test_children_of_an_outage_and_other_districts_are_not_sent(database: Database) -> None:
    scene = Scene(database)

    async def work() -> None:
        async with Receiver() as receiver:
            scene.webhook(receiver.url, districts=["north"])
            parent = scene.find(1, key="outage:gw-1", kind="info_outage", severity="major")
            child = replace(parent, key="UP-9:comms", kind="comms_loss", parent_key="outage:gw-1")
            scene.record(child)
            scene.find(3, district="south")
            await scene.turn()
            assert [hit.data["data"]["kind"] for hit in receiver.hits] == ["info_outage"]

    play(scene, work)


def test_both_secrets_sign_while_one_is_exchanged(database: Database) -> None:

    scene = Scene(database)

    async def work() -> None:
        async with Receiver() as receiver:
            number, old = scene.webhook(receiver.url)
            with database.begin() as c:
                new = book.rotate(c, ACTOR, number, now_ms=scene.clock.now_ms(), version=None)
            scene.find()
            await scene.turn()
            assert receiver.signed_by(old) == receiver.signed_by(new) == [True]
            await scene.clock.advance(86_400)
            receiver.hits.clear()
            scene.find(2)
            await scene.turn()
            assert (receiver.signed_by(old), receiver.signed_by(new)) == ([False], [True])

    play(scene, work)


def test_what_was_before_the_first_start_is_not_sent(database: Database) -> None:
    scene = Scene(database, OutboundSettings())
    scene.find()
    play(scene, scene.turn)
    with database.read() as c:
        assert c.execute(sa.select(OutboundEvent)).all() == []


def test_the_wait_doubles_up_to_its_longest_and_spreads() -> None:
    settings = OutboundSettings(retry_first_s=5, retry_longest_s=60)

    class Most:
        def random(self) -> float:
            return 1.0

    waits = [outbox.wait_s(n, settings, Most()) for n in range(1, 7)]  # type: ignore[arg-type]  # all that it is asked
    assert waits == [5, 10, 20, 40, 60, 60]
