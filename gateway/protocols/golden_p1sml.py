"""Puts what the P1 and SML decoders say into the words of golden files."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC
from decimal import Decimal
from typing import Any, Final

from gateway.protocols import dsmr_p1, sml
from gateway.protocols.framing import split as split_stream
from metering.quantities import Quantity, from_micro

_KILO: Final = {"Wh": Decimal("0.001"), "W": Decimal("0.001"), "MWh": Decimal(1000), "MW": Decimal(1000)}
_P1_VALUES: Final = {
    "import_kwh": "1-0:1.8.0",
    "import_t1_kwh": "1-0:1.8.1",
    "import_t2_kwh": "1-0:1.8.2",
    "import_t3_kwh": "1-0:1.8.3",
    "import_t4_kwh": "1-0:1.8.4",
    "export_kwh": "1-0:2.8.0",
    "export_t1_kwh": "1-0:2.8.1",
    "export_t2_kwh": "1-0:2.8.2",
    "export_t3_kwh": "1-0:2.8.3",
    "export_t4_kwh": "1-0:2.8.4",
    "power_kw": "1-0:1.7.0",
    "export_power_kw": "1-0:2.7.0",
    "power_l1_kw": "1-0:21.7.0",
    "power_l2_kw": "1-0:41.7.0",
    "power_l3_kw": "1-0:61.7.0",
    "export_power_l1_kw": "1-0:22.7.0",
    "export_power_l2_kw": "1-0:42.7.0",
    "export_power_l3_kw": "1-0:62.7.0",
    "voltage_l1": "1-0:32.7.0",
    "voltage_l2": "1-0:52.7.0",
    "voltage_l3": "1-0:72.7.0",
    "current_l1": "1-0:31.7.0",
    "current_l2": "1-0:51.7.0",
    "current_l3": "1-0:71.7.0",
}


def adapt(protocol: str, raw: bytes, entry: Mapping[str, Any]) -> dict[str, Any]:
    """See `gateway.protocols.golden`. Raises: ProtocolError."""
    return _sml(sml.decode(raw)) if protocol == "sml" else _p1(dsmr_p1.decode(raw))


def split(protocol: str, raw: bytes) -> list[bytes]:
    """Return the transmissions in a recording."""
    splitter = sml.splitter() if protocol == "sml" else dsmr_p1.splitter()
    return [item.raw for item in split_stream(splitter, raw)]


def _p1(telegram: dsmr_p1.Telegram) -> dict[str, Any]:
    said: dict[str, Any] = {
        "ident": telegram.ident,
        "crc": telegram.crc,
        "equipment": telegram.text("0-0:96.1.1") or telegram.text("0-0:96.1.0"),
        "version": telegram.text("1-3:0.2.8") or telegram.text("0-0:96.1.4"),
        "tariff": telegram.text("0-0:96.14.0"),
        **_time(telegram.time),
        "mbus": [_sub_meter(meter) for meter in telegram.sub_meters],
        "readings": _texts(dsmr_p1.house_values(telegram)),
    }
    for key, code in _P1_VALUES.items():
        value = telegram.value(code)
        if value is not None:
            said[key] = value.number * _KILO.get(value.unit, Decimal(1))
    return said


def _time(time: dsmr_p1.P1Time | None) -> dict[str, str]:
    if time is None:
        return {}
    if time.moment.tzinfo is None:
        return {"time_local": time.moment.isoformat()}
    return {"time_utc": time.moment.astimezone(UTC).isoformat().replace("+00:00", "Z")}


def _sub_meter(meter: dsmr_p1.SubMeter) -> dict[str, Any]:
    said: dict[str, Any] = {"channel": meter.channel, "type": meter.type, "id": meter.id or None}
    if meter.value is not None:
        said |= _time(meter.time)
        said |= {"value": meter.value.number, "unit": meter.value.unit, "converted": meter.converted}
        said["readings"] = _texts(dsmr_p1.sub_meter_values(meter))
    return said


def _sml(file: sml.File) -> dict[str, Any]:
    values = {e.obis: [e.number, e.unit or None] for e in file.entries if e.number is not None}
    texts = {e.obis: e.raw.hex().upper() for e in file.entries if isinstance(e.raw, bytes)}
    return {
        "server": file.server,
        "values": values,
        "texts": texts,
        "inner_crc_right": all(message.crc_right for message in file.messages),
        "readings": _texts(sml.house_values(file)),
    }


def _texts(values: dict[Quantity, int]) -> dict[str, str]:
    return {quantity: from_micro(micro) for quantity, micro in values.items()}
