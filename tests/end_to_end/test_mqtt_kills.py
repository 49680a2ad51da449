"""Promises 1 and 2 for meters that send by themselves: the gateway is killed (-9) under load, again and again.

The judge is the simulators' own log. What a QoS 1 meter said is in the store exactly once, also what it said while no
gateway was there: the broker held it. What QoS 0 meters said meanwhile is gone, and counted by `counter_gap` events.
"""

from __future__ import annotations

import json
import random
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import sqlalchemy as sa

from metergate.commands.demo import billed_quantities
from metergate.house import build
from metergate.house_mqtt import MQTT_METERS_FILE
from metergate.judge import judge
from registry.database import Database
from registry.models import EventRecord
from simulators.answer_log import Answer
from tests.brokers import mosquitto
from tests.end_to_end.town import CLOCK, COUNTING, Town, until

METERS, KILLS, SEED = 28, 3, 20262
INTERVAL_S = 0.1
"""No faster than the finest clock of a format: those of whole seconds are slowed down below."""
HELD = "max_queued_messages 100000\n"


@contextmanager
def _town(folder: Path) -> Iterator[Town]:
    """A house with quick MQTT meters; Sparkplug meters stay out of it, see `test_mqtt_meters`."""
    house = build(folder, meters=6, interval_s=1, kinds=COUNTING, mqtt_meters=METERS, mqtt_curve="counting")
    path = folder / MQTT_METERS_FILE
    settings = json.loads(path.read_text("utf-8"))
    settings["meter"] = [meter for meter in settings["meter"] if meter["format"] != "sparkplug"]
    for meter in settings["meter"]:
        meter["interval_s"] = INTERVAL_S if meter["format"].startswith("json") else 1.0
    path.write_text(json.dumps(settings), "utf-8")
    text = house.settings.read_text("utf-8")
    house.settings.write_text(
        text.replace("health_interval_s = 1.0\n", "health_interval_s = 0.2\nack_timeout_s = 3.0\n"), "utf-8"
    )
    place = Town(house, mosquitto(folder / "broker", HELD, port=house.broker_port))
    try:
        yield place
    finally:
        place.stop("mqtt-meters", "gateway", "ingest", "meters", "broker")


def _kill_under_load(place: Town) -> None:
    chance = random.Random(SEED)
    for _ in range(KILLS):
        time.sleep(chance.uniform(0.2, 0.8))
        place.in_a_write("gateway", within_s=1.0)
        place.kill("gateway")
        time.sleep(chance.uniform(0.8, 1.5))
        before = place.stored()
        place.start("gateway")
        until(lambda before=before: place.stored() > before, lambda: f"readings flow again\n{place.words()}")  # type: ignore[misc]  # the default binds this round's value


def _hear_everybody(place: Town, since: int) -> None:
    """Wait until each QoS 0 meter is heard: what was lost between two of its messages shows at the second."""
    wanted = sum(_is_qos_0(meter) for meter in billed_quantities(place.house))

    def heard() -> bool:
        late = {r.meter for r in place.readings() if r.read_at > since and _is_qos_0(r.meter)}
        return len(late) == wanted

    until(heard, lambda: f"all {wanted} QoS 0 meters are heard\n{place.words()}")


def _gaps(place: Town) -> Counter[str]:
    database = Database(place.house.registry_url)
    try:
        with database.read() as connection:
            rows = connection.execute(
                sa.select(EventRecord.meter, EventRecord.count).where(EventRecord.kind == "counter_gap")
            )
            found: Counter[str] = Counter()
            for meter, count in rows:
                found[meter] += count
            return found
    finally:
        database.close()


@pytest.mark.timeout(900)
def test_a_killed_gateway_loses_nothing_that_the_broker_held(tmp_path: Path) -> None:
    with _town(tmp_path / "town") as place:
        place.start("broker", "ingest", "gateway")
        until(lambda: place.health().get("counters", {}).get("field_mqtt_connects", 0) > 0, place.words)
        place.start("mqtt-meters")
        until(lambda: place.stored() > 0, lambda: f"a first reading is stored\n{place.words()}")
        _hear_everybody(place, 0)
        _kill_under_load(place)
        _hear_everybody(place, CLOCK.now_ms())
        place.stop("mqtt-meters")
        silent_at = CLOCK.now_ms()
        answers = list(place.house.read_answers())
        until(
            lambda: _settled(place, answers, silent_at),
            lambda: f"all is stored; {place.health()}\n{place.words()}",
        )
        verdict = judge(
            [answer for answer in answers if not _is_qos_0(answer.meter)],
            [reading for reading in place.readings() if not _is_qos_0(reading.meter)],
            billed_quantities(place.house),
        )
        print(f"\n{KILLS} kills: {verdict}; {place.health()['counters']}")
        assert verdict.clean, f"{verdict}\n{verdict.lost[:5]}\n{verdict.invented[:5]}"
        assert verdict.stored > 100
        _check_qos_0(place, answers)


def _check_qos_0(place: Town, answers: list[Answer]) -> None:
    """What of the QoS 0 meters is not stored is reported by its counter; a gap may be told twice."""
    said = Counter(answer.meter for answer in answers if _is_qos_0(answer.meter))
    kept = Counter(reading.meter for reading in place.readings() if _is_qos_0(reading.meter))
    gaps = _gaps(place)
    missing = {meter: said[meter] - kept[meter] for meter in said}
    print(f"QoS 0: missing {sum(missing.values())}, reported {sum(gaps.values())}")
    assert sum(missing.values()) > 0, "the kills hit nobody"
    for meter, count in missing.items():
        # a kill between the commit of rows and that of counters tells the gap before it a second time
        assert count <= gaps[meter] <= 2 * count + KILLS, f"{meter}: {count} missing, {gaps[meter]} reported"


def _settled(place: Town, answers: list[Answer], silent_at: int) -> bool:
    health = place.health()
    wanted = sum(1 for answer in answers if not _is_qos_0(answer.meter) and answer.outcome == "ok")
    return (
        bool(health)
        and health["at"] > silent_at + 500
        and not health["waiting"] + health["in_memory"]
        and sum(_gaps(place).values()) >= health["counters"]["field_missing"]
        and sum(1 for reading in place.readings() if not _is_qos_0(reading.meter)) >= wanted
    )


def _is_qos_0(meter: str) -> bool:
    return int(meter.rsplit("-", 1)[1]) % 7 == 2 and "-MQ-" in meter  # every seventh speaks The Things Stack
