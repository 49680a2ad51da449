"""What gateways say of themselves: only known ones, only of themselves, the newest of each kind."""

from __future__ import annotations

from collections import Counter

import pytest

from ingest.status import GatewayWatch
from metering.messages import BusHealth, Health, MeterOnBus, State, encode, topic
from metering.mqtt import Delivery
from tests.ingest.house import EPOCH


class Watch:
    """A watch, and whom it greeted."""

    def __init__(self) -> None:
        self.births: list[tuple[str, str]] = []
        self.counters: Counter[tuple[str, str]] = Counter()
        self.watch = GatewayWatch(lambda: {"gw-1"}, lambda *who: self.births.append(who), self.counters)

    def hear(self, name: str, payload: bytes) -> None:
        self.watch.hear(Delivery(name, payload, 0, True))


def health(at: int) -> bytes:
    return encode(Health(1, "gw-1", EPOCH, at, 9, 8, 1, 0, None, "ok", "", 2, 1, {}))


def test_birth_and_health_come_together_in_one_row() -> None:
    world = Watch()
    world.hear(topic("gw-1", "state"), encode(State(1, "gw-1", True, 5, EPOCH)))
    world.hear(topic("gw-1", "health"), health(6))
    world.hear(topic("gw-1", "health"), health(7))
    (row,) = world.watch.take()
    assert (row.gateway, row.online, row.state_at, row.health_at) == ("gw-1", True, 5, 7)
    assert row.health
    assert row.health["at"] == 7
    assert world.births == [("gw-1", EPOCH)]
    assert world.watch.take() == []


def test_what_the_registry_could_not_take_is_kept_beneath_what_came_since() -> None:
    world = Watch()
    world.hear(topic("gw-1", "state"), encode(State(1, "gw-1", True, 5, EPOCH)))
    world.hear(topic("gw-1", "health"), health(6))
    rows = world.watch.take()
    world.hear(topic("gw-1", "health"), health(8))
    world.watch.put_back(rows)
    (row,) = world.watch.take()
    assert (row.online, row.state_at, row.health_at) == (True, 5, 8)
    world.watch.put_back(rows)
    assert world.watch.take() == rows


@pytest.mark.parametrize(
    ("name", "payload", "result"),
    [
        (topic("gw-1", "state"), encode(State(1, "gw-2", True, 5)), "foreign"),
        (topic("gw-9", "state"), encode(State(1, "gw-9", True, 5)), "foreign"),
        (topic("gw-1", "state"), b"{", "broken"),
        (topic("gw-1", "health"), b"[" * 100_000, "broken"),
        (topic("gw-1", "health"), b'{"v":1e999}', "broken"),
        ("mg/v1/0/gw-1/state", encode(State(1, "gw-1", True, 5)), "broken"),
        ("mg/v1/state", b"", "broken"),
    ],
)
def test_anything_else_is_counted_and_dropped(name: str, payload: bytes, result: str) -> None:
    world = Watch()
    world.hear(name, payload)
    assert world.watch.take() == []
    assert world.births == []
    assert world.counters == {("status_total", f'result="{result}"'): 1}


def test_the_buses_of_a_message_stay_until_another_one_brings_them() -> None:
    bus = BusHealth(
        "stair",
        "serial",
        True,
        10.0,
        0.4,
        12.0,
        [MeterOnBus("G-1", "7", 0.0, 0.0, 0.0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)],
    )
    told = encode(Health(1, "gw-1", EPOCH, 6, 9, 8, 1, 0, None, "ok", "", 2, 1, {}, "1.0", "7", [bus]))
    world = Watch()
    world.hear(topic("gw-1", "health"), told)
    world.hear(topic("gw-1", "health"), health(7))
    rows = world.watch.take()
    assert rows[0].health
    assert (rows[0].health["at"], rows[0].health["buses_at"]) == (7, 6)
    assert rows[0].health["buses"][0]["meters"][0][0] == "G-1"
    world.hear(topic("gw-1", "health"), health(8))
    world.watch.put_back(rows)
    (row,) = world.watch.take()
    assert row.health
    assert (row.health["at"], row.health["buses_at"]) == (8, 6)
