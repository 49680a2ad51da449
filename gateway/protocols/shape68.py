"""What CJ/T 188 and DL/T 645 frames share: 68 ... L ... data, a sum of all bytes before it, and 16 at the end.

68 and 16 occur inside addresses and data too: a frame is found by its structure and sum, and after a false start the
search goes on one byte further.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from gateway.protocols import framing
from gateway.protocols.framing import Nothing, NotYet, StreamSplitter, Whole
from metering.errors import ChecksumError, FrameError, ProtocolError

START: Final = 0x68
STOP: Final = 0x16
FILLER: Final = b"\xfe"
PREAMBLE: Final = FILLER * 4
"""Sent before every request: meters wake up on it. 0 to 13 such bytes were seen, also behind a frame."""


@dataclass(frozen=True, slots=True)
class Shape:
    """name: of the protocol, for messages. length_at: offset of L; overhead: [bytes] a frame has without its data.

    second_start: offset of a second 68, 0 for none.
    """

    name: str
    length_at: int
    overhead: int
    second_start: int = 0

    @property
    def longest(self) -> int:
        return self.overhead + 255

    def measure(self, data: bytes) -> Whole | NotYet | Nothing:
        """Judge the frame that would begin with the first byte (see `framing.Measure`)."""
        if data[0] != START:
            return Nothing()
        if len(data) <= self.length_at:
            return NotYet(self.length_at + 1)
        if data[self.second_start] != START:
            return Nothing()
        length = self.overhead + data[self.length_at]
        if len(data) < length:
            return NotYet(length)
        if data[length - 1] != STOP:
            return Nothing()
        if framing.sum8(data[: length - 2]) != data[length - 2]:
            return Nothing("checksum")
        return Whole(length)

    def find(self, raw: bytes) -> bytes:
        """Return the one frame in `raw`; noise before it and FE around it are skipped.

        Raises: FrameError, not this protocol, cut short, or more bytes behind it; ChecksumError.
        """
        start = raw.find(START)
        while start >= 0:
            look = self.measure(raw[start:])
            if isinstance(look, Whole):
                end = start + look.length
                if raw[end:].strip(FILLER):
                    raise FrameError(f"{len(raw) - end} bytes follow the {self.name} frame", raw, sort="length")
                return raw[start:end]
            start = raw.find(START, start + 1)
        raise self._why_not(raw)

    def seal(self, head: bytes) -> bytes:
        """Return head (from 68 to the last data byte) with sum and 16 behind it."""
        return head + bytes((framing.sum8(head), STOP))

    def splitter(self) -> StreamSplitter:
        """Return a new splitter for a serial line."""
        return StreamSplitter(
            self.measure, self.longest, starts=bytes((START,)), filler=FILLER, overtake=self.overhead
        )

    def _why_not(self, raw: bytes) -> ProtocolError:
        """Return the error that describes best why there is no frame in `raw`."""
        start = raw.find(START)
        if start < 0:
            return FrameError(f"not a {self.name} frame: no 68", raw)
        while start >= 0:
            if self.measure(raw[start:]) == Nothing("checksum"):
                return self._checksum_error(raw, raw[start : start + self.overhead + raw[start + self.length_at]])
            start = raw.find(START, start + 1)
        return self._shape_error(raw, raw[raw.find(START) :].rstrip(FILLER))

    def _shape_error(self, raw: bytes, frame: bytes) -> FrameError:
        # A frame that lacks or gained bytes has no right sum either.
        also = () if len(frame) > 2 and framing.sum8(frame[:-2]) == frame[-2] else ("checksum",)
        if len(frame) > self.length_at:
            if frame[self.second_start] != START:
                return FrameError(f"not a {self.name} frame: no second 68", raw, also=also)
            if len(frame) == self.overhead + frame[self.length_at]:
                return FrameError(f"the {self.name} frame ends with {frame[-1]:02X}, not 16", raw, also=also)
        announced = self.overhead + frame[self.length_at] if len(frame) > self.length_at else self.overhead
        message = f"{self.name} frame of {len(frame)} bytes; its length byte says {announced}"
        return FrameError(message, raw, sort="length", also=("frame", *also))

    def _checksum_error(self, raw: bytes, frame: bytes) -> ChecksumError:
        found, computed = f"{frame[-2]:02X}", f"{framing.sum8(frame[:-2]):02X}"
        facts = {"checksum_in_frame": found, "checksum_computed": computed}
        return ChecksumError(f"{self.name} sum is {found}, computed {computed}", raw, facts=facts)


def address_bytes(address: str, size: int) -> bytes:
    """Return a printed address as `size` bytes, low byte first. Raises: FrameError, sort "address"."""
    try:
        raw = bytes.fromhex(address)
    except ValueError:
        raw = b""
    if len(raw) != size or len(address) != 2 * size:
        raise FrameError(f"address {address!r}: {2 * size} digits are needed", sort="address")
    return raw[::-1]
