"""MQTT messages of platforms: `(topic, payload, profile) -> Readings | Notice`, one small parser per dialect.

A message that cannot be true (broken JSON, a number as text, a device on another's topic) raises a FrameError; an
event that carries no reading is a Notice.
"""

from collections.abc import Callable
from typing import Final

from gateway.protocols.mqtt_dialects import chirpstack, generic, huawei_iotda, ttn, wmbusmeters
from gateway.protocols.mqtt_dialects.messages import Counter, Message, Notice, Readings, Sample
from gateway.protocols.mqtt_dialects.profile import JsonField, JsonProfile, TimeRule

Parser = Callable[[str, bytes, JsonProfile], Message]

DIALECTS: Final[dict[str, Parser]] = {
    "mqtt-chirpstack-v4": chirpstack.parse,
    "mqtt-ttn-v3": ttn.parse,
    "mqtt-wmbusmeters": wmbusmeters.parse,
    "mqtt-huawei-iotda": huawei_iotda.parse,
    "mqtt-json": generic.parse,
}
"""Parsers by the protocol's name. Sparkplug B has a state and is not among them: see `sparkplug_state`."""

__all__ = [
    "DIALECTS",
    "Counter",
    "JsonField",
    "JsonProfile",
    "Message",
    "Notice",
    "Parser",
    "Readings",
    "Sample",
    "TimeRule",
]
