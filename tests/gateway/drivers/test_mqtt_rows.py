"""From deliveries to rows: whose value, which time, what is missing, and every sort of bad input of the field."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from gateway.drivers.mqtt_memory import MqttMemory
from gateway.drivers.mqtt_rows import Batch, RowMaker
from gateway.protocols import sparkplug_b
from gateway.protocols.sparkplug_b import Payload
from gateway.protocols.sparkplug_births import metric, node_birth, node_death
from gateway.stamps import MeterStamps
from metering.clock import ManualClock
from metering.messages import encode
from metering.mqtt import Delivery
from metering.reading import Event, Reading
from tests.gateway.drivers.field import plan

NOW = 1_772_323_200_000
"""2026-03-01T00:00:00Z"""
MINUTE, DAY = 60_000, 86_400_000

METERS = (
    ("J-1", "j1", "json-meter"),
    ("P-1", "p1", "json-meter-no-clock"),
    ("W-1", "w1", "wmbus-gas"),
    ("S-1", "gas/gw1/fc-1", "sparkplug-flow-computer"),
    ("C-1", "0101010101010101", "ugm-chirpstack"),
)


@dataclass
class World:
    """A row maker whose memory is only in memory."""

    maker: RowMaker
    memory: MqttMemory
    now: int = NOW
    batch: Batch = field(default_factory=Batch)

    def hear(self, topic: str, payload: bytes | dict[str, Any], **more: Any) -> list[Reading | Event]:
        """Take one delivery and write down what it asks for; return its rows."""
        raw = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        batch = Batch()
        self.maker.take(Delivery(topic, raw, 1, more.pop("retain", False), **more), self.now, batch)
        self.memory.stamps.update(batch.stamps)
        self.memory.counters.update(batch.counters)
        self.batch = batch
        for row in batch.rows:
            encode(row)  # whatever came in, the row can be sent
        return batch.rows

    def json(self, n: int, *rows: tuple[Any, Any], **more: Any) -> list[Reading | Event]:
        return self.hear("meters/j1/data", {"n": n, "rows": [{"t": t, "total_l": v} for t, v in rows]}, **more)


@pytest.fixture
def world(tmp_path: Path) -> World:
    memory = MqttMemory(tmp_path / "memory.db", ManualClock())
    stamps: dict[str, MeterStamps] = {}
    maker = RowMaker(plan(*METERS), memory, lambda m, now: stamps.setdefault(m, MeterStamps()).stamp(now)[0])
    return World(maker, memory)


# --- times


def test_rows_of_a_batch_keep_their_own_times(world: World) -> None:
    rows = world.json(1, (NOW - 2 * DAY, 1000), (NOW - DAY, 1500), (NOW, 2000))
    assert [(r.read_at, r.values, r.quality) for r in rows if isinstance(r, Reading)] == [
        (NOW - 2 * DAY, {"volume": 1_000_000}, "valid"),
        (NOW - DAY, {"volume": 1_500_000}, "valid"),
        (NOW, {"volume": 2_000_000}, "valid"),
    ]


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (0, "time_past"),  # 1970
        (946_684_800_000, "time_past"),  # 2000-01-01
        (4_291_747_200_000, "time_future"),  # 2106
        (NOW + 10 * MINUTE, "time_future"),
        (NOW + 3653 * DAY, "time_future"),
        (NOW // 1000, "time_unit"),  # seconds for milliseconds
        (NOW - 401 * DAY, "time_past"),
        ("0000-00-00", "time_unreadable"),
    ],
)
def test_a_time_that_cannot_be_true_becomes_that_of_arrival_and_suspect(world: World, said: Any, reason: str) -> None:
    (row,) = world.json(1, (said, 1000))
    assert isinstance(row, Reading)
    assert (row.read_at, row.quality, row.reason) == (NOW, "suspect", reason)
    assert row.meter_time == (said if isinstance(said, int) else None)


def test_a_clock_that_is_a_little_ahead_is_kept_and_doubted(world: World) -> None:
    (row,) = world.json(1, (NOW + 2 * MINUTE, 1000))
    assert isinstance(row, Reading)
    assert (row.read_at, row.quality, row.reason) == (NOW + 2 * MINUTE, "suspect", "time_ahead")


def test_rows_with_a_dead_clock_keep_the_order_of_their_index(world: World) -> None:
    rows = world.json(1, (3000, 13), (1000, 11), (2000, 12))
    assert [(r.read_at, r.values["volume"]) for r in rows if isinstance(r, Reading)] == [
        (NOW, 11_000),
        (NOW + 1, 12_000),
        (NOW + 2, 13_000),
    ]


# --- the same message again


def test_a_redelivered_message_without_a_clock_gets_the_time_of_the_first(world: World) -> None:
    (first,) = world.hear("pulse/p1/state", {"total_m3": 12.5})
    world.now += DAY
    (again,) = world.hear("pulse/p1/state", {"total_m3": 12.5}, dup=True)
    assert again == first
    (new,) = world.hear("pulse/p1/state", {"total_m3": 12.5})
    assert isinstance(new, Reading)
    assert new.read_at == NOW + DAY, "a meter at rest says the same every day"


def test_equal_bytes_within_seconds_are_one_message(world: World) -> None:
    (first,) = world.hear("pulse/p1/state", {"total_m3": 12.5})
    world.now += 9_999
    assert world.hear("pulse/p1/state", {"total_m3": 12.5}) == [first]
    world.now += 1
    assert world.hear("pulse/p1/state", {"total_m3": 12.5}) != [first]


def test_a_counter_names_a_message_however_late_it_comes_again(world: World) -> None:
    (first,) = world.json(5, (0, 1000))
    world.now += 3_600_000
    assert world.json(5, (0, 1000)) == [first]


def test_a_telegram_heard_by_two_receivers_is_taken_once_and_a_backlog_of_equal_ones_whole(world: World) -> None:
    def telegram(second: int) -> dict[str, Any]:
        stamp = f"2026-02-28T{second // 3600:02}:{second // 60 % 60:02}:{second % 60:02}Z"
        return {"_": "telegram", "id": "w1", "total_m3": 7.5, "timestamp": stamp}

    assert len(world.hear("wmbusmeters/w1", telegram(0))) == 1
    assert world.hear("wmbusmeters/w1", telegram(3)) == []
    assert [len(world.hear("wmbusmeters/w1", telegram(3600 * hour))) for hour in (1, 2, 3)] == [1, 1, 1]
    assert world.maker.counters["repeats"] == 1


def test_what_the_broker_kept_is_never_new(world: World) -> None:
    rows = world.json(1, (NOW, 1000), retain=True)
    assert [(r.kind, r.cause) for r in rows if isinstance(r, Event)] == [("security", "retained")]
    assert world.json(1, (NOW, 1000), retain=True) == []
    assert world.maker.counters["retained"] == 2


# --- what is missing, and who nobody knows


def test_a_gap_of_the_counter_is_reported_with_its_size_also_after_a_restart(world: World) -> None:
    world.json(10, (NOW, 1))
    gap, reading = world.json(14, (NOW + 1, 2))
    assert isinstance(gap, Event)
    assert (gap.kind, gap.meter, gap.count) == ("counter_gap", "J-1", 3)
    assert isinstance(reading, Reading)
    restarted = World(RowMaker(plan(*METERS), world.memory, lambda meter, now: now), world.memory)
    gap, _ = restarted.json(16, (NOW + 2, 3))
    assert isinstance(gap, Event)
    assert gap.count == 1


def test_an_unknown_device_is_told_once_an_hour_with_its_name(world: World) -> None:
    (event,) = world.hear("meters/stranger/data", {"n": 1, "rows": [{"t": NOW, "total_l": 1}]})
    assert isinstance(event, Event)
    assert (event.kind, event.cause, event.count) == ("read_failed", "unknown_device", 1)
    assert event.text.startswith("stranger: ")
    assert world.hear("meters/stranger/data", {"n": 2, "rows": [{"t": NOW, "total_l": 1}]}) == []
    world.now += 3_600_000
    (event,) = world.hear("meters/stranger/data", {"n": 3, "rows": [{"t": NOW, "total_l": 1}]})
    assert isinstance(event, Event)
    assert event.count == 2


# --- Sparkplug B

NODE, DEVICE = "spBv1.0/gas/{}/gw1", "spBv1.0/gas/{}/gw1/fc-1"


def _sparkplug(seq: int, at: int, value: int, **more: Any) -> bytes:
    one = metric("gas/base_volume", "Int64", value, timestamp=at, alias=7, **more)
    return sparkplug_b.encode(Payload(at, (one,), seq))


def _born(world: World) -> None:
    world.hear(NODE.format("NBIRTH"), sparkplug_b.encode(node_birth(0, (), timestamp=NOW)))
    world.hear(DEVICE.format("DBIRTH"), _sparkplug(1, NOW, 100))


def test_sparkplug_data_by_alias_and_history_keep_their_own_times(world: World) -> None:
    _born(world)
    (live,) = world.hear(DEVICE.format("DDATA"), _sparkplug(2, NOW + 5, 101, bare=True))
    (old,) = world.hear(DEVICE.format("DDATA"), _sparkplug(3, NOW - DAY, 90, bare=True, historical=True))
    assert isinstance(live, Reading)
    assert isinstance(old, Reading)
    assert (live.meter, live.read_at, live.values) == ("S-1", NOW + 5, {"volume_standard": 101_000_000})
    assert (old.read_at, old.values) == (NOW - DAY, {"volume_standard": 90_000_000})
    assert world.maker.counters["historical"] == 1


def test_a_gap_of_seq_is_reported_and_the_births_are_asked_for_instead_of_guessing(world: World) -> None:
    _born(world)
    rows = world.hear(DEVICE.format("DDATA"), _sparkplug(5, NOW + 5, 101, bare=True))
    events = [row for row in rows if isinstance(row, Event)]
    assert [(e.kind, e.cause, e.count) for e in events] == [("counter_gap", "seq", 3), ("read_failed", "no_birth", 1)]
    assert not [row for row in rows if isinstance(row, Reading)]
    assert world.batch.rebirths == [("gas", "gw1")]


def test_data_before_any_birth_asks_for_it_but_not_at_every_message(world: World) -> None:
    world.hear(DEVICE.format("DDATA"), _sparkplug(5, NOW, 101, bare=True))
    assert world.batch.rebirths == [("gas", "gw1")]
    world.hear(DEVICE.format("DDATA"), _sparkplug(6, NOW, 102, bare=True))
    assert world.batch.rebirths == []
    world.now += 10_000
    world.hear(DEVICE.format("DDATA"), _sparkplug(7, NOW, 103, bare=True))
    assert world.batch.rebirths == [("gas", "gw1")]


def test_a_death_is_an_event_and_no_value(world: World) -> None:
    _born(world)
    (event,) = world.hear(NODE.format("NDEATH"), sparkplug_b.encode(node_death(0)))
    assert isinstance(event, Event)
    assert (event.kind, event.cause) == ("read_failed", "offline")


# --- bad input


@pytest.mark.parametrize(
    "total",
    ["NaN", "Infinity", "-Infinity", "1e999", '"12"', "1" * 30, "[1]", "{}", '"=1+1"', "true", "0.0000001"],
)
def test_a_number_that_is_none_is_an_event_and_never_a_value(world: World, total: str) -> None:
    rows = world.hear("meters/j1/data", f'{{"n":1,"rows":[{{"t":{NOW},"total_l":{total}}}]}}'.encode())
    assert [type(row) for row in rows] == [Event]
    assert world.maker.counters["broken"] == 1


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b'{"n":1,"n":2}',
        b'{"a":"\\ud800"}',
        b'{"a":"\\u0000"}',
        b"[" * 100_000,
        b'{"n":1,"rows":' + b" " * 300_000 + b"[]}",
        b'{"n":1,"rows":7}',
        b'{"n":-1,"rows":[{"t":1772323200000,"total_l":1}]}',
        b'{"n":1.5,"rows":[{"t":1772323200000,"total_l":1}]}',
    ],
    ids=lambda payload: payload[:20].decode("latin-1"),
)
def test_broken_json_is_an_event_with_its_first_bytes_and_the_next_message_is_read(
    world: World, payload: bytes
) -> None:
    (event,) = world.hear("meters/j1/data", payload)
    assert isinstance(event, Event)
    assert event.kind == "read_failed"
    assert event.text.endswith(f"beginning with {payload[:32].hex() or 'nothing'}")
    assert [type(row) for row in world.json(2, (NOW, 1))] == [Reading]


def test_a_device_on_the_topic_of_another_is_a_security_event(world: World) -> None:
    message = {"deviceInfo": {"devEui": "0202020202020202"}, "time": "2026-03-01T00:00:00Z", "fPort": 10, "data": ""}
    (event,) = world.hear("application/a/device/0101010101010101/event/up", message)
    assert isinstance(event, Event)
    assert (event.kind, event.cause) == ("security", "identity")


@pytest.mark.parametrize(
    "name",
    [
        'x" OR 1=1 --',
        "a,b=c d",
        "\\",
        '"; DROP MEASUREMENT reading',
        "|> drop()",
        "<script>",
        "=cmd()",
        "../../etc",
        "表",
    ],
)
def test_names_that_want_to_be_commands_are_only_names(world: World, name: str) -> None:
    (event,) = world.hear(f"meters/{name.replace('/', '%')}/data", {"n": 1, "rows": [{"t": NOW, "total_l": 1}]})
    assert isinstance(event, Event)
    assert (event.cause, event.meter) == ("unknown_device", "")
    assert name.replace("/", "%") in event.text


def test_topics_nobody_asked_for_are_told_and_cut_short(world: World) -> None:
    for topic in ("$SYS/broker/uptime", "", "a" * 65_000, "meters/j1/data/more"):
        (event,) = world.hear(topic, b"1")
        assert isinstance(event, Event)
        assert event.cause == "stray_topic"
        assert len(event.text) <= 500


def test_every_prefix_of_a_good_message_is_read_or_refused(world: World) -> None:
    whole = json.dumps({"n": 1, "rows": [{"t": NOW, "total_l": 1234}]}).encode()
    for end in range(len(whole)):
        assert not [row for row in world.hear("meters/j1/data", whole[:end]) if isinstance(row, Reading)]
    birth = _sparkplug(1, NOW, 100)
    for end in range(len(birth)):
        for row in world.hear(DEVICE.format("DBIRTH"), birth[:end]):
            assert isinstance(row, Event)
