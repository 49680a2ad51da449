"""Modbus in the vocabulary of golden files (see `golden`).

The entry's context may name fields `{as, order, register}`; their values stand in `fields`. `request` in an
expectation is the request that the answer belongs to: repeated when the answer fits it.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Mapping
from typing import Any, Final

from gateway.protocols import framing, modbus, registers
from gateway.protocols.modbus import Answer, Frame, Refusal, Request
from gateway.protocols.modbus.pdu import READ_INPUT
from metering.errors import FrameError, MeterError, ProtocolError

_NUMBER: Final = re.compile(r"(u?int|float)(16|32|64)")


def adapt(protocol: str, raw: bytes, entry: Mapping[str, Any]) -> dict[str, Any]:
    """Decode one frame, an answer or a request. Raises: ProtocolError."""
    frame = modbus.decode_tcp(raw) if protocol == "modbus-tcp" else modbus.decode_rtu(raw)
    pdu = _pdu(frame)
    said: dict[str, Any] = {"unit_id": frame.unit, "function": pdu.function}
    if protocol == "modbus-tcp":
        said["transaction"] = frame.transaction
    if isinstance(pdu, Refusal):
        return said | {"exception": pdu.code, "name": pdu.name} | _request(entry, frame, pdu)
    said |= {key: getattr(pdu, key) for key in ("address", "count") if hasattr(pdu, key)}
    data = pdu.value.to_bytes(2, "big") if isinstance(pdu, modbus.WriteSingle) else getattr(pdu, "data", b"")
    if data and len(data) % 2 == 0:
        said["registers"] = list(struct.unpack(f">{len(data) // 2}H", data))
    elif data:
        said["data"] = data.hex()
    fields = (entry.get("context") or {}).get("fields")
    if fields:
        said["fields"] = [_field(field, data) for field in fields]
    return said | _request(entry, frame, pdu)


def split(protocol: str, raw: bytes) -> list[bytes]:
    """Return the frames in a recording, and the damaged stretches between them."""
    splitter = modbus.tcp_splitter() if protocol == "modbus-tcp" else modbus.rtu_splitter("any")
    return [item.raw for item in framing.split(splitter, raw)]


def _pdu(frame: Frame) -> Request | Answer:
    """An answer, or else a request; no read of registers is both, because an answer's byte count is even."""
    try:
        return modbus.decode_answer(frame.pdu)
    except FrameError as error:
        if frame.pdu[0] & 0x80:
            raise
        try:
            return modbus.decode_request(frame.pdu)
        except FrameError as second:
            longer = frame.pdu[0] <= READ_INPUT and len(frame.pdu) > 5
            raise (error if longer else second) from None


def _request(entry: Mapping[str, Any], frame: Frame, pdu: Request | Answer) -> dict[str, str]:
    """Return the expected request when this frame answers it; what is wrong otherwise."""
    wanted = (entry.get("expect") or {}).get("request")
    if not isinstance(wanted, str):
        return {}
    try:
        asked = modbus.decode_rtu(bytes.fromhex(wanted))
        if asked.unit != frame.unit:
            return {"request": f"unit {asked.unit} was asked, unit {frame.unit} answers"}
        modbus.check(modbus.decode_request(asked.pdu), modbus.decode_answer(modbus.encode(pdu)))
    except MeterError:
        return {"request": wanted}  # a refusal is an answer too
    except (ProtocolError, ValueError) as error:
        return {"request": str(error)}
    return {"request": wanted}


def _field(field: Mapping[str, Any], data: bytes) -> int | float | None:
    """Return one number among registers. Raises: FrameError when it lies outside, or is no number."""
    kind, order, first = str(field["as"]), str(field.get("order", "ABCD")), 2 * int(field.get("register", 0))
    size = _size(kind, order, field)
    raw = data[first : first + size]
    if first < 0 or len(raw) != size or not size:
        raise FrameError(f"register {first // 2} with {size} bytes lies outside the answer", data, sort="length")
    plain = _reorder(raw, order)
    if kind.startswith("float"):
        value: float = struct.unpack(">f" if size == 4 else ">d", plain)[0]
        return value if math.isfinite(value) else None
    if kind.startswith("bcd"):
        return registers.decode(registers.number("bcd", size=size, scale="0.000001"), plain)
    return int.from_bytes(plain, "big", signed=not kind.startswith("u"))


def _size(kind: str, order: str, field: Mapping[str, Any]) -> int:
    """Return [bytes] of a number; BCD has no size of its own: `bytes`, `size` or the letters of its order tell."""
    match = _NUMBER.fullmatch(kind)
    if match:
        return int(match[2]) // 8
    if re.fullmatch(r"bcd\d*", kind):
        return int(field.get("bytes") or field.get("size") or (len(order) if order != "ABCD" else kind[3:] or 4))
    raise FrameError(
        f"unknown field {kind!r}: uint, int (16, 32, 64), float32, float64 and bcd are known", sort="field"
    )


def _reorder(raw: bytes, order: str) -> bytes:
    """Bring bytes into the order of the alphabet: each letter of `order` stands for a byte on the wire, A highest."""
    if len(order) == len(raw) and len(set(order)) == len(order):
        return bytes(raw[order.index(letter)] for letter in sorted(order))
    if order in registers.ORDERS:
        return registers.reorder(raw, order)
    raise FrameError(f"order {order!r} does not fit {len(raw)} bytes", raw, sort="field")
