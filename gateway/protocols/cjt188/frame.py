"""The frame of CJ/T 188: 68 | T | A0..A6 | C | L | data | sum | 16, with any number of FE before it."""

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
"""Sent before every request: meters wake up on it; 0 to 13 were seen."""
WILDCARD: Final = "AA" * 7
"""Address "whoever is there"; legal only with one meter on the line."""
OVERHEAD: Final = 13
MAX_FRAME: Final = OVERHEAD + 255

_L: Final = 10  # offset of the length byte


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
    start = raw.find(START)
    while start >= 0:
        look = measure(raw[start:])
        if isinstance(look, Whole):
            end = start + look.length
            if raw[end:].strip(FILLER):
                raise FrameError(f"{len(raw) - end} bytes follow the CJ/T 188 frame", raw, sort="length")
            return _take_apart(raw[start:end])
        start = raw.find(START, start + 1)
    raise _why_not(raw)


def encode(frame: Frame) -> bytes:
    """Return the frame's bytes without preamble. Raises: FrameError for an impossible address, type or length."""
    if len(frame.data) > 255:
        raise FrameError(f"{len(frame.data)} data bytes; 255 are possible", frame.data, sort="length")
    head = bytes((START, frame.meter_type)) + address_bytes(frame.address)
    body = head + bytes((frame.control, len(frame.data))) + frame.data
    return body + bytes((framing.sum8(body), STOP))


def measure(data: bytes) -> Whole | NotYet | Nothing:
    """Judge the frame that would begin with the first byte (see `framing.Measure`)."""
    if data[0] != START:
        return Nothing()
    if len(data) <= _L:
        return NotYet(_L + 1)
    length = OVERHEAD + data[_L]
    if len(data) < length:
        return NotYet(length)
    if data[length - 1] != STOP:
        return Nothing()
    if framing.sum8(data[: length - 2]) != data[length - 2]:
        return Nothing("checksum")
    return Whole(length)


def splitter() -> StreamSplitter:
    """Return a new splitter for a serial line."""
    return StreamSplitter(measure, MAX_FRAME, starts=bytes((START,)), filler=FILLER, overtake=OVERHEAD)


def address_bytes(address: str) -> bytes:
    """Return the 7 bytes of a printed address, low byte first. Raises: FrameError."""
    try:
        raw = bytes.fromhex(address)
    except ValueError:
        raw = b""
    if len(raw) != 7 or len(address) != 14:
        raise FrameError(f"address {address!r}: 14 digits are needed", sort="address")
    return raw[::-1]


def _take_apart(frame: bytes) -> Frame:
    return Frame(frame[1], frame[8:1:-1].hex().upper(), frame[9], frame[11:-2])


def _why_not(raw: bytes) -> ProtocolError:
    """Return the error that describes best why there is no frame in `raw`."""
    start = raw.find(START)
    if start < 0:
        return FrameError("not a CJ/T 188 frame: no 68", raw)
    while start >= 0:
        if measure(raw[start:]) == Nothing("checksum"):
            return _checksum_error(raw, raw[start : start + OVERHEAD + raw[start + _L]])
        start = raw.find(START, start + 1)
    frame = raw[raw.find(START) :].rstrip(FILLER)
    if len(frame) > _L and len(frame) == OVERHEAD + frame[_L]:
        return FrameError(f"the CJ/T 188 frame ends with {frame[-1]:02X}, not 16", raw, also=_sum_too(frame))
    wanted = f"{OVERHEAD + frame[_L]} are announced" if len(frame) > _L else f"{OVERHEAD} at least are needed"
    message = f"CJ/T 188 frame of {len(frame)} bytes; {wanted}"
    return FrameError(message, raw, sort="length", also=("frame", *_sum_too(frame)))


def _sum_too(frame: bytes) -> tuple[str, ...]:
    """A frame that lacks or gained bytes has no right sum either."""
    return () if len(frame) > 2 and framing.sum8(frame[:-2]) == frame[-2] else ("checksum",)


def _checksum_error(raw: bytes, frame: bytes) -> ChecksumError:
    facts = {"checksum_in_frame": f"{frame[-2]:02X}", "checksum_computed": f"{framing.sum8(frame[:-2]):02X}"}
    message = f"CJ/T 188 sum is {facts['checksum_in_frame']}, computed {facts['checksum_computed']}"
    return ChecksumError(message, raw, facts=facts)
