"""The values inside SML: type, length, value; both directions.

A type-length byte has the type in bits 6-4 (0 octets, 4 bool, 5 signed, 6 unsigned, 7 list), bit 7 when more length
follows, and the length in bits 3-0; it counts its own bytes, that of a list the elements. 01 is an absent value.

Source: BSI TR-03109-1 annex IV (SML 1.04), binary coding.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from metering.errors import FrameError

_MAX_DEPTH: Final = 12
_MAX_LENGTH: Final = 8192


@dataclass(frozen=True, slots=True)
class Integer:
    """A number as sent: `size` bytes, signed or not."""

    value: int
    size: int
    signed: bool


Node = None | bool | bytes | Integer | tuple["Node", ...]
"""None: the optional field is absent."""


class _End(tuple[()]):
    """End of message (00): stands where no value can."""


END: Final = _End()


def read_node(data: bytes, at: int, depth: int = 0) -> tuple[Node, int, int]:
    """Read one node; return it, where it ends, and where the last but one element of a list begins (a message's CRC).

    Raises: FrameError when the data end inside it (sort "length") or break the rules.
    """
    if at >= len(data):
        raise FrameError("SML data end before a value", data[-32:], sort="length")
    if data[at] == 0:
        return END, at + 1, at
    kind, size, begin = _type_and_length(data, at)
    if kind == 7:
        return _read_list(data, begin, size, depth)
    length = size - (begin - at)
    end = begin + length
    if length < 0 or end > len(data):
        raise FrameError("SML data end inside a value", data[at : at + 32], sort="length")
    return _scalar(kind, data[begin:end]), end, at


def _type_and_length(data: bytes, at: int) -> tuple[int, int, int]:
    kind, size = data[at] >> 4 & 7, data[at] & 0x0F
    while data[at] & 0x80:
        at += 1
        if at >= len(data) or size > _MAX_LENGTH:
            raise FrameError("SML data end inside a length", data[-32:], sort="length")
        size = size << 4 | (data[at] & 0x0F)
    return kind, size, at + 1


def _read_list(data: bytes, at: int, count: int, depth: int) -> tuple[Node, int, int]:
    if depth >= _MAX_DEPTH or count > len(data) - at:
        raise FrameError("SML list is too deep or too long", data[at : at + 32])
    items: list[Node] = []
    starts = []
    for _ in range(count):
        starts.append(at)
        item, at, _ = read_node(data, at, depth + 1)
        if item is END and (depth or len(items) != count - 1):
            raise FrameError("SML message ends where a value should stand", data[starts[-1] : starts[-1] + 32])
        items.append(item)
    return tuple(items), at, starts[-2] if len(starts) > 1 else at


def _scalar(kind: int, content: bytes) -> Node:
    if kind == 0:
        return content or None
    if kind == 4 and len(content) == 1:
        return content != b"\x00"
    if kind in (5, 6) and 1 <= len(content) <= 8:
        return Integer(int.from_bytes(content, "big", signed=kind == 5), len(content), kind == 5)
    raise FrameError(f"SML value of type {kind} with {len(content)} bytes", content)


def encode_node(node: Node) -> bytes:
    """Write one node as `read_node` reads it."""
    if node is None:
        return b"\x01"
    if isinstance(node, bool):
        return b"\x42\x01" if node else b"\x42\x00"
    if isinstance(node, bytes):
        return encode_head(0, len(node)) + node
    if isinstance(node, Integer):
        return encode_head(5 if node.signed else 6, node.size) + node.value.to_bytes(
            node.size, "big", signed=node.signed
        )
    return encode_head(7, len(node)) + b"".join(encode_node(item) for item in node)


def encode_head(kind: int, size: int) -> bytes:
    """Type and length; the length counts its own bytes, that of a list its elements."""
    count = 1
    while size + (count if kind != 7 else 0) >= 1 << 4 * count:
        count += 1
    total = size + (count if kind != 7 else 0)
    nibbles = [total >> 4 * place & 0x0F for place in reversed(range(count))]
    nibbles[0] |= kind << 4
    return bytes(nibble | (0x80 if place < count - 1 else 0) for place, nibble in enumerate(nibbles))
