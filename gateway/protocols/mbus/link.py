"""The M-Bus link layer: acknowledgement, short and long frames; both directions.

    E5                                  acknowledgement
    10 C A CS 16                        short frame
    68 L L 68 C A CI data.. CS 16       long frame (L = 3: control frame), L counts from C to the last data byte

CS is the sum of the bytes from C on, mod 256. Source: EN 13757-2, IEC 60870-5-1 format class FT 1.2.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from gateway.protocols.framing import Nothing, NotYet, StreamSplitter, Whole, sum8
from metering.errors import ChecksumError, FrameError

ACK_BYTE, SHORT_START, LONG_START, STOP = 0xE5, 0x10, 0x68, 0x16
MAX_FRAME: Final = 261
FCB, FCV = 0x20, 0x10
BROADCAST_SILENT, BROADCAST_ANSWERED, SELECTED, UNCONFIGURED = 0xFF, 0xFE, 0xFD, 0x00

SND_NKE, SND_UD, REQ_UD1, REQ_UD2, RSP_UD = 0x40, 0x53, 0x5A, 0x5B, 0x08

_NAMES: Final = {
    0x40: "SND_NKE",
    0x53: "SND_UD",
    0x73: "SND_UD",
    0x5A: "REQ_UD1",
    0x7A: "REQ_UD1",
    0x5B: "REQ_UD2",
    0x7B: "REQ_UD2",
    0x08: "RSP_UD",
    0x18: "RSP_UD",
    0x28: "RSP_UD",
    0x38: "RSP_UD",
}


@dataclass(frozen=True, slots=True)
class Ack:
    """The single character E5: understood (to SND_NKE and SND_UD), or nothing to say (to REQ_UD1)."""


@dataclass(frozen=True, slots=True)
class ShortFrame:
    """A request without data. address: 0 unconfigured, 1-250, FD selected, FE and FF everybody."""

    control: int
    address: int

    @property
    def name(self) -> str:
        """Name of the control code, "" when it has none."""
        return _NAMES.get(self.control, "")


@dataclass(frozen=True, slots=True)
class LongFrame:
    """A frame with control information and data; with no data the standard calls it a control frame."""

    control: int
    address: int
    ci: int
    data: bytes

    @property
    def name(self) -> str:
        """Name of the control code, "" when it has none."""
        return _NAMES.get(self.control, "")


LinkFrame = Ack | ShortFrame | LongFrame


def decode_frame(frame: bytes) -> LinkFrame:
    """Check one whole frame and take it apart.

    Raises: FrameError, not M-Bus, or cut (sort "length"); ChecksumError, the right shape but damaged.
    """
    if frame == b"\xe5":
        return Ack()
    if frame[:1] == b"\x10":
        _check_shape(frame, 5)
        _check_sum(frame, frame[1:3])
        return ShortFrame(frame[1], frame[2])
    if frame[:1] == b"\x68":
        size = _long_size(frame)
        _check_shape(frame, size)
        _check_sum(frame, frame[4:-2])
        return LongFrame(frame[4], frame[5], frame[6], frame[7:-2])
    raise FrameError(
        "not an M-Bus frame: it begins with none of E5, 10, 68", frame, sort="frame" if frame else "length"
    )


def _long_size(frame: bytes) -> int:
    if len(frame) < 4:
        raise FrameError("M-Bus frame is cut inside its head", frame, sort="length")
    if frame[1] != frame[2] or frame[3] != LONG_START:
        raise FrameError("the head of the M-Bus frame is not 68 L L 68", frame, also=("length",))
    if frame[1] < 3:
        raise FrameError(
            f"length {frame[1]} of the M-Bus frame; 3 is the least", frame, sort="length", also=("frame",)
        )
    return frame[1] + 6


def _check_shape(frame: bytes, size: int) -> None:
    if len(frame) != size:
        text = f"M-Bus frame of {len(frame)} bytes; its head says {size}"
        raise FrameError(text, frame, sort="length", also=("checksum",))
    if frame[-1] != STOP:
        raise FrameError(f"M-Bus frame ends with {frame[-1]:02X} and not with 16", frame, also=("stop",))


def _check_sum(frame: bytes, summed: bytes) -> None:
    computed = sum8(summed)
    if computed != frame[-2]:
        facts = {"checksum_in_frame": f"{frame[-2]:02X}", "checksum_computed": f"{computed:02X}"}
        raise ChecksumError("checksum of the M-Bus frame is wrong", frame, facts=facts)


def encode_frame(frame: LinkFrame) -> bytes:
    """Write a frame. Raises: ValueError when the data are longer than 252 bytes."""
    if isinstance(frame, Ack):
        return b"\xe5"
    if isinstance(frame, ShortFrame):
        body = bytes([frame.control, frame.address])
        return bytes([SHORT_START]) + body + bytes([sum8(body), STOP])
    body = bytes([frame.control, frame.address, frame.ci]) + frame.data
    if len(body) > 255:
        raise ValueError(f"{len(frame.data)} bytes of data; a frame carries 252")
    head = bytes([LONG_START, len(body), len(body), LONG_START])
    return head + body + bytes([sum8(body), STOP])


def measure(data: bytes) -> Whole | NotYet | Nothing:
    """Judge the frame that begins here (see `framing.Measure`)."""
    if data[0] == ACK_BYTE:
        return Whole(1)
    if data[0] == SHORT_START:
        return _measured(data, 5, 1)
    if data[0] != LONG_START:
        return Nothing()
    if len(data) < 4:
        heads = len(data) > 2 and data[1] != data[2]
        return Nothing() if heads or (len(data) > 1 and data[1] < 3) else NotYet(4)
    if data[1] != data[2] or data[3] != LONG_START or data[1] < 3:
        return Nothing()
    return _measured(data, data[1] + 6, 4)


def _measured(data: bytes, size: int, summed_from: int) -> Whole | NotYet | Nothing:
    if len(data) < size:
        return NotYet(size)
    if data[size - 1] != STOP:
        return Nothing("frame")
    return Whole(size) if sum8(data[summed_from : size - 2]) == data[size - 2] else Nothing("checksum")


def splitter() -> StreamSplitter:
    """Return a splitter for an M-Bus line."""
    return StreamSplitter(measure, MAX_FRAME, starts=bytes([ACK_BYTE, SHORT_START, LONG_START]))
