"""The MQTT meters of a house: one platform after the other, their books and their simulators' settings."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from metering.mqtt import BrokerSettings
from simulators.mqtt_formats import FORMATS
from simulators.mqtt_settings import FormatName, MqttMeterSettings, MqttMetersSettings

MQTT_METERS_FILE: Final = "mqtt-meters.json"
_ORDER: Final[tuple[FormatName, ...]] = (
    "chirpstack",
    "ttn",
    "wmbusmeters",
    "sparkplug",
    "iotda",
    "json",
    "json-no-clock",
)
_QOS_0: Final = ("ttn", "sparkplug")
"""The Things Stack knows no other, Sparkplug B wants no other."""


def mqtt_rows(count: int, gateway: str, interval_s: int) -> list[dict[str, str]]:
    """Return the lines of the meters file: `address` is the device's name on the field broker."""
    return [_row(number, _ORDER[number % len(_ORDER)], gateway, interval_s) for number in range(count)]


def _row(number: int, name: FormatName, gateway: str, interval_s: int) -> dict[str, str]:
    form = FORMATS[name]
    return {
        "meter_id": f"{'G' if form.medium == 'gas' else 'W'}-MQ-{number + 1:04}",
        "medium": form.medium,
        "customer_class": "residential",
        "profile": form.profile,
        "gateway": gateway,
        "bus": f"mqtt-{name}",
        "bus_kind": "mqtt",
        "host": "",
        "port": "",
        "address": _device(name, number),
        "interval_s": str(interval_s),
        "serial": f"{2026_900_000 + number}",
        "district": "D1",
        "tz": "Asia/Shanghai",
    }


def _device(name: FormatName, number: int) -> str:
    if name == "sparkplug":
        return f"gas/gw1/fc-{number + 1}"
    return f"0004a30b{number + 1:08x}" if name == "chirpstack" else f"{name}-{number + 1}"


def mqtt_settings(rows: list[dict[str, str]], port: int, log: Path, host: str, curve: str) -> str:
    """Return the simulators' settings as JSON, for those of `rows` that send by themselves.

    host: the Sparkplug host whose STATE they wait for. curve: of all meters, "" for what people use.
    """
    meters = tuple(_meter(row, curve) for row in rows if row["bus_kind"] == "mqtt")
    settings = MqttMetersSettings(
        meter=meters, broker=BrokerSettings(port=port), seed=2026, log=log, wait_for_host=host
    )
    return settings.model_dump_json(indent=1, exclude_defaults=True)


def _meter(row: dict[str, str], curve: str) -> MqttMeterSettings:
    name = next(name for name in _ORDER if row["bus"] == f"mqtt-{name}")
    return MqttMeterSettings(
        meter=row["meter_id"],
        format=name,
        device=row["address"],
        interval_s=float(row["interval_s"]),
        qos=0 if name in _QOS_0 else 1,
        curve=curve or ("household_water" if row["medium"] == "water" else "household_gas"),
        rows=2 if name == "json" else 1,
    )
