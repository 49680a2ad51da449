"""The frame of DL/T 645, both editions: 68 | A0..A5 | 68 | C | L | data + 33H | sum | 16."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from gateway.protocols import shape68
from gateway.protocols.framing import StreamSplitter
from gateway.protocols.shape68 import Shape
from metering.errors import FrameError

PREAMBLE: Final = shape68.PREAMBLE
WILDCARD: Final = "A" * 12
"""Address "whoever is there", for reads."""
EVERYBODY: Final = "9" * 12
"""Broadcast without answer: time, freeze."""

_SHAPE: Final = Shape("DL/T 645", length_at=9, overhead=12, second_start=7)
_UP: Final = bytes((byte + 0x33) & 0xFF for byte in range(256))
_DOWN: Final = bytes((byte - 0x33) & 0xFF for byte in range(256))
measure = _SHAPE.measure


@dataclass(frozen=True, slots=True)
class Frame:
    """One checked DL/T 645 frame.

    address: 12 digits A5..A0 as printed (high bytes AA: shortened address); data: plain, without the 33H of the wire.
    """

    address: str
    control: int
    data: bytes

    @property
    def from_meter(self) -> bool:
        return bool(self.control & 0x80)

    @property
    def abnormal(self) -> bool:
        """The meter refuses; data is the error word."""
        return self.control & 0xC0 == 0xC0

    @property
    def more(self) -> bool:
        """Further frames follow; ask for them one by one."""
        return self.control & 0xA0 == 0xA0

    @property
    def function(self) -> int:
        return self.control & 0x1F

    @property
    def broadcast(self) -> bool:
        return self.address in (WILDCARD, EVERYBODY)


def decode(raw: bytes) -> Frame:
    """Find the one frame in `raw`, check it and take it apart; noise before it and FE around it are skipped.

    Raises: FrameError, not this protocol, cut short, or more bytes behind it; ChecksumError, right shape but damaged.
    """
    frame = _SHAPE.find(raw)
    return Frame(frame[6:0:-1].hex().upper(), frame[8], frame[10:-2].translate(_DOWN))


def encode(frame: Frame) -> bytes:
    """Return the frame's bytes without preamble. Raises: FrameError for an impossible address or length."""
    if len(frame.data) > 255:
        raise FrameError(f"{len(frame.data)} data bytes; 255 are possible", frame.data, sort="length")
    head = bytes((shape68.START,)) + shape68.address_bytes(frame.address, 6) + bytes((shape68.START,))
    return _SHAPE.seal(head + bytes((frame.control, len(frame.data))) + frame.data.translate(_UP))


def splitter() -> StreamSplitter:
    """Return a new splitter for a serial line."""
    return _SHAPE.splitter()
