"""The frame of CJ/T 188: 68 | T | A0..A6 | C | L | data | sum | 16, with any number of FE before it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from gateway.protocols import shape68
from gateway.protocols.framing import StreamSplitter
from gateway.protocols.shape68 import Shape
from metering.errors import FrameError

PREAMBLE: Final = shape68.PREAMBLE
WILDCARD: Final = "AA" * 7
"""Address "whoever is there"; legal only with one meter on the line."""

_SHAPE: Final = Shape("CJ/T 188", length_at=10, overhead=13)
measure = _SHAPE.measure


@dataclass(frozen=True, slots=True)
class Frame:
    """One checked CJ/T 188 frame.

    meter_type: 10-19 water, 20-29 heat, 30-39 gas (hex), AA any. address: 14 digits A6..A0 as printed on the meter,
    usually decimal (vendors use hex digits too); the wire sends the bytes backwards. data: DI, SER, payload.
    """

    meter_type: int
    address: str
    control: int
    data: bytes

    @property
    def from_meter(self) -> bool:
        return bool(self.control & 0x80)

    @property
    def abnormal(self) -> bool:
        """The meter refuses."""
        return self.control & 0xC0 == 0xC0

    @property
    def more(self) -> bool:
        """Further frames follow. AA is no such answer but the one to the vendor code 2A."""
        return self.control & 0xA0 == 0xA0 and self.control != 0xAA

    @property
    def broadcast(self) -> bool:
        return self.address == WILDCARD


def decode(raw: bytes) -> Frame:
    """Find the one frame in `raw`, check it and take it apart; noise before it and FE around it are skipped.

    Raises: FrameError, not this protocol, cut short, or more bytes behind it; ChecksumError, right shape but damaged.
    """
    frame = _SHAPE.find(raw)
    return Frame(frame[1], frame[8:1:-1].hex().upper(), frame[9], frame[11:-2])


def encode(frame: Frame) -> bytes:
    """Return the frame's bytes without preamble. Raises: FrameError for an impossible address, type or length."""
    if len(frame.data) > 255:
        raise FrameError(f"{len(frame.data)} data bytes; 255 are possible", frame.data, sort="length")
    head = bytes((shape68.START, frame.meter_type)) + shape68.address_bytes(frame.address, 7)
    return _SHAPE.seal(head + bytes((frame.control, len(frame.data))) + frame.data)


def splitter() -> StreamSplitter:
    """Return a new splitter for a serial line."""
    return _SHAPE.splitter()
