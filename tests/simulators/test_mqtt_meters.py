"""Simulated MQTT meters against the driver, through a real Mosquitto: each format, what is lost, what comes twice."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from metering.mqtt import BrokerSettings
from metering.quantities import Quantity
from simulators.answer_log import Answer, read_answers
from simulators.mqtt_formats import FORMATS
from simulators.mqtt_meters import MqttMeters as Simulated
from simulators.mqtt_settings import FormatName, MqttMeterSettings, MqttMetersSettings
from tests.brokers import mosquitto
from tests.brokers import running as running_broker
from tests.gateway.drivers.field import CLOCK, Kept, plan, running, running_driver, until

DEVICES = {"sparkplug": "gas/gw1/d-1", "chirpstack": "0004a30b001c0530"}
START = 5_000_000_000
"""[10⁻⁶ m³]"""


def _device(name: FormatName) -> str:
    return DEVICES.get(name, f"dev-{name}")


@dataclass
class Heard:
    """What all formats said at the same time, and what was kept of it."""

    said: dict[str, list[Answer]]
    kept: Kept


def _meter(name: FormatName) -> MqttMeterSettings:
    return MqttMeterSettings(
        meter=f"M-{name}", format=name, device=_device(name), interval_s=1.02, curve="counting", start_index=START
    )


def _served(log: Path, meter: str) -> list[Answer]:
    if not log.exists():
        return []
    return [answer for answer in read_answers(log) if answer.outcome == "ok" and answer.meter == meter]


async def _serve(folder: Path, port: int, meters: list[MqttMeterSettings], kept: Kept) -> dict[str, list[Answer]]:
    """Let simulated meters talk to the driver until each has two answers in the log, and all are kept."""
    log = folder / "answers.tsv"
    buses = plan(*((meter.meter, meter.device, FORMATS[meter.format].profile) for meter in meters))
    broker = BrokerSettings(port=port)
    settings = MqttMetersSettings(meter=tuple(meters), broker=broker, log=log, wait_for_host="metergate-gw-1")
    async with running_driver(folder, buses, port, kept):
        async with running(Simulated(settings, CLOCK).run()):
            await until(lambda: all(len(_served(log, m.meter)) >= 2 for m in meters), "all meters have spoken twice")
        said = {meter.meter: _served(log, meter.meter) for meter in meters}
        count = sum(map(len, said.values()))
        await until(lambda: len(kept.keys) >= count, f"{count} answers are kept; {len(kept.keys)}, {kept.rows[-3:]}")
    return said


@pytest.fixture(scope="module")
def heard(tmp_path_factory: pytest.TempPathFactory) -> Heard:
    folder, kept = tmp_path_factory.mktemp("meters"), Kept()
    with running_broker(mosquitto(folder / "broker")) as broker:
        said = asyncio.run(_serve(folder, broker.port, [_meter(name) for name in FORMATS], kept))
    return Heard(said, kept)


@pytest.mark.parametrize("name", sorted(FORMATS))
def test_what_a_meter_of_each_format_says_is_kept_to_the_last_digit(heard: Heard, name: FormatName) -> None:
    rows = [row for row in heard.kept.readings if row.meter == f"M-{name}"]
    index: Quantity = "volume_standard" if name == "sparkplug" else "volume"
    said = sorted((a.index, a.at_ms) for a in heard.said[f"M-{name}"] if a.index is not None)
    found = sorted((row.values[index], row.read_at) for row in rows)
    assert [i for i, _ in found] == [i for i, _ in said]
    assert said[0][0] == START
    if FORMATS[name].own_time:
        assert [at for _, at in found] == [at for _, at in said]
        assert {row.quality for row in rows} == {"valid"}
    else:
        assert {(row.quality, row.reason) for row in rows} == {("suspect", "no_time")}
    assert {row.source for row in rows} == {"push"}


def test_nothing_is_missing_and_nothing_unknown_while_all_formats_speak(heard: Heard) -> None:
    assert heard.kept.events() == []


def _odd(name: str, **more: Any) -> MqttMeterSettings:
    return MqttMeterSettings.model_validate(
        {
            "meter": f"M-{name}", "format": "json", "device": name, "interval_s": 0.1, "curve": "counting",
            "start_index": START, **more,
        }
    )  # fmt: skip


async def _serve_odd(folder: Path, port: int, meters: list[MqttMeterSettings], kept: Kept) -> None:
    log = folder / "answers.tsv"
    broker = BrokerSettings(port=port)
    settings = MqttMetersSettings(meter=tuple(meters), broker=broker, log=log)
    async with running_driver(
        folder, plan(*((m.meter, m.device, "json-meter") for m in meters)), port, kept
    ) as driver:
        async with running(Simulated(settings, CLOCK).run()):
            await until(lambda: all(len(_served(log, m.meter)) >= 12 for m in meters), "all meters have spoken")
        count = sum(len(_served(log, m.meter)) for m in meters)
        await until(lambda: len(kept.keys) >= count, f"{count} answers are kept; {len(kept.keys)}, {kept.rows[-3:]}")
        heard = driver.session.counters
        await until(lambda: driver.rows.counters["acknowledged"] == heard["received"], "the broker is told of all")
        assert driver.rows.counters["retained"] == 0, "kept by the broker, yet new for who is there"
    later = Kept()
    async with running_driver(folder, driver.buses, port, later) as again:
        await until(lambda: again.rows.counters["retained"] == 1, "the kept message is shown again at a connection")
        assert "M-kept" not in {meter for meter, _ in later.keys}
        assert set(later.keys) <= set(kept.keys), "a doubled message that was still on its way, and nothing else"


def test_lost_doubled_late_and_wrongly_timed_messages_are_told_apart(tmp_path: Path) -> None:
    meters = [
        _odd("drops", drop=0.4, qos=0),
        _odd("doubles", duplicate=1.0),
        _odd("history", rows=3, interval_s=0.3),
        _odd("dead", clock_dead=True, duplicate=0.5),
        _odd("ahead", clock_error_s=600),
        _odd("kept", retain=True),
    ]
    kept = Kept()
    with running_broker(mosquitto(tmp_path / "broker")) as broker:
        asyncio.run(_serve_odd(tmp_path, broker.port, meters, kept))
    for meter in meters:
        said = sorted(answer.index for answer in _served(tmp_path / "answers.tsv", meter.meter) if answer.index)
        rows = {row.read_at: row for row in kept.readings if row.meter == meter.meter}  # as the key decides
        assert sorted(row.values["volume"] for row in rows.values()) == said, meter.meter
        reasons = {"M-dead": {"time_past"}, "M-ahead": {"time_future"}}.get(meter.meter, {""})
        assert {row.reason for row in rows.values()} == reasons
    dropped = [a for a in read_answers(tmp_path / "answers.tsv") if a.outcome == "dropped"]
    gaps = kept.events("counter_gap")
    assert {event.meter for event in gaps} <= {"M-drops"}
    assert 0 < sum(event.count for event in gaps) <= len(dropped)
