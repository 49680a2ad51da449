"""Sparkplug B payloads and topics (version 3 of the specification): own decoder and encoder, values exact.

    spBv1.0/{group}/{NBIRTH|NDEATH|NDATA|NCMD|DBIRTH|DDEATH|DDATA|DCMD}/{edge}[/{device}]

Payload: 1 timestamp [ms UTC], 2 metrics, 3 seq, 4 uuid, 5 body. Metric: 1 name, 2 alias, 3 timestamp, 4 datatype,
5 is_historical, 6 is_transient, 7 is_null, 10 int, 11 long, 12 float, 13 double, 14 boolean, 15 string, 16 bytes.
Births carry names and datatypes; data may carry the alias alone: `sparkplug_state.EdgeNode` remembers.
`sparkplug_births` makes messages to send. Metadata, properties, data sets and templates are skipped.

Source: Eclipse Sparkplug specification 3.0 and its public sparkplug_b.proto.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from decimal import Decimal
from typing import Final, Literal

from gateway.protocols import protobuf, strict_json
from metering.errors import FrameError

NAMESPACE: Final = "spBv1.0"
REBIRTH: Final = "Node Control/Rebirth"
BD_SEQ: Final = "bdSeq"
MAX_PAYLOAD: Final = 1 << 20
MAX_METRICS: Final = 10_000

_NAMES: Final = (
    "Unknown Int8 Int16 Int32 Int64 UInt8 UInt16 UInt32 UInt64 Float Double Boolean String DateTime Text UUID DataSet"
    " Bytes File Template PropertySet PropertySetList Int8Array Int16Array Int32Array Int64Array UInt8Array"
    " UInt16Array UInt32Array UInt64Array FloatArray DoubleArray BooleanArray StringArray DateTimeArray"
)
DATATYPES: Final = _NAMES.split()
"""Names by number."""

MessageType = Literal["NBIRTH", "NDEATH", "NDATA", "NCMD", "DBIRTH", "DDEATH", "DDATA", "DCMD", "STATE"]
_NODE_TYPES: Final = ("NBIRTH", "NDEATH", "NDATA", "NCMD")
_DEVICE_TYPES: Final = ("DBIRTH", "DDEATH", "DDATA", "DCMD")

BITS: Final = {
    "Int8": 8,
    "Int16": 16,
    "Int32": 32,
    "Int64": 64,
    "UInt8": 8,
    "UInt16": 16,
    "UInt32": 32,
    "UInt64": 64,
}
INT_FIELD, LONG_FIELD, FLOAT_FIELD, DOUBLE_FIELD, BOOLEAN_FIELD, STRING_FIELD, BYTES_FIELD = (
    10,
    11,
    12,
    13,
    14,
    15,
    16,
)
CARRIERS: Final = {
    **dict.fromkeys(("Int8", "Int16", "Int32", "UInt8", "UInt16", "UInt32"), INT_FIELD),
    **dict.fromkeys(("Int64", "UInt64", "DateTime"), LONG_FIELD),
    "Float": FLOAT_FIELD,
    "Double": DOUBLE_FIELD,
    "Boolean": BOOLEAN_FIELD,
    **dict.fromkeys(("String", "Text", "UUID"), STRING_FIELD),
    **dict.fromkeys(("Bytes", "File"), BYTES_FIELD),
}
_WIRES: Final = {
    1: protobuf.BYTES,
    2: protobuf.VARINT,
    3: protobuf.VARINT,
    4: protobuf.VARINT,
    5: protobuf.VARINT,
    6: protobuf.VARINT,
    7: protobuf.VARINT,
    INT_FIELD: protobuf.VARINT,
    LONG_FIELD: protobuf.VARINT,
    FLOAT_FIELD: protobuf.WORD32,
    DOUBLE_FIELD: protobuf.WORD64,
    BOOLEAN_FIELD: protobuf.VARINT,
    STRING_FIELD: protobuf.BYTES,
    BYTES_FIELD: protobuf.BYTES,
}

Raw = tuple[int, int | bytes]
"""Value as sent: its field number and the number or bytes."""

Value = int | Decimal | bool | str | bytes | None
"""None: null, or a number that is not finite."""


@dataclass(frozen=True, slots=True)
class Topic:
    """Where a message came from. device: "" for the edge node itself. STATE has the host in `edge`."""

    group: str
    type: MessageType
    edge: str
    device: str = ""

    def __str__(self) -> str:
        if self.type == "STATE":
            return f"{NAMESPACE}/STATE/{self.edge}"
        return "/".join(part for part in (NAMESPACE, self.group, self.type, self.edge, self.device) if part)


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric as sent. name "" or alias None: not sent. timestamp: [ms UTC]. datatype: number, None: not sent."""

    name: str = ""
    alias: int | None = None
    timestamp: int | None = None
    datatype: int | None = None
    historical: bool = False
    transient: bool = False
    null: bool = False
    raw: Raw | None = None


@dataclass(frozen=True, slots=True)
class Payload:
    """One message. seq: 0-255, None in NDEATH."""

    timestamp: int | None = None
    metrics: tuple[Metric, ...] = ()
    seq: int | None = None
    uuid: str = ""
    body: bytes = b""


def parse_topic(text: str) -> Topic:
    """Take a topic apart. Raises: FrameError, sort "topic"."""
    levels = text.split("/")
    if levels[:2] == [NAMESPACE, "STATE"] and len(levels) == 3 and levels[2]:
        return Topic("", "STATE", levels[2])
    if levels[0] == NAMESPACE and all(levels):
        if len(levels) == 4 and levels[2] in _NODE_TYPES:
            return Topic(levels[1], levels[2], levels[3])  # type: ignore[arg-type]  # checked in the line above
        if len(levels) == 5 and levels[2] in _DEVICE_TYPES:
            return Topic(levels[1], levels[2], levels[3], levels[4])  # type: ignore[arg-type]  # checked as above
    raise FrameError(f"topic {text[:80]!r} is not one of Sparkplug B", sort="topic")


def decode(data: bytes) -> Payload:
    """Decode a payload. Raises: FrameError, cut (sort "length") or against the wire form."""
    if len(data) > MAX_PAYLOAD:
        raise FrameError(
            f"Sparkplug payload of {len(data)} bytes; {MAX_PAYLOAD} are allowed", data[:64], sort="length"
        )
    timestamp: int | None = None
    seq: int | None = None
    uuid, body = "", b""
    metrics: list[Metric] = []
    for number, kind, value in protobuf.fields(data):
        if number == 2 and isinstance(value, bytes) and kind == protobuf.BYTES:
            metrics.append(_metric(value))
        elif number in (1, 3) and isinstance(value, int):
            timestamp, seq = (value, seq) if number == 1 else (timestamp, value)
        elif number in (4, 5) and isinstance(value, bytes) and kind == protobuf.BYTES:
            uuid, body = (_text(value), body) if number == 4 else (uuid, value)
        elif number <= 5:
            raise FrameError(f"Sparkplug payload field {number} has wire type {kind}", data[:64])
        if len(metrics) > MAX_METRICS:
            raise FrameError(f"more than {MAX_METRICS} metrics in one payload", data[:64], sort="length")
    if seq is not None and seq > 255:
        raise FrameError(f"Sparkplug seq {seq}; it counts from 0 to 255", data[:64])
    return Payload(timestamp, tuple(metrics), seq, uuid, body)


def _metric(data: bytes) -> Metric:
    found: dict[int, int | bytes] = {}
    carrier = 0
    for number, kind, value in protobuf.fields(data):
        if number not in _WIRES:
            continue
        if kind != _WIRES[number]:
            raise FrameError(f"Sparkplug metric field {number} has wire type {kind}", data[:64])
        found[number] = value
        carrier = number if number >= INT_FIELD else carrier
    name = found.get(1, b"")
    return Metric(
        name=_text(name) if isinstance(name, bytes) else "",
        alias=_whole(found.get(2)),
        timestamp=_whole(found.get(3)),
        datatype=_whole(found.get(4)),
        historical=bool(found.get(5)),
        transient=bool(found.get(6)),
        null=bool(found.get(7)),
        raw=(carrier, found[carrier]) if carrier else None,
    )


def _whole(value: int | bytes | None) -> int | None:
    return value if isinstance(value, int) else None


def _text(data: bytes) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        raise FrameError("Sparkplug text is not UTF-8", data[:64]) from None


def datatype_name(number: int | None) -> str | None:
    """Return the name of a datatype, None for one that is not known."""
    return DATATYPES[number] if number is not None and 0 < number < len(DATATYPES) else None


def value_of(metric: Metric, datatype: int | None = None) -> Value:
    """Return a metric's value. datatype: from the birth, when the metric brings none.

    Numbers are int or Decimal (the shortest decimal that is this float); None for null and for NaN.
    Raises: FrameError when datatype and value do not fit.
    """
    name = datatype_name(metric.datatype if metric.datatype is not None else datatype)
    if metric.null or metric.raw is None:
        return None
    field, raw = metric.raw
    if name in CARRIERS and field != CARRIERS[name]:
        field = _other_carrier(name, field)
    if isinstance(raw, int):
        return bool(raw) if field == BOOLEAN_FIELD else _integer(raw, name)
    if field == FLOAT_FIELD:
        return _float32(raw)
    if field == DOUBLE_FIELD:
        (double,) = struct.unpack("<d", raw)
        return Decimal(repr(double)) if math.isfinite(double) else None
    return _text(raw) if field == STRING_FIELD else raw


def _other_carrier(name: str, field: int) -> int:
    """Some senders put small integers into the long field; nothing else is let pass."""
    if name in BITS and field in (INT_FIELD, LONG_FIELD):
        return field
    raise FrameError(f"Sparkplug metric says {name} and carries its value in field {field}")


def _integer(raw: int, name: str | None) -> int:
    """Signed numbers travel as unsigned two's complement, of their own width or widened to 32 or 64 bits."""
    bits = BITS.get(name or "", 64)
    if name is None or not name.startswith("Int"):
        if raw >> bits:
            raise FrameError(f"{raw} does not fit {name}")
        return raw
    for width in (bits, 32, 64):
        low = raw - (1 << width) if raw >> (width - 1) == 1 else raw
        if -(1 << bits - 1) <= low < 1 << bits - 1:
            return low
    raise FrameError(f"{raw} does not fit {name}")


def _float32(raw: bytes) -> Decimal | None:
    (value,) = struct.unpack("<f", raw)
    if not math.isfinite(value):
        return None
    for digits in range(6, 9):
        text = f"{value:.{digits}g}"
        if struct.pack("<f", float(text)) == raw:
            return Decimal(text)
    return Decimal(f"{value:.9g}")


# --- writing


def encode(payload: Payload) -> bytes:
    """Write a payload; fields that are not set are left out."""
    out = b"" if payload.timestamp is None else protobuf.put_varint(1, payload.timestamp)
    out += b"".join(protobuf.put_bytes(2, _encode_metric(m)) for m in payload.metrics)
    if payload.seq is not None:
        out += protobuf.put_varint(3, payload.seq)
    if payload.uuid:
        out += protobuf.put_bytes(4, payload.uuid.encode())
    return out + (protobuf.put_bytes(5, payload.body) if payload.body else b"")


def _encode_metric(metric: Metric) -> bytes:
    out = protobuf.put_bytes(1, metric.name.encode()) if metric.name else b""
    numbers = ((2, metric.alias), (3, metric.timestamp), (4, metric.datatype))
    out += b"".join(protobuf.put_varint(number, value) for number, value in numbers if value is not None)
    flags = ((5, metric.historical), (6, metric.transient), (7, metric.null))
    out += b"".join(protobuf.put_varint(number, 1) for number, value in flags if value)
    if metric.raw is None:
        return out
    number, raw = metric.raw
    if isinstance(raw, int):
        return out + protobuf.put_varint(number, raw)
    return out + (protobuf.put_word if number in (FLOAT_FIELD, DOUBLE_FIELD) else protobuf.put_bytes)(number, raw)


def decode_state(data: bytes) -> bool:
    """Read a host's STATE payload; True when it is online. Raises: FrameError, sort "json"."""
    said = strict_json.loads(data)
    online = said.get("online") if isinstance(said, dict) else None
    if not isinstance(online, bool):
        raise FrameError("STATE does not say whether the host is online", data[:64])
    return online
