"""The Things Stack v3: `v3/{app}@{tenant}/devices/{device}/{up|join|down/...|service/data|location/solved}`.

QoS 0 only, so gaps of f_cnt are watched. Fields that are empty, 0 or false are left out; f_port may be missing.
Source: The Things Stack documentation, data formats and MQTT server.
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
    """Read one message. Raises: FrameError."""
    message = decode(topic, payload)
    return to_message(message, profile) if isinstance(message, Uplink) else message


def decode(topic: str, payload: bytes) -> Uplink | Notice:
    """Take one message apart: an uplink, or a notice of anything else.

    Raises: FrameError, sort "topic", "identity", "json", "time".
    """
    levels = topic.split("/")
    if len(levels) < 5 or levels[0] != "v3" or levels[2] != "devices" or not levels[3]:
        raise FrameError(f"topic {topic[:80]!r} is none of The Things Stack", sort="topic")
    said = shapes.table(strict_json.loads(payload))
    device = shapes.text(said, "end_device_ids.device_id")
    if device != levels[3]:
        raise FrameError(f"device {device[:36]} speaks on the topic of {levels[3][:36]}", sort="identity")
    kind = "/".join(levels[4:])
    if kind != "up" or lookup(said, "uplink_message") is MISSING:
        return Notice(device, kind, "", {"time": shapes.text(said, "received_at", "")})
    return _uplink(said, device)


def _uplink(said: Any, device: str) -> Uplink:
    """The gateway's own time is nearest to the device; a gateway without clock leaves only the server's."""
    shapes.table(said, "uplink_message")
    server_time = shapes.text(said, "uplink_message.received_at", "") or shapes.text(said, "received_at")
    time = shapes.text(said, "uplink_message.settings.time", "")
    time = time or shapes.text(said, "uplink_message.rx_metadata.0.time", "") or server_time
    decoded = lookup(said, "uplink_message.decoded_payload")
    return Uplink(
        device=device,
        dev_eui=shapes.text(said, "end_device_ids.dev_eui", ""),
        f_port=shapes.whole(said, "uplink_message.f_port", None),
        f_cnt=shapes.whole(said, "uplink_message.f_cnt", 0) or 0,
        payload=shapes.octets(said, "uplink_message.frm_payload"),
        decoded=None if decoded is MISSING else decoded,
        time=time,
        time_ms=to_ms(time, "rfc3339"),
        dedup=_dedup(said),
        rssi=shapes.number(said, "uplink_message.rx_metadata.0.rssi"),
        snr=shapes.number(said, "uplink_message.rx_metadata.0.snr"),
        server_time=server_time,
    )


def _dedup(said: Any) -> str:
    """The first correlation id that names this uplink."""
    ids = lookup(said, "correlation_ids")
    return next((id for id in ids if isinstance(id, str)), "") if isinstance(ids, list) else ""
