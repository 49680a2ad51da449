"""The two frames around a Modbus PDU: RTU (unit, PDU, CRC) on serial lines and in TCP streams, and MBAP on TCP.

RTU frames have no start byte; the protocol delimits them by silence, which serial-to-TCP boxes do not keep. Here a
frame is found by its function, its length and its CRC.
Source: Modbus over Serial Line V1.02, clause 2.5; Modbus Messaging on TCP/IP V1.0b, clause 3.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

from gateway.protocols.framing import Nothing, NotYet, StreamSplitter, Whole, crc16_modbus
from gateway.protocols.modbus import pdu as pdus
from metering.errors import ChecksumError, FrameError

MAX_RTU: Final = 256
MAX_TCP: Final = 260
Role = Literal["request", "answer", "any"]

_MBAP: Final = struct.Struct(">HHHB")
_SIZES: Final[dict[Role, tuple[Callable[[bytes], int], ...]]] = {
    "request": (pdus.request_size,),
    "answer": (pdus.answer_size,),
    "any": (pdus.answer_size, pdus.request_size),
}


@dataclass(frozen=True, slots=True)
class Frame:
    """One checked frame. unit: 1 to 247, 0 broadcast. transaction: of MBAP, 0 for RTU."""

    unit: int
    pdu: bytes
    transaction: int = 0


def encode_rtu(frame: Frame) -> bytes:
    """Return unit, PDU and CRC, its low byte first. Raises: FrameError when it is too long."""
    body = bytes((frame.unit,)) + frame.pdu
    if not frame.pdu or len(body) + 2 > MAX_RTU:
        raise FrameError(f"PDU of {len(frame.pdu)} bytes; 1 to 253 are possible", frame.pdu, sort="length")
    return body + crc16_modbus(body).to_bytes(2, "little")


def decode_rtu(raw: bytes) -> Frame:
    """Check one whole RTU frame.

    Raises: ChecksumError, sort "crc"; FrameError, sort "length", when the bytes are not as many as its head says.
    """
    if len(raw) < 4 or len(raw) > MAX_RTU:
        message = f"RTU frame of {len(raw)} bytes; 4 to {MAX_RTU} are possible"
        raise FrameError(message, raw, sort="length", also=("crc",))
    body, found = raw[:-2], int.from_bytes(raw[-2:], "little")
    computed = crc16_modbus(body)
    if found == computed:
        return Frame(raw[0], raw[1:-2])
    sizes = [size(body[1:]) for size in _SIZES["any"]]
    if any(sizes) and len(body) - 1 not in sizes:
        raise FrameError(f"RTU frame of {len(raw)} bytes does not fit its head", raw, sort="length", also=("crc",))
    facts = {"checksum_in_frame": raw[-2:].hex().upper(), "checksum_computed": _wire(computed)}
    message = f"CRC is {facts['checksum_in_frame']}, computed {facts['checksum_computed']}"
    raise ChecksumError(message, raw, sort="crc", facts=facts)


def encode_tcp(frame: Frame) -> bytes:
    """Return MBAP header and PDU. Raises: FrameError when it is too long."""
    if not 1 <= len(frame.pdu) <= MAX_TCP - _MBAP.size:
        raise FrameError(f"PDU of {len(frame.pdu)} bytes; 1 to 253 are possible", frame.pdu, sort="length")
    return _MBAP.pack(frame.transaction, 0, len(frame.pdu) + 1, frame.unit) + frame.pdu


def decode_tcp(raw: bytes) -> Frame:
    """Check one whole Modbus TCP frame. Raises: FrameError; there is no checksum, TCP has its own."""
    look = measure_tcp(raw) if raw else NotYet(_MBAP.size)
    if look == Nothing():
        raise FrameError("not a Modbus TCP frame: protocol is not 0, or its length is impossible", raw)
    if look != Whole(len(raw)):
        raise FrameError(f"Modbus TCP frame of {len(raw)} bytes does not fit its length field", raw, sort="length")
    transaction, _, _, unit = _MBAP.unpack(raw[: _MBAP.size])
    return Frame(unit, raw[_MBAP.size :], transaction)


def measure_tcp(data: bytes) -> Whole | NotYet | Nothing:
    """Judge the MBAP frame that would begin with the first byte."""
    if data[2:4].strip(b"\x00"):
        return Nothing()
    if len(data) < _MBAP.size:
        return NotYet(_MBAP.size)
    length = 6 + int.from_bytes(data[4:6], "big")
    if not _MBAP.size < length <= MAX_TCP:
        return Nothing()
    return Whole(length) if len(data) >= length else NotYet(length)


def measure_rtu(role: Role) -> Callable[[bytes], Whole | NotYet | Nothing]:
    """Return the `Measure` for RTU requests, answers, or both (a recording of the line)."""
    sizes = _SIZES[role]

    def measure(data: bytes) -> Whole | NotYet | Nothing:
        if len(data) < 2:
            return NotYet(2)
        waits = []
        for size in sizes:
            length = size(data[1:])
            if not length:
                continue
            needed = 3 + length if length > 0 else 1 - length
            if len(data) < needed:
                waits.append(needed)
            elif crc16_modbus(data[: needed - 2]) == int.from_bytes(data[needed - 2 : needed], "little"):
                return Whole(needed)
        return NotYet(min(waits)) if waits else Nothing()

    return measure


def rtu_splitter(role: Role = "answer") -> StreamSplitter:
    """Return a new splitter for RTU on a serial line or inside a TCP stream."""
    return StreamSplitter(measure_rtu(role), MAX_RTU, overtake=5)


def tcp_splitter() -> StreamSplitter:
    """Return a new splitter for a Modbus TCP connection."""
    return StreamSplitter(measure_tcp, MAX_TCP, overtake=MAX_TCP + 1)


def _wire(crc: int) -> str:
    return crc.to_bytes(2, "little").hex().upper()
