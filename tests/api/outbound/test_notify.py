"""People: told once, in bundles, up the steps when nobody answers, and again when it was a mistake."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest
import sqlalchemy as sa

from registry import ledger, maintenance, maintenance_book, watch
from registry.alarm_states import AlarmEvent
from registry.database import Database
from registry.findings_actions import act
from registry.models import Gateway
from tests.api.outbound.receiver import Receiver
from tests.api.outbound.scene import ACTOR, LOOPBACK, Scene, play
from tests.api.world import say_ready


def mails(scene: Scene) -> list[tuple[str, str]]:
    """(recipient, subject) of every e-mail in the outbox."""
    return [(row.target, row.subject) for row in scene.deliveries() if row.channel == "email"]


def texts(scene: Scene) -> list[str]:
    return [row.payload for row in scene.deliveries()]


def test_an_urgent_finding_is_told_at_once_and_in_both_languages(database: Database) -> None:
    scene = Scene(database)
    scene.rule((0, ["mail:duty@example.org"]))

    async def work() -> None:
        scene.find(evidence={"rate_per_h": 4.25})
        await scene.turn()
        assert mails(scene) == [("duty@example.org", "urgent finding opened 新异常 leak UP-1, G-0001, north")]
        assert "疑似泄漏" in texts(scene)[0]
        assert "flow that does not stop, 4.25 m³/h" in texts(scene)[0]
        await scene.pass_time(300, step=60)
        assert len(mails(scene)) == 1

    play(scene, work)


def test_nobody_answers_so_the_next_ones_are_told_until_somebody_does(database: Database) -> None:
    scene = Scene(database)
    scene.rule((0, ["mail:duty@example.org"]), (15, ["mail:team@example.org"]), (30, ["mail:head@example.org"]))

    async def work() -> None:
        scene.find()
        await scene.pass_time(14 * 60, step=60)
        assert [to for to, _ in mails(scene)] == ["duty@example.org"]
        await scene.pass_time(60, step=60)
        assert mails(scene)[1] == (
            "team@example.org",
            "Escalation 1 升级: urgent finding opened 新异常 leak UP-1, G-0001, north",
        )
        with database.begin() as c:
            act(c, ACTOR, 1, AlarmEvent.ACKNOWLEDGE, now_ms=scene.clock.now_ms())
        await scene.pass_time(30 * 60, step=60)
        assert [to for to, _ in mails(scene)] == ["duty@example.org", "team@example.org"]
        assert [(n.step, n.state) for n in scene.notifications()] == [(0, "told"), (1, "told"), (2, "dropped")]

    play(scene, work)


def test_a_flood_becomes_one_digest_and_not_two_hundred_messages(database: Database) -> None:
    scene = Scene(database)
    scene.rule((0, ["mail:duty@example.org"]))

    async def work() -> None:
        base = scene.find(0, severity="minor", kind="high_use")
        scene.record_all([replace(base, key=f"k{n}", usage_point=f"UP-{n}") for n in range(1, 200)])
        await scene.turn()
        await scene.pass_time(59, step=59)
        assert mails(scene) == []
        await scene.pass_time(1)
        assert mails(scene) == [("duty@example.org", "200 events 条, up to low 低")]
        assert texts(scene)[0].startswith("200 × finding opened 新异常 high_use @ north")

    play(scene, work)


def test_urgent_ones_in_a_flood_are_gathered_after_ten_messages(database: Database) -> None:
    scene = Scene(database)
    scene.rule((0, ["mail:duty@example.org"]))

    async def work() -> None:
        for number in range(30):
            scene.find(number)
            await scene.pass_time(1)
        await scene.pass_time(60, step=10)
        assert len(mails(scene)) == 11  # ten at once, then one for the other twenty
        assert mails(scene)[-1][1] == "20 events 条, up to urgent 紧急"

    play(scene, work)


def test_one_message_for_the_parent_and_none_for_what_it_explains(database: Database) -> None:
    scene = Scene(database)
    scene.rule((0, ["mail:duty@example.org"]))

    async def work() -> None:
        first = scene.find(1, kind="comms_loss", severity="major", key="c1")  # the rules saw the child first
        await scene.pass_time(10, step=10)
        parent = replace(first, key="outage:gw-1", kind="info_outage", usage_point="", meter="")
        now = scene.clock.now_ms()
        children = [
            replace(first, key=f"c{n}", parent_key="outage:gw-1", updated_at=now, detected_at=now)
            for n in range(1, 9)
        ]
        scene.record_all([parent, *children])
        await scene.pass_time(120, step=10)
        assert mails(scene) == [("duty@example.org", "high finding opened 新异常 info_outage gw-1, north")]
        assert "dropped" in [n.state for n in scene.notifications()]

    play(scene, work)


def test_late_data_withdraw_and_those_who_were_told_hear_why(database: Database) -> None:
    scene = Scene(database)
    scene.rule((0, ["mail:duty@example.org"]), (15, ["mail:head@example.org"]))

    async def work() -> None:
        told = scene.find(1)
        await scene.turn()
        with database.begin() as c:
            act(c, ACTOR, 1, AlarmEvent.ACKNOWLEDGE, now_ms=scene.clock.now_ms())
        await scene.pass_time(60, step=60)
        late = scene.clock.now_ms()
        scene.record(replace(told, withdrawn_at=late, updated_at=late, withdrawn_why="late readings show no flow"))
        await scene.turn()
        assert [to for to, _ in mails(scene)] == ["duty@example.org", "duty@example.org"]
        text = next(text for text in texts(scene) if "withdrawn" in text)
        assert "withdrawn 撤销原因: late readings show no flow; known to 处理人: console:test" in text

    play(scene, work)


def test_who_was_not_told_does_not_hear_of_a_withdrawal(database: Database) -> None:
    scene = Scene(database)
    scene.rule((0, ["mail:duty@example.org"]))

    async def work() -> None:
        quiet = scene.find(1, severity="minor")
        await scene.turn()
        now = scene.clock.now_ms() + 1
        scene.record(replace(quiet, withdrawn_at=now, updated_at=now, withdrawn_why="late readings"))
        await scene.pass_time(120, step=10)
        assert mails(scene) == []
        assert [n.why for n in scene.notifications()] == ["finding.withdrawn"]

    play(scene, work)


@pytest.mark.parametrize("shown", [False, True])
def test_what_began_in_a_maintenance_window_is_told_and_escalated_when_the_window_ends(
    database: Database, shown: bool
) -> None:
    scene = Scene(database)
    scene.rule((0, ["mail:duty@example.org"]), (15, ["mail:head@example.org"]))

    async def work() -> None:
        if shown:  # those who were told before the window are not told again
            scene.find()
            await scene.turn()
        now = scene.clock.now_ms()
        with database.begin() as c:
            c.execute(sa.insert(Gateway), [{"id": "gw-9", "district": "north"}])
            maintenance_book.open_window(
                c, ACTOR, scope="district", target="north", from_at=now, to_at=now + 3_600_000, reason="new modem",
                now_ms=now, longest_h=24,
            )  # fmt: skip
        if not shown:
            scene.find()
        await scene.pass_time(3540, step=590)
        assert [to for to, _ in mails(scene)] == ["duty@example.org"] * shown
        await scene.clock.advance(60)
        with database.begin() as c:
            maintenance.expire(c, scene.clock.now_ms())
        await scene.turn()
        assert [to for to, _ in mails(scene)] == ["duty@example.org"]
        assert "finding opened" in mails(scene)[0][1]
        await scene.pass_time(900, step=300)
        assert [to for to, _ in mails(scene)][1:] == ["head@example.org"] * (not shown)

    play(scene, work)


def test_who_was_told_of_a_loss_hears_of_its_withdrawal_though_an_outage_explains_it_meanwhile(
    database: Database,
) -> None:
    scene = Scene(database)
    scene.rule((0, ["mail:duty@example.org"]), kinds=["comms_loss"], bundle_s=0)

    async def work() -> None:
        loss = scene.find(1, kind="comms_loss", severity="major")
        unseen = replace(loss, key="unseen", usage_point="UP-2", parent_key="outage:gw-1")
        scene.record(unseen)
        await scene.turn()
        assert len(mails(scene)) == 1
        later = scene.clock.now_ms() + 1
        scene.record(replace(loss, parent_key="outage:gw-1", updated_at=later))
        await scene.pass_time(10, step=10)
        gone: dict[str, Any] = {"withdrawn_at": later + 1, "updated_at": later + 1, "withdrawn_why": "late readings"}
        scene.record_all([replace(loss, **gone), replace(unseen, **gone)])
        await scene.pass_time(10, step=10)
        assert [subject.split()[1:3] for _, subject in mails(scene)] == [
            ["finding", "opened"],
            ["finding", "withdrawn"],
        ]

    play(scene, work)


@pytest.mark.parametrize("prefix", ["ready.ingest-1", "ready_anomaly.anomaly-1"])
def test_a_service_that_falls_silent_is_told_and_so_is_its_return(database: Database, prefix: str) -> None:
    scene = Scene(database)
    scene.rule((0, ["mail:duty@example.org"]), (10, ["mail:head@example.org"]))
    said: dict[str, Any] = {"problems": {}}

    def report() -> None:
        with database.begin() as c:
            ledger.set_state(c, prefix, f'{{"at": {scene.clock.now_ms()}, "problems": {said["problems"]}}}')

    async def work() -> None:
        report()
        await scene.pass_time(60, step=10)
        assert mails(scene) == []
        await scene.pass_time(10, step=10)
        assert [(to, subject.split()[:3]) for to, subject in mails(scene)] == [
            ("duty@example.org", ["urgent", "house", "silent"])
        ]
        report()
        await scene.turn()
        assert "reports again" in texts(scene)[-1] or "reports again" in texts(scene)[0]
        await scene.pass_time(40, step=40)
        report()
        await scene.pass_time(50, step=50)
        report()
        await scene.pass_time(600, step=300)
        assert len([m for m in mails(scene) if m[0] == "duty@example.org"]) == 3

    play(scene, work)


@pytest.mark.parametrize("taken", [False, True])
def test_a_dead_anomaly_service_is_missed_until_somebody_judges_its_parts(database: Database, taken: bool) -> None:
    scene = Scene(database)
    scene.rule((0, ["mail:duty@example.org"]))

    def report(name: str) -> None:
        with database.begin() as c:
            ledger.set_state(c, f"ready_anomaly.{name}", f'{{"at": {scene.clock.now_ms()}, "problems": {{}}}}')

    def claim(name: str, part: int) -> None:
        with database.begin() as c:
            watch.claim(c, name, [part], now=scene.clock.now_ms(), lease_ms=30_000)

    async def work() -> None:
        claim("anomaly-1", 0)
        claim("anomaly-2", 1)
        report("anomaly-2")
        for minute in range(65):
            report("anomaly-1")
            if taken and minute == 30:
                claim("anomaly-1", 1)
            await scene.pass_time(60, step=60)
        told = [text for text in texts(scene) if "anomaly-2" in text]
        assert not any("reports again" in text for text in told)
        assert len(told) == 1 + taken
        assert any("taken as retired" in text for text in told) == taken
        assert scene.sender._silent == ([] if taken else ["anomaly-2"])

    play(scene, work)


def test_no_heartbeat_goes_out_while_ingest_is_silent(database: Database) -> None:
    async def work() -> None:
        async with Receiver() as outside:
            settings = LOOPBACK.model_copy(update={"heartbeat_url": outside.url, "heartbeat_s": 10.0})
            scene = Scene(database, settings)
            with database.begin() as c:
                say_ready(c, scene.clock.now_ms())
            for _ in range(12):
                await scene.turn()
                if scene.sender._outside is not None:
                    await scene.sender._outside
                await scene.clock.advance(10)
            await scene.sender.close()
            assert len(outside.hits) == 7  # at 0, 10, … 60 s; then ingest had been silent for more than 60 s
            assert scene.sender.counters["heartbeats"] == 7

    asyncio.run(work())
