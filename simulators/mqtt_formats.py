"""Messages as platforms and meters send them, one writer per format; the other direction of `mqtt_dialects`.

Layouts: documentation of ChirpStack v4, The Things Stack v3, wmbusmeters, Huawei IoTDA; the public codec of the UGM
LoRaWAN gas meter; two JSON forms of our own profiles `json-meter` and `json-meter-no-clock`.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from gateway.protocols import lorawan_ugm
from metering.clock import rfc3339
from metering.quantities import Quantity, from_micro
from simulators.mqtt_settings import FormatName

PORT: Final = 10


@dataclass(frozen=True, slots=True)
class Shown:
    """What a meter shows at one moment. at_ms: [ms UTC] by its own clock. values: [10⁻⁶ house units]."""

    at_ms: int
    values: Mapping[Quantity, int]

    @property
    def index(self) -> int:
        """The billed quantity, rounded as the format sends it."""
        return self.values["volume"]


Writer = Callable[[str, int, int, Sequence[Shown]], tuple[str, dict[str, Any]]]
"""(device, counter, now [ms UTC], rows) -> topic and message."""


@dataclass(frozen=True, slots=True)
class Format:
    """step: finest index [10⁻⁶ m³]. tick_ms: finest time. profile: which reads it. own_time: rows tell their time."""

    medium: str
    profile: str
    step: int
    tick_ms: int
    own_time: bool
    write: Writer | None


def chirpstack(device: str, counter: int, now: int, rows: Sequence[Shown]) -> tuple[str, dict[str, Any]]:
    """`event/up` of a UGM gas meter."""
    app = "17c82e96-be03-4f38-aef3-f83d48582d97"
    message = {
        "deduplicationId": f"{device}-{counter}-{now}",
        "time": rfc3339(now),
        "deviceInfo": {"applicationId": app, "deviceName": f"meter {device}", "devEui": device},
        "dr": 1,
        "fCnt": counter,
        "fPort": PORT,
        "data": _ugm(rows),
        "rxInfo": [{"gatewayId": "0016c001f153a14c", "rssi": -36, "snr": 10.5}],
    }
    return f"application/{app}/device/{device}/event/up", message


def ttn(device: str, counter: int, now: int, rows: Sequence[Shown]) -> tuple[str, dict[str, Any]]:
    """`up` of a UGM gas meter; The Things Stack leaves fields out that are 0."""
    uplink = {
        "f_port": PORT,
        **({"f_cnt": counter} if counter else {}),
        "frm_payload": _ugm(rows),
        "rx_metadata": [{"gateway_ids": {"gateway_id": "gtw1"}, "rssi": -35, "snr": 5.2}],
        "settings": {"time": rfc3339(now)},
        "received_at": rfc3339(now),
    }
    message = {
        "end_device_ids": {"device_id": device, "application_ids": {"application_id": "app1"}},
        "correlation_ids": [f"as:up:{device}:{counter}:{now}"],
        "received_at": rfc3339(now),
        "uplink_message": uplink,
    }
    return f"v3/app1@tenant1/devices/{device}/up", message


def wmbusmeters(device: str, counter: int, now: int, rows: Sequence[Shown]) -> tuple[str, dict[str, Any]]:
    """One telegram; it carries one moment only, the last."""
    del counter, now
    last = rows[-1]
    message = {
        "_": "telegram",
        "media": "gas",
        "meter": "elster",
        "name": "",
        "id": device,
        "status": "OK",
        "total_m3": _number(last.index),
        "timestamp": rfc3339(last.at_ms).replace(".000Z", "Z"),
    }
    return f"wmbusmeters/{device}", message


def iotda(device: str, counter: int, now: int, rows: Sequence[Shown]) -> tuple[str, dict[str, Any]]:
    """What the platform pushes on of a device's property report: one service entry per moment."""
    services = [
        {
            "service_id": "WaterMeterBasic",
            "properties": {"currentReading": _number(row.index), "reportNumber": counter},
            "event_time": _compact(row.at_ms),
        }
        for row in rows
    ]
    message = {
        "resource": "device.property",
        "event": "report",
        "event_time": _compact(now),
        "notify_data": {"header": {"device_id": device, "product_id": "water"}, "body": {"services": services}},
    }
    return f"iotda/{device}/report", message


def json_rows(device: str, counter: int, now: int, rows: Sequence[Shown]) -> tuple[str, dict[str, Any]]:
    """The form of the profile `json-meter`."""
    del now
    said = [{"t": row.at_ms, "total_l": _number(row.index * 1000)} for row in rows]
    return f"meters/{device}/data", {"n": counter, "rows": said}


def json_plain(device: str, counter: int, now: int, rows: Sequence[Shown]) -> tuple[str, dict[str, Any]]:
    """The form of the profile `json-meter-no-clock`."""
    del counter, now
    return f"pulse/{device}/state", {"total_m3": _number(rows[-1].index)}


def _compact(at_ms: int) -> str:
    return f"{datetime.fromtimestamp(at_ms // 1000, UTC):%Y%m%dT%H%M%SZ}"


def _number(micro: int) -> float:
    """Up to 15 digits come out of the JSON writer as they went in."""
    return float(from_micro(micro))


def _ugm(rows: Sequence[Shown]) -> str:
    measured = tuple(
        lorawan_ugm.Measurement(
            channel=1,
            time_s=row.at_ms // 1000,
            volume=row.index,
            flow=row.values.get("flow", 0) // 10_000 * 10_000,
            pressure=row.values.get("pressure", 0) // 1_000_000 % 256 * 1_000_000,
            temperature=row.values.get("temperature", 0) // 10_000 * 10_000,
            valve=lorawan_ugm.VALVE_OPEN,
        )
        for row in rows
    )
    return base64.b64encode(lorawan_ugm.encode(lorawan_ugm.Uplink(rows[-1].at_ms // 1000, measured))).decode()


def payload_of(message: dict[str, Any]) -> bytes:
    """Write a message as its bytes."""
    return json.dumps(message, separators=(",", ":")).encode()


FORMATS: Final[dict[FormatName, Format]] = {
    "chirpstack": Format("gas", "ugm-chirpstack", 1000, 1000, True, chirpstack),
    "ttn": Format("gas", "ugm-ttn", 1000, 1000, True, ttn),
    "wmbusmeters": Format("gas", "wmbus-gas", 1000, 1000, True, wmbusmeters),
    "sparkplug": Format("gas", "sparkplug-flow-computer", 1000, 1, True, None),
    "iotda": Format("water", "iotda-water", 1000, 1000, True, iotda),
    "json": Format("water", "json-meter", 1000, 1, True, json_rows),
    "json-no-clock": Format("water", "json-meter-no-clock", 1000, 1, False, json_plain),
}
"""What each format can say. write None: Sparkplug B has a state, see `simulators.mqtt_sparkplug`."""
