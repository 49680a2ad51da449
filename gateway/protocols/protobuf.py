"""The wire form of Protocol Buffers, as far as Sparkplug B needs it: varints, 32 and 64 bit words, bytes.

Source: public Protocol Buffers encoding guide. Groups (wire types 3, 4) are long out of use and refused.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from metering.errors import FrameError

VARINT, WORD64, BYTES, WORD32 = 0, 1, 2, 5
_MAX_VARINT_BYTES: Final = 10

Field = tuple[int, int, int | bytes]
"""(field number, wire type, value): int of a varint, bytes of everything else (words low byte first)."""


def fields(data: bytes) -> Iterator[Field]:
    """Yield every field of one message, in order. Raises: FrameError, sort "length" when it is cut."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        number, kind = key >> 3, key & 7
        if not 1 <= number < 1 << 29:
            raise FrameError(f"protobuf field number {number}", data[-32:])
        if kind == VARINT:
            value, at = _varint(data, at)
            yield number, kind, value
            continue
        if kind == BYTES:
            size, at = _varint(data, at)
        elif kind in (WORD64, WORD32):
            size = 8 if kind == WORD64 else 4
        else:
            raise FrameError(f"protobuf wire type {kind} is not used", data[-32:])
        if at + size > len(data):
            raise FrameError("protobuf message ends inside a field", data[-32:], sort="length")
        yield number, kind, data[at : at + size]
        at += size


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while at < len(data) and shift < 7 * _MAX_VARINT_BYTES:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            if value >> 64:
                raise FrameError("protobuf number of more than 64 bits", data[-32:])
            return value, at
    text = "protobuf message ends inside a number" if at >= len(data) else "protobuf number of more than 10 bytes"
    raise FrameError(text, data[-32:], sort="length" if at >= len(data) else "")


def varint(value: int) -> bytes:
    """Write a number from 0 to 2^64 - 1."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def put_varint(number: int, value: int) -> bytes:
    """Write a varint field."""
    return varint(number << 3 | VARINT) + varint(value)


def put_bytes(number: int, value: bytes) -> bytes:
    """Write a field of bytes, text or a message."""
    return varint(number << 3 | BYTES) + varint(len(value)) + value


def put_word(number: int, value: bytes) -> bytes:
    """Write a field of 4 or 8 bytes, low byte first."""
    return varint(number << 3 | (WORD64 if len(value) == 8 else WORD32)) + value
