"""ChirpStack v4 events: `application/{app}/device/{devEui}/event/{up|join|status|ack|txack|log|location|...}`.

Fields that are zero or false may be missing: absent means 0, not unknown. A device's message heard by several
gateways has one deduplicationId. Source: ChirpStack documentation, integrations, events.
"""

from __future__ import annotations

from typing import Any

from gateway.protocols import strict_json
from gateway.protocols.mqtt_dialects import shapes
from gateway.protocols.mqtt_dialects.lorawan import Uplink, to_message
from gateway.protocols.mqtt_dialects.messages import Message, Notice
from gateway.protocols.mqtt_dialects.profile import MISSING, JsonProfile, lookup
from gateway.protocols.mqtt_dialects.times import to_ms
from metering.errors import FrameError


def parse(topic: str, payload: bytes, profile: JsonProfile) -> Message:
    """Read one event. Raises: FrameError."""
    event = decode(topic, payload)
    return to_message(event, profile) if isinstance(event, Uplink) else event


def decode(topic: str, payload: bytes) -> Uplink | Notice:
    """Take one event apart: an uplink, or a notice of any other event.

    Raises: FrameError, sort "topic", "identity", "json", "time".
    """
    levels = topic.split("/")
    if len(levels) != 6 or (levels[0], levels[2], levels[4]) != ("application", "device", "event"):
        raise FrameError(f"topic {topic[:80]!r} is no event of ChirpStack", sort="topic")
    said = shapes.table(strict_json.loads(payload))
    device = shapes.text(said, "deviceInfo.devEui")
    if device.lower() != levels[3].lower():
        raise FrameError(f"device {device[:32]} speaks on the topic of {levels[3][:32]}", sort="identity")
    if levels[5] != "up":
        return Notice(
            device, levels[5], shapes.text(said, "description", ""), {"time": shapes.text(said, "time", "")}
        )
    return _uplink(said, device)


def _uplink(said: Any, device: str) -> Uplink:
    time = shapes.text(said, "time")
    decoded = lookup(said, "object")
    return Uplink(
        device=device,
        dev_eui=device,
        f_port=shapes.whole(said, "fPort", 0),
        f_cnt=shapes.whole(said, "fCnt", 0) or 0,
        payload=shapes.octets(said, "data"),
        decoded=None if decoded is MISSING else decoded,
        time=time,
        time_ms=to_ms(time, "rfc3339"),
        dedup=shapes.text(said, "deduplicationId", ""),
        rssi=shapes.number(said, "rxInfo.0.rssi"),
        snr=shapes.number(said, "rxInfo.0.snr"),
    )
