"""Work orders on their way out: every step once, in the forms of others, and on both databases."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
import sqlalchemy as sa

from api.orders.book import Request, open_or_join, step
from api.orders.deadlines import Deadline
from api.orders.lifecycle import Deed, Step
from api.orders.words import Opens, OrderType, Priority
from api.orders.working_days import WorkCalendar
from api.outbound.collect import Collector
from api.outbound.http import Answer
from api.outbound.templates import TEMPLATES, accepted, of_event, of_message
from api.outbound.texts import Told, message
from registry.database import Database
from registry.findings_store import FINDING, HISTORY
from registry.models_outbound import OutboundEvent
from tests.api.outbound.receiver import Receiver
from tests.api.outbound.scene import ACTOR, Scene, play

LEAK = Request(
    place="UP-1",
    type=OrderType.LEAK_VISIT,
    priority=Priority.URGENT,
    opens=Opens.ITSELF,
    deadline=Deadline.parse("24 h"),
    reason_en="flow that does not stop",
    reason_zh="持续流量，疑似泄漏",
    tz="Asia/Shanghai",
    district="north",
)


def open_order(scene: Scene) -> None:
    with scene.database.begin() as c:
        open_or_join(c, ACTOR, LEAK, now_ms=scene.clock.now_ms(), calendar=WorkCalendar())


def take(scene: Scene, deed: Deed, **more: Any) -> None:
    with scene.database.begin() as c:
        step(c, ACTOR, 1, Step(deed, **more), now_ms=scene.clock.now_ms())


def test_every_step_of_an_order_is_told_once_and_in_order(database: Database) -> None:
    scene = Scene(database)

    async def work() -> None:
        async with Receiver() as receiver:
            _, secret = scene.webhook(receiver.url, kinds=["work_order.*"])
            open_order(scene)
            take(scene, Deed.DISPATCH, assignee="li")
            await scene.turn()
            await scene.clock.advance(60)
            take(scene, Deed.CANCEL, note="mistaken")
            await scene.pass_time(1500, step=300)  # longer than the place stays behind
            await scene.turn()
            assert all(receiver.signed_by(secret))
            bodies = [hit.data for hit in receiver.hits]
        assert [body["type"] for body in bodies] == [
            "work_order.opened",
            "work_order.dispatched",
            "work_order.cancelled",
        ]
        last = bodies[2]["data"]
        assert (last["state"], last["note"], last["who"], last["district"]) == (
            "finished",
            "mistaken",
            "console:test",
            "north",
        )

    play(scene, work)


def test_rules_can_be_for_types_of_orders(database: Database) -> None:
    scene = Scene(database)
    scene.rule((0, ["mail:a@b.cn"]), events=["work_order.opened"], order_types=["seal"], name="seals")
    scene.rule((0, ["mail:c@d.cn"]), events=["work_order.opened"], order_types=["leak_visit"], name="leaks")

    async def work() -> None:
        open_order(scene)
        await scene.turn()
        (row,) = scene.deliveries()
        assert row.target == "c@d.cn"
        assert "漏气抢修" in row.payload
        assert "flow that does not stop | 持续流量，疑似泄漏" in row.payload

    play(scene, work)


def test_a_number_that_is_committed_late_is_not_lost(postgres_url: str) -> None:
    """Two writers of PostgreSQL: the first draws its number first and commits last."""
    database = Database(postgres_url)
    scene = Scene(database)
    scene.find(1)
    scene.find(2)

    def line(number: int, finding: int) -> dict[str, Any]:
        facts = {"id": number, "finding_id": finding, "number": 2, "at": scene.clock.now_ms(), "who": "user:li"}
        return facts | {"event": "comment", "from_state": "UNACK", "to_state": "UNACK", "until": None, "note": ""}

    def look() -> list[str]:
        with database.begin() as c:
            collector.look(c, scene.clock.now_ms())
        with database.read() as c:
            return list(c.execute(sa.select(OutboundEvent.source).order_by(OutboundEvent.id)).scalars())

    collector = Collector()
    with database.read() as c:
        ids = list(c.execute(sa.select(FINDING.c.id).order_by(FINDING.c.id)).scalars())
    assert look() == []
    late = database.engine.connect()
    with late.begin():
        late.execute(sa.insert(HISTORY).values(**line(1001, ids[0])))
        with database.begin() as c:
            c.execute(sa.insert(HISTORY).values(**line(1002, ids[1])))
        assert look() == ["finding_history:1002"]
    late.close()
    asyncio.run(scene.clock.advance(30))
    assert look() == ["finding_history:1002", "finding_history:1001"]
    asyncio.run(scene.clock.advance(90))
    assert len(look()) == 2
    collector = Collector()  # after a crash
    assert len(look()) == 2
    database.close()


EVENT = Told(
    "work_order.opened", "2026-03-01T00:00:00.000Z", "north", "urgent", "leak_visit", "work_order", "7",
    {"place": "UP-1", "type": "leak_visit", "due_at": "2026-03-02T00:00:00.000Z", "reason_zh": "漏气 [x](http://e)"},
)  # fmt: skip


@pytest.mark.parametrize("template", TEMPLATES)
def test_every_form_is_json_for_events_and_messages(template: str) -> None:
    made = message("duty", 1, [EVENT, EVENT], digest_above=5)
    for text in (of_event(template, EVENT), of_message(template, made, EVENT.at)):
        assert isinstance(json.loads(text), dict)


def test_the_forms_of_others_carry_urgency_and_deadline() -> None:
    odoo, atlas, maximo = (json.loads(of_event(name, EVENT)) for name in ("odoo", "atlas", "maximo"))
    assert (odoo["priority"], odoo["schedule_date"]) == ("3", "2026-03-02T00:00:00.000Z")
    assert (atlas["priority"], atlas["title"], atlas["customId"]) == ("HIGH", "leak_visit UP-1", "work_order/7")
    assert (maximo["spi:wopriority"], maximo["spi:externalrefid"]) == (1, "work_order/7")


def test_wecom_gets_short_markdown_in_which_nobody_can_put_a_link() -> None:
    said = json.loads(of_event("wecom", EVENT))
    assert said["msgtype"] == "markdown"
    assert "漏气  x  http" in said["markdown"]["content"]
    flood = message("duty", 0, [EVENT] * 400, digest_above=1000)
    long = json.loads(of_message("wecom", flood, EVENT.at))["markdown"]["content"]
    assert len(long.encode()) <= 4096
    assert long.endswith("…")


def test_wecom_says_no_with_a_200() -> None:
    assert accepted("wecom", Answer(200, "", b'{"errcode":0,"errmsg":"ok"}')) == ""
    assert "errcode 45009" in accepted("wecom", Answer(200, "", b'{"errcode":45009,"errmsg":"freq"}'))
    assert "no WeCom robot" in accepted("wecom", Answer(200, "", b"<html>"))
    assert accepted("metergate", Answer(204)) == ""
