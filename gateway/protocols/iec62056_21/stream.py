"""Cutting the byte stream of an IEC 62056-21 line, and the requests a reader sends (also to LIS-200 correctors)."""

from __future__ import annotations

from typing import Final, Literal

from gateway.protocols.framing import Nothing, NotYet, StreamSplitter, Whole, xor8
from gateway.protocols.iec62056_21.message import (
    ACK,
    IDENTIFICATION,
    MAX_MESSAGE,
    NAK,
    SIGN_ON,
    SOH,
    STX,
    Command,
    Identification,
    Option,
    block_end,
)

From = Literal["meter", "reader", "push"]
"""Who sends: a meter (mode C), a reader, or a meter in mode D, whose whole read-out is one frame."""

_MAX_LINE: Final = 64
_SLASH: Final = 0x2F
_OVERTAKE: Final = 5  # the shortest sign-on; bare ACK and NAK wait until nothing earlier is open


def splitter(sender: From = "meter") -> StreamSplitter:
    """Return a new splitter for 7-bit bytes (see `seven_bits`)."""
    measure = {"meter": _measure_meter, "reader": _measure_reader, "push": _measure_push}[sender]
    return StreamSplitter(
        measure, MAX_MESSAGE, starts=bytes((SOH, STX, ACK, NAK, _SLASH)), filler=b"\x00\x7f\r\n", overtake=_OVERTAKE
    )


def choose(identification: Identification, mode: Literal["readout", "programming"] = "readout") -> Option:
    """Return the baud change that a reader answers to an identification; both sides switch after it."""
    return Option(identification.baud_char, "0" if mode == "readout" else "1")


def lis200_read(address: str) -> Command:
    """Read one value of an Elster corrector, "7:300.0" for example, in programming mode."""
    return Command("R1", f"{address}(1)")


def lis200_archive(
    archive: str, attribute: int = 0, *, pos: int, start: str = "", end: str = "", n: int = 1
) -> Command:
    """Read `n` rows of an archive ("3": months) from start to end, by the column `pos` (LIS-200)."""
    return Command("R1", f"{archive}:V.{attribute}({pos};{start};{end};{n})")


def _measure_meter(data: bytes) -> Whole | NotYet | Nothing:
    if data[0] in (ACK, NAK):
        return Whole(1)
    return _line(data) if data[0] == _SLASH else _block(data)


def _measure_reader(data: bytes) -> Whole | NotYet | Nothing:
    if data[0] == NAK:
        return Whole(1)
    if data[0] == ACK:
        if len(data) > 1 and not data[1:2].isdigit():
            return Whole(1)
        return Whole(6) if data[4:6] == b"\r\n" else NotYet(6) if len(data) < 6 else Nothing()
    return _line(data) if data[0] == _SLASH else _block(data)


def _measure_push(data: bytes) -> Whole | NotYet | Nothing:
    """Mode D: identification, data lines, and `!` at the beginning of a line."""
    line = data.find(b"\n")
    if data[0] != _SLASH or (0 <= line < len(data) - 1 and not IDENTIFICATION.match(data)):
        return Nothing()
    end = data.find(b"\n!")
    if not _is_text(data[:end] if end >= 0 else data):
        return Nothing()
    tail = data[end + 2 : end + 4]
    if end < 0 or tail in (b"", b"\r", b"\n"):
        return NotYet(len(data) + 1)
    if tail in (b"\r\n", b"\n\n"):
        return Whole(end + 4)
    return Whole(end + 2) if tail[0] == _SLASH else Nothing()


def _line(data: bytes) -> Whole | NotYet | Nothing:
    """Sign-on or identification, up to LF."""
    end = data.find(b"\n", 0, _MAX_LINE) + 1
    if end:
        return Whole(end) if SIGN_ON.fullmatch(data[:end]) or IDENTIFICATION.fullmatch(data[:end]) else Nothing()
    return NotYet(len(data) + 1) if len(data) < _MAX_LINE and _is_text(data) else Nothing()


def _block(data: bytes) -> Whole | NotYet | Nothing:
    end = block_end(data)
    if end < 0:
        return Nothing()
    if not end or len(data) < end + 2:
        return NotYet(end + 2 if end else len(data) + 1)
    return Whole(end + 2) if xor8(data[1 : end + 1]) & 0x7F == data[end + 1] else Nothing("bcc")


def _is_text(data: bytes) -> bool:
    return data.isascii() and not any(byte < 0x20 and byte not in b"\r\n" for byte in data)
