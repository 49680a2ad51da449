"""Puts what the M-Bus decoders say into the words of golden files, which are those of rscada/libmbus.

Differences to our own words: a record behind a VIFE that turns it into a duration, a count or a date keeps the name
and the unit of its VIF; codes that libmbus's table does not have are "Reserved"; what stands behind DIF 0F or 1F is
one more record; a number is a float, and a text or a vendor byte that looks like a number is one too.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any, Final

from gateway.protocols import mbus, wmbus
from gateway.protocols.framing import split as split_stream
from gateway.protocols.mbus.fixed import Counter
from gateway.protocols.mbus.records import Record, Records, scaled
from gateway.protocols.mbus.values import encode_number
from gateway.protocols.mbus.vif import EXTENSION_FB, EXTENSION_FD, RESERVED, Unit
from metering.quantities import from_micro

_FUNCTIONS: Final = {
    "instantaneous": "Instantaneous value",
    "maximum": "Maximum value",
    "minimum": "Minimum value",
    "error": "Value during error state",
}
_NUMBER: Final = re.compile(r"\s*[+-]?\d+(\.\d*)?\s*")
_NOT_IN_LIBMBUS: Final = tuple(
    id(unit)
    for unit in (EXTENSION_FD[0x30], EXTENSION_FD[0x71], EXTENSION_FD[0x74], EXTENSION_FB[0x1A], EXTENSION_FB[0x1B])
)


def adapt(protocol: str, raw: bytes, entry: Mapping[str, Any]) -> dict[str, Any]:
    """See `gateway.protocols.golden`. context.key: hex of the AES key. Raises: ProtocolError."""
    key = _key(entry)
    if protocol == "wmbus":
        return _wireless(wmbus.decode(raw, key))
    answer = mbus.decode(raw, key)
    match answer:
        case mbus.Ack():
            return {"frame": "ack"}
        case mbus.ShortFrame() | mbus.LongFrame():
            return _link_frame(answer)
        case mbus.ApplicationError():
            return {"frame": "long", "address": answer.address, "application_error": answer.text, "code": answer.code}
        case mbus.FixedTelegram():
            return _fixed(answer)
        case mbus.Telegram():
            return _telegram(answer)


def split(protocol: str, raw: bytes) -> list[bytes]:
    """Return the frames in a recording of a line; a radio telegram stands alone."""
    return [raw] if protocol == "wmbus" else [item.raw for item in split_stream(mbus.splitter(), raw)]


def _key(entry: Mapping[str, Any]) -> bytes | None:
    text = (entry.get("context") or {}).get("key")
    return bytes.fromhex(text) if text else None


def _link_frame(frame: mbus.ShortFrame | mbus.LongFrame) -> dict[str, Any]:
    said: dict[str, Any] = {"control": f"{frame.control:02X}", "name": frame.name, "address": frame.address}
    if isinstance(frame, mbus.ShortFrame):
        return {"frame": "short", **said}
    kind = "long" if frame.data else "control"
    return {"frame": kind, **said, "ci": f"{frame.ci:02X}", "data": frame.data.hex().upper()}


def _link(control: int, address: int) -> dict[str, Any]:
    return {"frame": "long", "control": f"{control:02X}", "name": "RSP_UD", "address": address}


def _telegram(telegram: mbus.Telegram) -> dict[str, Any]:
    return {
        **_link(telegram.control, telegram.address),
        **_header(telegram.header),
        "more_records_follow": telegram.more_follow,
        "records": _records(telegram.body),
        "readings": _house(telegram.records),
    }


def _header(header: mbus.Header | None) -> dict[str, Any]:
    if header is None:
        return {"id": None, "manufacturer": None, "version": None, "medium": None, "access_no": None}
    return {
        "id": header.id or None,
        "manufacturer": header.manufacturer or None,
        "version": header.version,
        "medium": header.medium or None,
        "access_no": header.access_no,
        "status": header.status,
        "status_words": list(mbus.status_words(header.status)),
        "signature": f"{header.configuration:04X}",
    }


def _fixed(telegram: mbus.FixedTelegram) -> dict[str, Any]:
    data = telegram.data
    return {
        **_link(telegram.control, telegram.address),
        "id": data.id,
        "manufacturer": None,
        "version": None,
        "medium": data.medium,
        "access_no": data.access_no,
        "status": data.status,
        "records": [_counter(counter) for counter in data.counters],
    }


def _counter(counter: Counter) -> dict[str, Any]:
    function = "Stored value" if counter.stored else "Actual value"
    return {
        "function": function,
        "unit": counter.unit,
        "value": None if counter.value is None else float(counter.value),
    }


def _records(body: Records) -> list[dict[str, Any]]:
    said = [_record(record) for record in body.records]
    if body.vendor is not None:
        function = "More records follow" if body.more_follow else "Manufacturer specific"
        said.append({"function": function, "storage": 0, "value": _text(body.vendor.hex(" ").upper())})
    return said


def _record(record: Record) -> dict[str, Any]:
    unit = record.meaning.base
    if id(unit) in _NOT_IN_LIBMBUS:
        unit = RESERVED
    return {
        "function": _FUNCTIONS[record.function],
        "storage": record.storage,
        "tariff": record.tariff,
        "subunit": record.subunit,
        "quantity": unit.quantity,
        "unit": unit.unit,
        "value": _value(record, unit),
        "qualifiers": list(record.meaning.qualifiers),
        "problem": record.problem,
    }


def _value(record: Record, unit: Unit) -> Any:
    value = record.value
    meaning = record.meaning
    if record.raw is not None and meaning.changed and not meaning.error:
        return float(record.raw * unit.scale)
    if record.problem:
        return _every_year(record)
    if record.raw is not None and isinstance(value, Decimal):
        return float(scaled(record.raw, meaning))
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, bytes):
        return value[::-1].hex(" ").upper()
    if isinstance(value, Decimal):
        return float(value)
    return "" if value is None else _text(value)


def _every_year(record: Record) -> str | None:
    """A date of every year (year code 127) is the year 2027 to libmbus; every other value that is none is None."""
    if record.raw is None or record.meaning.base.kind not in ("date", "datetime") or record.coding not in (2, 4):
        return None
    raw = encode_number(record.coding, record.raw)
    year, month, day = (raw[-2] >> 5) | (raw[-1] & 0xF0) >> 1, raw[-1] & 0x0F, raw[-2] & 0x1F
    if year <= 99 or not day or not month or (record.coding == 4 and raw[0] & 0x80):
        return None
    text = f"{1900 + year}-{month:02d}-{day:02d}"
    return text if record.coding == 2 else f"{text}T{raw[1] & 0x1F:02d}:{raw[0] & 0x3F:02d}:00"


def _text(text: str) -> str | float:
    return float(text) if _NUMBER.fullmatch(text) else text


def _house(records: tuple[Record, ...]) -> dict[str, str]:
    return {quantity: from_micro(micro) for quantity, micro in mbus.house_values(records).items()}


# --- wireless


def _wireless(telegram: wmbus.Telegram) -> dict[str, Any]:
    meter = telegram.meter
    said: dict[str, Any] = {
        "id": meter.id,
        "manufacturer": meter.manufacturer,
        "version": meter.version,
        "medium": meter.medium,
        "access_no": meter.access_no,
        "status": meter.status,
        "encrypted": telegram.decrypted,
        "plain_prefix": telegram.plain_prefix.hex(),
        "records": _records(telegram.body),
        "readings": _house(telegram.records),
    }
    present = [record for record in telegram.records if record.function == "instantaneous" and not record.storage]
    said |= _first(present, "total_m3", "Volume", subunit=0)
    said |= _first(present, "total_kwh", "Energy", subunit=0)
    said |= _first(present, "time", "Time point (date & time)", subunit=0)
    said |= _first(present, "flow_m3h", "Volume flow", subunit=0)
    for name in ("External temperature", "Return temperature", "Flow temperature"):
        said |= _first(present, "temperature_c", name, subunit=0)
    said |= _first(present, "status_flags", "Error flags", subunit=0)
    said |= _first(present, "a_counter", "Dimensionless", subunit=0)
    said |= _first(present, "b_counter", "Dimensionless", subunit=1)
    return said | _target(telegram.records)


def _target(records: tuple[Record, ...]) -> dict[str, Any]:
    """The due date and its value: the lowest storage above 0 that carries a volume or a date."""
    stored = sorted(record.storage for record in records if record.storage and record.function == "instantaneous")
    said: dict[str, Any] = {}
    for storage in stored:
        chosen = [r for r in records if r.storage == storage and r.function == "instantaneous"]
        if not said:
            said |= _first(chosen, "target_m3", "Volume", subunit=0)
            said |= _first(chosen, "target_datetime", "Time point (date & time)", subunit=0)
            said |= _first(chosen, "target_date", "Time point (date)", subunit=0)
    return said


def _first(records: list[Record], key: str, quantity: str, *, subunit: int) -> dict[str, Any]:
    for record in records:
        plain = record.subunit == subunit and not record.tariff and not record.meaning.changed
        if plain and record.meaning.base.quantity == quantity:
            return {key: _wireless_value(record)}
    return {}


def _wireless_value(record: Record) -> Any:
    value = record.value
    if isinstance(value, datetime):
        return value.isoformat(timespec="minutes")
    micro = mbus.to_house(record)
    if micro is not None:
        return float(Decimal(micro).scaleb(-6))
    return _value(record, record.meaning.base)
