"""Small tools that every byte-stream codec shares: exact BCD, checksums, and cutting a stream into frames.

A stream has three answers: a frame, not yet, damaged. A codec says them about the bytes at one place by a `Measure`
function; `StreamSplitter` moves that place along the stream, and keeps the memory for unfinished frames bounded.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from metering.errors import FrameError

# --- BCD

_BCD: Final = tuple(
    (byte >> 4) * 10 + (byte & 15) if byte >> 4 < 10 and byte & 15 < 10 else -1 for byte in range(256)
)
_TO_BCD: Final = bytes((number // 10 << 4) | number % 10 for number in range(100))


def bcd_le(data: bytes) -> int:
    """Return the number in BCD bytes that come low byte first: 00 23 01 00 -> 12300.

    Raises: FrameError, sort "bcd", when a nibble is above 9.
    """
    number = bcd_le_or_none(data)
    if number is None:
        raise FrameError(f"{data.hex(' ').upper()} is not BCD: a nibble is above 9", data, sort="bcd")
    return number


def bcd_be(data: bytes) -> int:
    """Return the number in BCD bytes that come high byte first. Raises: FrameError, sort "bcd"."""
    return bcd_le(data[::-1])


def bcd_le_or_none(data: bytes) -> int | None:
    """Return the number, or None when any nibble is above 9 (meters fill what they do not support with F)."""
    number = 0
    for byte in reversed(data):
        pair = _BCD[byte]
        if pair < 0:
            return None
        number = number * 100 + pair
    return number


def to_bcd_le(number: int, size: int) -> bytes:
    """Return `number` as `size` BCD bytes, low byte first. Raises: FrameError, sort "bcd", when it does not fit."""
    if number < 0 or number >= 100**size:
        raise FrameError(f"{number} does not fit into {size} BCD bytes", sort="bcd")
    pairs = bytearray()
    for _ in range(size):
        number, pair = divmod(number, 100)
        pairs.append(_TO_BCD[pair])
    return bytes(pairs)


def to_bcd_be(number: int, size: int) -> bytes:
    """Return `number` as `size` BCD bytes, high byte first. Raises: FrameError, sort "bcd"."""
    return to_bcd_le(number, size)[::-1]


# --- checksums


def sum8(data: bytes) -> int:
    """Return the sum of all bytes mod 256 (CJ/T 188, DL/T 645, M-Bus)."""
    return sum(data) & 0xFF


def xor8(data: bytes) -> int:
    """Return the exclusive or of all bytes (BCC of IEC 62056-21)."""
    check = 0
    for byte in data:
        check ^= byte
    return check


def _reflected_table(polynomial: int) -> tuple[int, ...]:
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ (polynomial if byte & 1 else 0)
        table.append(byte)
    return tuple(table)


_CRC_A001: Final = _reflected_table(0xA001)
_CRC_8408: Final = _reflected_table(0x8408)


def crc16_modbus(data: bytes) -> int:
    """Return CRC-16/MODBUS (polynomial A001 reflected, start FFFF); the wire sends the low byte first."""
    return _crc(data, 0xFFFF, _CRC_A001)


def crc16_arc(data: bytes) -> int:
    """Return CRC-16/ARC (polynomial A001 reflected, start 0): DSMR P1."""
    return _crc(data, 0, _CRC_A001)


def crc16_x25(data: bytes) -> int:
    """Return CRC-16/X-25 (polynomial 8408 reflected, start FFFF, inverted): SML; low byte first."""
    return _crc(data, 0xFFFF, _CRC_8408) ^ 0xFFFF


def _crc(data: bytes, start: int, table: tuple[int, ...]) -> int:
    crc = start
    for byte in data:
        crc = crc >> 8 ^ table[(crc ^ byte) & 0xFF]
    return crc


# --- streams


@dataclass(frozen=True, slots=True)
class Whole:
    """A checked frame of `length` bytes begins here."""

    length: int


@dataclass(frozen=True, slots=True)
class NotYet:
    """May be a frame; ask again when `length` bytes from here are there."""

    length: int


@dataclass(frozen=True, slots=True)
class Nothing:
    """No frame begins here. sort: "noise", or what is wrong with something that had the shape of a frame."""

    sort: str = "noise"


Measure = Callable[[bytes], Whole | NotYet | Nothing]
"""Judge the frame that would begin with the first of these (one or more) bytes; what follows it may be there too."""


@dataclass(frozen=True, slots=True)
class Cut:
    """One frame from the stream, checked by its `Measure`."""

    raw: bytes


@dataclass(frozen=True, slots=True)
class Damaged:
    """Bytes that were dropped. sort: "noise", or the error of the damaged frame in them (checksum, crc, length)."""

    raw: bytes
    sort: str


class StreamSplitter:
    """Cuts a byte stream into frames; noise, damaged and unfinished frames around them do no harm.

    measure: see `Measure`. limit: [bytes] longest possible frame; more is never kept. starts: the bytes with which
    a frame can begin, None for any. filler: bytes that may stand between frames without being damage (FE).
    overtake: a whole frame of at least this many bytes is taken even when it lies inside an unfinished earlier
    candidate: noise that looks like the head of a long frame then costs no waiting. Very short frames (an M-Bus E5)
    are common inside others; they wait until nothing earlier is pending.
    """

    def __init__(
        self,
        measure: Measure,
        limit: int,
        *,
        starts: bytes | None = None,
        filler: bytes = b"",
        overtake: int = 5,
    ) -> None:
        self._measure = measure
        self._limit = limit
        self._starts = None if starts is None else frozenset(starts)
        self._filler = filler
        self._overtake = overtake
        self._buffer = bytearray()
        self._pending: dict[int, int] = {}  # candidate's offset -> buffer length at which to ask again
        self._inside: set[int] = set()  # short whole frames inside an earlier candidate: asked again when that fails
        self._seen = 0  # offsets below this one have been judged
        self._sort = "noise"

    def feed(self, data: bytes) -> list[Cut | Damaged]:
        """Add bytes; return everything that is now certain, in the order of the stream."""
        self._buffer += data
        found: list[Cut | Damaged] = []
        while self._step(found):
            pass
        self._drop_before(self._first(), found)
        return found

    def flush(self) -> list[Cut | Damaged]:
        """The line fell silent: what is unfinished will not be finished. Return what is left, and start anew."""
        found: list[Cut | Damaged] = []
        while self._pending:
            del self._pending[self._first()]
            self._worsen("length")
            found += self.feed(b"")
        return found

    @property
    def waiting(self) -> int:
        """[bytes] kept for an unfinished frame."""
        return len(self._buffer)

    @property
    def limit(self) -> int:
        """[bytes] longest possible frame."""
        return self._limit

    def _step(self, found: list[Cut | Damaged]) -> bool:
        """Judge the candidates in order; True when a frame was taken, so that the rest must be judged anew."""
        size = len(self._buffer)
        ready = sorted(offset for offset, due in self._pending.items() if due <= size)
        for offset in ready:
            if self._judge(offset, found):
                return True
        while self._seen < size:
            offset = self._seen
            self._seen += 1
            if (self._starts is None or self._buffer[offset] in self._starts) and self._judge(offset, found):
                return True
        return self._inner_frame(found)

    def _judge(self, offset: int, found: list[Cut | Damaged]) -> bool:
        look = self._measure(bytes(self._buffer[offset : offset + self._limit]))
        self._pending.pop(offset, None)
        if isinstance(look, Whole):
            earlier = any(other < offset for other in self._pending)
            if not earlier or look.length >= self._overtake:
                self._take(offset, look.length, found)
                return True
            self._inside.add(offset)
        elif isinstance(look, NotYet):
            if look.length > self._limit:
                self._worsen("length")
            else:
                self._pending[offset] = max(offset + look.length, len(self._buffer) + 1)
        else:
            self._worsen(look.sort)
        return False

    def _inner_frame(self, found: list[Cut | Damaged]) -> bool:
        first = self._first()
        if first not in self._inside:
            return False
        self._inside.discard(first)
        return self._judge(first, found)

    def _first(self) -> int:
        return min(self._pending.keys() | self._inside, default=len(self._buffer))

    def _take(self, offset: int, length: int, found: list[Cut | Damaged]) -> None:
        self._drop_before(offset, found)
        found.append(Cut(bytes(self._buffer[:length])))
        del self._buffer[:length]
        self._pending.clear()
        self._inside.clear()
        self._seen = 0

    def _drop_before(self, offset: int, found: list[Cut | Damaged]) -> None:
        if not offset:
            return
        raw = bytes(self._buffer[:offset])
        del self._buffer[:offset]
        self._seen -= offset
        self._pending = {place - offset: due - offset for place, due in self._pending.items() if place >= offset}
        self._inside = {place - offset for place in self._inside if place >= offset}
        if raw.strip(self._filler) if self._filler else raw:
            found.append(Damaged(raw, self._sort))
        self._sort = "noise"

    def _worsen(self, sort: str) -> None:
        if self._sort == "noise" or sort not in ("noise", "length"):
            self._sort = sort


def split(splitter: StreamSplitter, data: bytes) -> list[Cut | Damaged]:
    """Cut a whole recording: feed it and flush."""
    return splitter.feed(data) + splitter.flush()
