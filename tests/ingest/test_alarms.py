"""A flood of forgeries leaves a few rows and an exact count; a single one is told as it is."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from ingest.alarms import EACH, Alarms
from ingest.status import GatewayWatch
from metering.messages import PARTS, State, encode, part_of, topic
from metering.mqtt import Delivery
from tests.ingest.house import NOW, House, raw, reading, up

MINUTE = 60_000


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)


def test_few_are_told_one_by_one_and_many_are_counted() -> None:
    counters: Counter[tuple[str, str]] = Counter()
    alarms = Alarms(counters)
    rows = [alarms.event("gw-1", "topic", f"text {n}", NOW, str(n)) for n in range(10_000)]
    told = [row for row in rows if row is not None]
    assert (len(told), told[0].gateway, told[0].text) == (EACH, "gw-1", "text 0")
    assert alarms.take(NOW + MINUTE - 1) == []
    (counted,) = alarms.take(NOW + MINUTE)
    assert counted.count == 10_000 - EACH
    assert counted.text == f"{10_000 - EACH} more within 60 s; the last one: gw-1: text 9999"
    assert alarms.take(NOW + 2 * MINUTE) == []
    assert counters["security_total", 'cause="topic"'] == 10_000


def test_another_cause_and_another_hour_are_told_again() -> None:
    alarms = Alarms(Counter())
    assert all(alarms.event("g", "topic", "t", NOW) for _ in range(EACH))
    assert alarms.event("g", "topic", "t", NOW) is None
    assert alarms.event("g", "retained", "t", NOW) is not None
    assert alarms.event("g", "topic", "t", NOW + 60 * MINUTE) is not None


def test_what_the_registry_could_not_take_waits() -> None:
    alarms = Alarms(Counter())
    alarms.hold("gw-1", "foreign_gateway", "text", NOW)
    rows = alarms.take(NOW)
    assert len(rows) == 1
    alarms.put_back(rows)
    assert alarms.take(NOW) == rows


def test_a_flood_of_forgeries_leaves_few_rows_and_stores_nothing(house: House) -> None:
    async def scenario() -> None:
        for turn in range(10):
            foreign = [
                raw(up(1, [reading("M3", NOW + 100 * turn + n, 5)], gateway="gw-2").payload, gateway="gw-1")
                for n in range(100)
            ]
            await house.pipeline.cycle(foreign)
            assert all(delivery._done for delivery in foreign)
        assert house.stored() == {}
        assert len(house.events("security")) == EACH
        assert len(house.quarantine()) == EACH
        assert house.pipeline.counters["security_total", 'cause="foreign_gateway"'] == 1000
        assert house.sent.acks == []
        await house.pipeline.cycle([up(1, [reading("M1", NOW, 1)])])  # an honest one is heard as ever
        assert ("M1", NOW) in house.stored()

    house.run(scenario)


@pytest.mark.parametrize(
    "name",
    [
        "+", "#", "mg/v1/+/+/up", "mg/v1/#", "$SYS/broker/uptime", "", "/", "mg/v1///up", "x" * 65_535,
        f"mg/v1/{(part_of('gw-1') + 1) % PARTS}/gw-1/up", f"mg/v1/0{part_of('gw-1')}/gw-1/up",
        f"mg/v1/{part_of('gw-1')}/gw-1/up/x", f"mg/v2/{part_of('gw-1')}/gw-1/up", "mg/v1/-1/gw-1/up",
    ],
)  # fmt: skip
def test_a_topic_that_is_not_the_gateways_own_brings_nothing(house: House, name: str) -> None:
    async def scenario() -> None:
        delivery = raw(up(1, [reading("M1", NOW, 5)]).payload, name=name)
        await house.pipeline.cycle([delivery])
        assert house.stored() == {}
        assert house.sent.acks == []
        (event,) = house.events("security")
        assert event in (("", "topic"), ("", "unknown_gateway"))
        assert delivery._done

    house.run(scenario)


def test_a_state_that_speaks_for_another_is_told_once() -> None:
    alarms = Alarms(Counter())
    watch = GatewayWatch(lambda: {"gw-1"}, lambda *who: None, Counter(), alarms, lambda: NOW)
    watch.hear(Delivery(topic("gw-1", "state"), encode(State(1, "gw-2", True, 5)), 1, False))
    watch.hear(Delivery(topic("gw-9", "state"), encode(State(1, "gw-9", True, 5)), 1, False))
    rows = alarms.take(NOW)
    assert [(row.kind, row.gateway, row.cause) for row in rows] == [
        ("security", "gw-1", "foreign_gateway"),
        ("security", "gw-9", "unknown_gateway"),
    ]
    assert rows[0].text == f"{topic('gw-1', 'state')} says that it is 'gw-2'"


def test_yesterdays_message_again_changes_nothing_and_is_acknowledged_again(house: House) -> None:
    """A replay by somebody who may speak for the gateway is a redelivery: the key decides."""

    async def scenario() -> None:
        await house.pipeline.cycle([up(1, [reading("M1", NOW, 5)])])
        before = house.stored()
        await house.clock.advance(24 * 3600)
        await house.pipeline.cycle([up(1, [reading("M1", NOW, 5)])])
        assert house.stored() == before
        assert house.position().spans == [(1, 1)]
        assert house.position().duplicates == 1
        assert [ack.upto for _, ack in house.sent.acks] == [1, 1]

    house.run(scenario)
