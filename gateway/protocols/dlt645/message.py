"""From a checked DL/T 645 frame to its meaning, and back; following frames joined; the requests a gateway sends."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from gateway.protocols.dlt645.frame import EVERYBODY, WILDCARD, Frame
from gateway.protocols.dlt645.identifiers import Edition, Form, form_of
from gateway.protocols.dlt645.items import Item, stamp_bytes, stamp_text
from gateway.protocols.shape68 import address_bytes
from metering.errors import FrameError

ANSWER: Final = 0x80
REFUSED: Final = 0x40
TIME: Final = 0x08
SWITCH: Final = 0x1C


@dataclass(frozen=True, slots=True)
class Codes:
    """Function codes and identifier size [bytes] of one edition. 0: it has no such function."""

    read: int
    follow: int
    write: int
    write_address: int
    read_address: int
    identifier: int


CODES: Final[dict[Edition, Codes]] = {
    "2007": Codes(0x11, 0x12, 0x14, 0x15, 0x13, 4),
    "1997": Codes(0x01, 0x02, 0x04, 0x0A, 0, 2),
}

ERROR_BITS: Final = (
    "other",
    "no such data",
    "password wrong or not authorised",
    "rate cannot change",
    "too many year zones",
    "too many day slots",
    "too many tariffs",
)
"""Bits of the error word, from bit 0."""

COMMANDS: Final = {
    0x1A: "trip",
    0x1B: "close-permit",
    0x1C: "close-at-once",
    0x2A: "alarm",
    0x2B: "alarm-off",
    0x3A: "keep-power",
    0x3B: "keep-power-off",
}


@dataclass(frozen=True, slots=True)
class Values:
    """Items behind an identifier, in order. extra: bytes that some meters append (likely a sequence byte)."""

    items: tuple[Item, ...]
    extra: bytes = b""

    def encode(self) -> bytes:
        return b"".join(item.raw for item in self.items) + self.extra


@dataclass(frozen=True, slots=True)
class Write:
    """Write data: password PA P0 P1 P2 and operator C0..C3 in the order of the wire (1997 has no operator)."""

    password: bytes
    operator: bytes
    values: Values | Plain

    def encode(self) -> bytes:
        return self.password + self.operator + self.values.encode()


@dataclass(frozen=True, slots=True)
class BroadcastTime:
    """Set the clock of every meter on the line: ss mm hh DD MM YY, local time."""

    raw: bytes

    @property
    def text(self) -> str | None:
        return stamp_text(self.raw)

    def encode(self) -> bytes:
        return self.raw


@dataclass(frozen=True, slots=True)
class Switch:
    """C=1C: trip, close and alarm. deadline: ss mm hh DD MM YY until which the command may be carried out."""

    password: bytes
    operator: bytes
    command: int
    reserved: int
    deadline: bytes

    @property
    def word(self) -> str:
        return COMMANDS.get(self.command, f"{self.command:02X}")

    @property
    def deadline_text(self) -> str | None:
        return stamp_text(self.deadline)

    def encode(self) -> bytes:
        return self.password + self.operator + bytes((self.command, self.reserved)) + self.deadline


@dataclass(frozen=True, slots=True)
class Address:
    """An address in the data: answer to "who are you", or the new address to be written."""

    address: str

    def encode(self) -> bytes:
        return address_bytes(self.address, 6)


@dataclass(frozen=True, slots=True)
class Refusal:
    """Error word of an abnormal answer."""

    word: bytes

    @property
    def reasons(self) -> list[str]:
        """The bits that are set, in words."""
        number = int.from_bytes(self.word, "little")
        return [text for bit, text in enumerate(ERROR_BITS) if number >> bit & 1]

    def encode(self) -> bytes:
        return self.word


@dataclass(frozen=True, slots=True)
class Plain:
    """Bytes without a layout known here; b"" for a bare request."""

    raw: bytes

    def encode(self) -> bytes:
        return self.raw


Body = Values | Write | BroadcastTime | Switch | Address | Refusal | Plain


@dataclass(frozen=True, slots=True)
class Message:
    """A frame with its data understood. di: None where the frame has none. sequence: of a following frame."""

    edition: Edition
    address: str
    control: int
    di: int | None
    body: Body
    sequence: int | None = None


def parse(frame: Frame, edition: Edition, *, form: Form | None = None) -> Message:
    """Understand a frame's data. form: a profile's form of this identifier, None: the one of the standard.

    Unknown data come back as `Plain`; so do blocks that are not whole: `join` the frames first.
    Raises: FrameError, when the identifier itself is missing.
    """
    codes, function, data = CODES[edition], frame.function, frame.data
    if frame.abnormal:
        return Message(edition, frame.address, frame.control, None, Refusal(data))
    if function in (codes.read, codes.follow, codes.write):
        return _parse_identified(frame, edition, form)
    body: Body = Plain(data)
    if function == TIME and len(data) == 6:
        body = BroadcastTime(data)
    elif function in (codes.read_address, codes.write_address) and len(data) == 6:
        body = Address(data[::-1].hex().upper())
    elif function == SWITCH and len(data) == 16 and edition == "2007":
        body = Switch(data[:4], data[4:8], data[8], data[9], data[10:])
    return Message(edition, frame.address, frame.control, None, body)


def build(message: Message) -> Frame:
    """Return the frame of a message; `parse` of it gives the message back."""
    head = b"" if message.di is None else message.di.to_bytes(CODES[message.edition].identifier, "little")
    tail = b"" if message.sequence is None else bytes((message.sequence,))
    return Frame(message.address, message.control, head + message.body.encode() + tail)


def join(frames: Sequence[Frame], edition: Edition) -> Frame:
    """Return one frame with the data of an answer and the frames that follow it.

    Raises: FrameError, when they do not belong together or the last one announces more.
    """
    first, codes = frames[0], CODES[edition]
    data = first.data
    for number, frame in enumerate(frames[1:], 1):
        tail = frame.data[codes.identifier :]
        same = frame.address == first.address and frame.data[: codes.identifier] == data[: codes.identifier]
        if frame.control & 0x9F != ANSWER | codes.follow or not same:
            raise FrameError("this frame does not follow the answer", frame.data)
        if edition == "2007":
            if not tail or tail[-1] != number:
                raise FrameError(f"following frame {number} is missing", frame.data)
            tail = tail[:-1]
        data += tail
    if frames[-1].more:
        raise FrameError("further frames follow", data, sort="length")
    return Frame(first.address, first.control & ~0x20, data)


def read_request(address: str, di: int, edition: Edition = "2007") -> Frame:
    """Ask for the data of an identifier; address AA..AA reaches the only meter on the line."""
    return build(Message(edition, address, CODES[edition].read, di, Plain(b"")))


def follow_request(address: str, di: int, sequence: int, edition: Edition = "2007") -> Frame:
    """Ask for the next frame of an answer that announced more; sequence: 1 and up (2007 only)."""
    number = sequence if edition == "2007" else None
    return build(Message(edition, address, CODES[edition].follow, di, Plain(b""), number))


def read_address_request() -> Frame:
    """Ask the only meter on the line who it is (2007)."""
    return Frame(WILDCARD, CODES["2007"].read_address, b"")


def set_time_request(time: str) -> Frame:
    """Set all clocks to the local time "2026-01-31T23:59:58"; nobody answers. Raises: FrameError."""
    return Frame(EVERYBODY, TIME, stamp_bytes(time))


def write_request(
    address: str, di: int, values: Values | Plain, *, password: bytes, operator: bytes = bytes(4)
) -> Frame:
    """Write data (2007): password PA P0 P1 P2, operator C0..C3."""
    return build(Message("2007", address, CODES["2007"].write, di, Write(password, operator, values)))


def _parse_identified(frame: Frame, edition: Edition, form: Form | None) -> Message:
    codes, data = CODES[edition], frame.data
    if frame.from_meter and not data and frame.function == codes.write:
        return Message(edition, frame.address, frame.control, None, Plain(b""))
    if len(data) < codes.identifier:
        raise FrameError(f"{len(data)} data bytes; the identifier takes {codes.identifier}", data, sort="length")
    di = int.from_bytes(data[: codes.identifier], "little")
    rest, sequence = data[codes.identifier :], None
    if frame.function == codes.follow and edition == "2007" and rest:
        rest, sequence = rest[:-1], rest[-1]
    form = form or form_of(di, edition)
    body: Body
    if frame.function == codes.write and not frame.from_meter:
        body = _parse_write(rest, edition, form)
    else:
        body = _parse_values(rest, form, partial=frame.more or frame.function == codes.follow)
    return Message(edition, frame.address, frame.control, di, body, sequence)


def _parse_write(rest: bytes, edition: Edition, form: Form | None) -> Body:
    head = 8 if edition == "2007" else 4
    if len(rest) < head:
        return Plain(rest)
    return Write(rest[:4], rest[4:head], _parse_values(rest[head:], form, partial=False))


def _parse_values(rest: bytes, form: Form | None, *, partial: bool) -> Values | Plain:
    if form is None or len(rest) < form.size or (form.block and partial):
        return Plain(rest)
    count = len(rest) // form.size if form.block else 1
    end = count * form.size
    items = tuple(Item(rest[i : i + form.size], form) for i in range(0, end, form.size))
    return Values(items, rest[end:])
