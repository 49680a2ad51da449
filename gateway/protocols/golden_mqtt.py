"""Puts what the MQTT, Sparkplug and LoRaWAN decoders say into the words of golden files."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any, Final

from gateway.protocols import lorawan_ugm, sparkplug_b
from gateway.protocols.mqtt_dialects import JsonProfile, Notice, Readings, chirpstack, huawei_iotda, ttn, wmbusmeters
from gateway.protocols.mqtt_dialects.lorawan import Uplink, to_message
from metering.quantities import from_micro


def adapt(protocol: str, raw: bytes, entry: Mapping[str, Any]) -> dict[str, Any]:
    """See `gateway.protocols.golden`. entry.topic: of the message; context.f_port: of a LoRaWAN payload.

    Raises: ProtocolError.
    """
    if protocol == "lorawan-ugm":
        return _ugm(lorawan_ugm.decode(raw, (entry.get("context") or {}).get("f_port", lorawan_ugm.DATA_PORTS[0])))
    return _ADAPTERS[protocol](str(entry.get("topic", "")), raw)


def _chirpstack(topic: str, raw: bytes) -> dict[str, Any]:
    event = chirpstack.decode(topic, raw)
    if isinstance(event, Notice):
        return {"event": event.kind, "dev_eui": event.device, "no_reading": True, **event.facts}
    return {"event": "up", **_uplink(event)}


def _ttn(topic: str, raw: bytes) -> dict[str, Any]:
    message = ttn.decode(topic, raw)
    if isinstance(message, Notice):
        return {"event": message.kind, "device_id": message.device, "no_reading": True, **message.facts}
    return {"event": "up", "device_id": message.device, **_uplink(message), "server_time": message.server_time}


def _uplink(uplink: Uplink) -> dict[str, Any]:
    said = {
        "dev_eui": uplink.dev_eui,
        "dedup": uplink.dedup,
        "time": uplink.time,
        "f_port": uplink.f_port,
        "f_cnt": uplink.f_cnt,
        "payload_hex": uplink.payload.hex(),
        "decoded": uplink.decoded,
        "rssi": uplink.rssi,
        "snr": uplink.snr,
    }
    size = len(uplink.payload)
    if uplink.payload[:2] == b"\xff\x1e" and size > 6 and (size - 6) % 21 == 0:  # the one binary layout that we know
        message = to_message(uplink, JsonProfile(codec="lorawan-ugm"))
        if isinstance(message, Readings):
            said["readings"] = {q: from_micro(micro) for q, micro in message.samples[-1].values.items()}
    return said


def _wmbusmeters(topic: str, raw: bytes) -> dict[str, Any]:
    telegram = wmbusmeters.decode(topic, raw)
    message = wmbusmeters.parse(topic, raw, JsonProfile())
    readings = message.samples[0].values if isinstance(message, Readings) else {}
    return {
        **telegram.said,
        "meter_id": telegram.meter_id,
        "medium": telegram.medium,
        "driver": telegram.driver,
        "name": telegram.name,
        "time": telegram.time,
        "status": telegram.status,
        "readings": {quantity: from_micro(micro) for quantity, micro in readings.items()},
    }


def _huawei(topic: str, raw: bytes) -> dict[str, Any]:
    report = huawei_iotda.decode(topic, raw)
    if isinstance(report, Notice):
        return {"device_id": report.device, "event": report.kind, "no_reading": True}
    values: dict[str, Any] = {}
    for service in report.services:
        values |= service.properties
    times = [service.time for service in report.services if service.time]
    said = {"device_id": report.device, "services": [service.id for service in report.services], "values": values}
    return said | {"time": times[-1] if times else None, "event_time": times[-1] if times else None}


def _sparkplug(topic: str, raw: bytes) -> dict[str, Any]:
    where = sparkplug_b.parse_topic(topic) if topic else None
    if where is not None and where.type == "STATE":
        return {"type": "STATE", "host": where.edge, "online": sparkplug_b.decode_state(raw)}
    payload = sparkplug_b.decode(raw)
    said: dict[str, Any] = {
        "seq": payload.seq,
        "timestamp": payload.timestamp,
        "metrics": [_metric(metric) for metric in payload.metrics],
        "aliases": [metric.alias for metric in payload.metrics],
        "historical": [metric.historical for metric in payload.metrics],
    }
    if where is not None:
        said |= {"type": where.type, "group": where.group, "edge": where.edge, "device": where.device or None}
    return said


def _metric(metric: sparkplug_b.Metric) -> list[Any]:
    value = sparkplug_b.value_of(metric)
    if isinstance(value, Decimal):
        value = float(value)  # type: ignore[assignment]  # golden files hold floats, compared with a tolerance
    elif isinstance(value, bytes):
        value = value.hex()
    return [metric.name or metric.alias, sparkplug_b.datatype_name(metric.datatype), value]


def _ugm(uplink: lorawan_ugm.Uplink) -> dict[str, Any]:
    last = uplink.measurements[-1].house_values() if uplink.measurements else {}
    return {
        "device_time": uplink.time_s,
        "measurements": [_measurement(row) for row in uplink.measurements],
        "readings": {quantity: from_micro(micro) for quantity, micro in last.items()},
    }


def _measurement(row: lorawan_ugm.Measurement) -> dict[str, Any]:
    return {
        "channel": row.channel,
        "time": row.time_s,
        "volume_m3": Decimal(row.volume).scaleb(-6),
        "flow_m3h": Decimal(row.flow).scaleb(-6),
        "pressure_kpa": Decimal(row.pressure).scaleb(-6),
        "temperature_c": Decimal(row.temperature).scaleb(-6),
        "valve": {0: "open", 1: "closed"}.get(row.valve, f"unknown ({row.valve:02X})"),
    }


_ADAPTERS: Final[dict[str, Callable[[str, bytes], dict[str, Any]]]] = {
    "mqtt-chirpstack-v4": _chirpstack,
    "mqtt-ttn-v3": _ttn,
    "mqtt-wmbusmeters": _wmbusmeters,
    "mqtt-huawei-iotda": _huawei,
    "sparkplug-b": _sparkplug,
}
