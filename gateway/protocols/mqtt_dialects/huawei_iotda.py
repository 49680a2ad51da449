"""Huawei IoTDA: property reports of a device, and what the platform pushes on.

    $oc/devices/{id}/sys/properties/report   {"services": [{"service_id", "properties", "event_time"?}]}
    server push, any topic                   {"notify_data": {"header": {"device_id"}, "body": {"services": [...]}}}

Every service keeps its own event_time ("20151212T121212Z"). The profile's paths begin with the service's id:
"WaterMeterBasic.totalFlow". Source: Huawei IoTDA documentation, device property reporting and data forwarding.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from gateway.protocols import strict_json
from gateway.protocols.mqtt_dialects import shapes
from gateway.protocols.mqtt_dialects.generic import read_counter
from gateway.protocols.mqtt_dialects.messages import Message, Notice, Readings, Sample
from gateway.protocols.mqtt_dialects.profile import MISSING, JsonProfile, lookup, read_fields, read_time
from gateway.protocols.mqtt_dialects.times import to_ms
from metering.errors import FrameError

_MAX_SERVICES: Final = 1000


@dataclass(frozen=True, slots=True)
class Service:
    """One report of one service. time: as sent, "" when it came without."""

    id: str
    properties: dict[str, Any]
    time: str

    @property
    def time_ms(self) -> int | None:
        """[ms UTC]. Raises: FrameError, sort "time"."""
        return to_ms(self.time, "compact") if self.time else None


@dataclass(frozen=True, slots=True)
class Report:
    """All services of one message, in the order sent."""

    device: str
    services: tuple[Service, ...]


def parse(topic: str, payload: bytes, profile: JsonProfile) -> Message:
    """Read one report; services of one time make one sample. Raises: FrameError."""
    report = decode(topic, payload)
    if isinstance(report, Notice):
        return report
    moments: dict[int | None, dict[str, dict[str, Any]]] = {}
    for service in report.services:
        moments.setdefault(service.time_ms, {}).setdefault(service.id, {}).update(service.properties)
    samples = []
    for moment, said in moments.items():
        values = read_fields(said, profile.fields)
        own = read_time(said, profile.time)
        if values:
            samples.append(Sample(values, moment if own is None else own))
    if not samples:
        return Notice(report.device, "report", "no value that the profile knows")
    return Readings(report.device, tuple(samples), _counter(moments, profile))


def _counter(moments: dict[int | None, dict[str, dict[str, Any]]], profile: JsonProfile) -> Any:
    return next((found for said in moments.values() if (found := read_counter(said, profile))), None)


def decode(topic: str, payload: bytes) -> Report | Notice:
    """Take one message apart. Raises: FrameError, sort "topic", "identity", "json"."""
    said = shapes.table(strict_json.loads(payload))
    levels = topic.split("/")
    if levels[:2] == ["$oc", "devices"] and len(levels) > 3:
        if levels[3:] != ["sys", "properties", "report"]:
            return Notice(levels[2], "/".join(levels[3:]))
        return Report(levels[2], _services(said))
    if lookup(said, "notify_data") is MISSING:
        raise FrameError(f"topic {topic[:80]!r} and message are none of Huawei IoTDA", sort="topic")
    device = shapes.text(said, "notify_data.header.device_id")
    body = shapes.table(said, "notify_data.body")
    return Report(device, _services(body)) if "services" in body else Notice(device, shapes.text(said, "event", ""))


def _services(said: Any) -> tuple[Service, ...]:
    rows = lookup(said, "services")
    if not isinstance(rows, list) or len(rows) > _MAX_SERVICES:
        raise FrameError("services is no list, or too long a list")
    return tuple(_service(row) for row in rows)


def _service(row: Any) -> Service:
    time = shapes.text(row, "event_time", "")
    return Service(shapes.text(row, "service_id"), shapes.table(row, "properties"), time)
