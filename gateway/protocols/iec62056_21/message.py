"""Messages of IEC 62056-21 (IEC 1107), modes C and D: sign-on, identification, baud change, data, programming.

Characters have 7 bits; behind a TCP box the parity bit may still be there, and is taken off when it is right.
BCC: exclusive or of all bytes after the first STX or SOH up to and including ETX.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from gateway.protocols.framing import xor8
from gateway.protocols.iec62056_21.data import data_sets
from metering.errors import ChecksumError, FrameError

SOH: Final = 0x01
STX: Final = 0x02
ETX: Final = 0x03
EOT: Final = 0x04
ACK: Final = 0x06
NAK: Final = 0x15
MAX_MESSAGE: Final = 32 * 1024

BAUD: Final = {"0": 300, "1": 600, "2": 1200, "3": 2400, "4": 4800, "5": 9600, "6": 19200}
"""Baud character Z of mode C -> [baud]."""

SIGN_ON: Final = re.compile(rb"/\?([\x22-\x7e ]*)!\r\n")
IDENTIFICATION: Final = re.compile(rb"/([A-Za-z]{3})([0-9A-Za-z])(?:\\([^\r\n]))?([^\r\n()/!]*)(?:\r\n|\n\n)")
_OPTION: Final = re.compile(rb"\x06([0-9])([0-9A-I])([0-9A-Z])\r\n")
_COMMAND: Final = re.compile(rb"[PWREB][0-9A-Z]")
_NOT_TEXT: Final = re.compile(rb"[^\r\n\x20-\x7e]")


@dataclass(frozen=True, slots=True)
class SignOn:
    """`/?address!`: who is there? address: "" for anybody."""

    address: str = ""


@dataclass(frozen=True, slots=True)
class Identification:
    """`/XXXZ[\\W]ident`: maker (third letter lower case: answers in 20 ms), baud character, W of mode E, model."""

    manufacturer: str
    baud_char: str
    ident: str
    enhanced: str = ""

    @property
    def baud(self) -> int | None:
        """[baud] of mode C; None for a letter of mode B or a character without a meaning."""
        return BAUD.get(self.baud_char)


@dataclass(frozen=True, slots=True)
class Option:
    """`ACK V Z Y`: go to this baud rate and send data (mode "0") or enter programming ("1"). V: "0" normal."""

    baud_char: str
    mode: str = "0"
    procedure: str = "0"


@dataclass(frozen=True, slots=True)
class Answer:
    """ACK (accepted) or NAK (repeat) alone."""

    accepted: bool


@dataclass(frozen=True, slots=True)
class Command:
    """`SOH P1|W1|W2|R1|R2|B0 ...`. text: data lines, None when there is no STX part (B0)."""

    name: str
    text: str | None = None


@dataclass(frozen=True, slots=True)
class Data:
    """`STX ... ETX BCC`. text: data lines as they came. more: a partial block that ended with EOT."""

    text: str
    more: bool = False


@dataclass(frozen=True, slots=True)
class Readout:
    """A whole recording: identification, then data lines up to `!`.

    checked: it came with STX, ETX and a right BCC (mode C); mode D has none of them, and often an empty line first.
    """

    identification: Identification
    text: str
    checked: bool = False


Message = SignOn | Identification | Option | Answer | Command | Data | Readout


def decode(raw: bytes) -> Message:
    """Check one whole message and take it apart; NUL, 7F and the echo of our sign-on before it are skipped.

    Raises: ChecksumError, sort "bcc"; FrameError, sort "length" when cut, "parity", "data", or not this protocol.
    """
    message = seven_bits(raw).lstrip(b"\x00\x7f")
    if not message:
        raise FrameError("empty IEC 62056-21 message", raw, sort="length")
    match message[0]:
        case 0x2F:  # /
            return _decode_line(message, raw)
        case 0x01 | 0x02:
            return _decode_block(message, raw)
        case 0x06 if option := _OPTION.fullmatch(message):
            return Option(_text(option[2]), _text(option[3]), _text(option[1]))
        case 0x06 | 0x15 if len(message) == 1:
            return Answer(message[0] == ACK)
        case 0x06 if _OPTION.match((message + b"\x06000\r\n"[len(message) :])[:6]):
            raise FrameError("baud change is cut", raw, sort="length")
    raise FrameError(f"no IEC 62056-21 message begins with {message[0]:02X}", raw)


def encode(message: Message) -> bytes:
    """Return the bytes of a message, in 7 bits. Raises: FrameError when it cannot be written so."""
    match message:
        case SignOn(address):
            raw = f"/?{address}!\r\n".encode()
        case Identification(maker, baud_char, ident, enhanced):
            raw = f"/{maker}{baud_char}{_enhanced(enhanced)}{ident}\r\n".encode()
        case Option(baud_char, mode, procedure):
            raw = f"\x06{procedure}{baud_char}{mode}\r\n".encode()
        case Answer(accepted):
            raw = bytes((ACK if accepted else NAK,))
        case Command(name, None):
            raw = seal(f"\x01{name}\x03".encode())
        case Command(name, text):
            raw = seal(f"\x01{name}\x02{text}\x03".encode())
        case Data(text, more):
            raw = seal(f"\x02{text}".encode() + bytes((EOT if more else ETX,)))
        case Readout(identification, text, checked):
            lines = text.encode()
            raw = encode(identification) + (seal(b"\x02" + lines + b"\x03") if checked else lines)
    if decode(raw) != message:
        raise FrameError(f"{message} is no IEC 62056-21 message", raw)
    return raw


def seal(block: bytes) -> bytes:
    """Return a block (STX or SOH to ETX) with its BCC behind it."""
    return block + bytes((xor8(block[1:]) & 0x7F,))


def seven_bits(raw: bytes) -> bytes:
    """Take the parity bits off. Raises: FrameError, sort "parity", when there are some and one is wrong."""
    if raw.isascii():
        return raw
    if any(byte.bit_count() % 2 for byte in raw):
        raise FrameError("bytes beyond 7 bits without even parity", raw, sort="parity", also=("bcc",))
    return bytes(byte & 0x7F for byte in raw)


def block_end(block: bytes) -> int:
    """Return the offset of ETX or EOT in a block that begins with STX or SOH; 0: not there yet; -1: no block."""
    start = 1
    if block[0] == SOH:
        if len(block) < 4:
            return 0 if _COMMAND.match((block[1:] + b"P0"[len(block) - 1 :])[:2]) else -1
        if not _COMMAND.match(block[1:3]):
            return -1
        start = 4 if block[3] == STX else 3
    found = _NOT_TEXT.search(block, start)
    if not found:
        return 0
    return found.start() if block[found.start()] in (ETX, EOT) else -1


def _decode_block(message: bytes, raw: bytes) -> Data | Command:
    end = block_end(message)
    if end < 0:
        raise FrameError("no IEC 62056-21 block: control characters inside", raw)
    if not end or len(message) != end + 2:
        raise FrameError("block without ETX and exactly one BCC", raw, sort="length", also=("bcc",))
    _check_bcc(message, raw)
    if message[0] == STX:
        return Data(_lines(message[1:end]), message[end] == EOT)
    text = _lines(message[4:end]) if message[3] == STX else None
    if message[end] == EOT or (text is None and end != 3):
        raise FrameError("command without STX before its data", raw)
    return Command(_text(message[1:3]), text)


def _check_bcc(message: bytes, raw: bytes) -> None:
    found, computed = message[-1], xor8(message[1:-1]) & 0x7F
    if found != computed:
        facts = dict.fromkeys(("bcc_in_frame", "checksum_in_frame"), f"{found:02X}")
        facts |= dict.fromkeys(("bcc_computed", "checksum_computed"), f"{computed:02X}")
        raise ChecksumError(f"BCC is {found:02X}, computed {computed:02X}", raw, sort="bcc", facts=facts)


def _decode_line(message: bytes, raw: bytes) -> SignOn | Identification | Readout:
    sign_on = SIGN_ON.match(message)
    if sign_on and sign_on.end() == len(message):
        return SignOn(_text(sign_on[1]))
    if sign_on:
        message = message[sign_on.end() :].lstrip(b"\x00\x7f")  # the optical head heard itself
    line = IDENTIFICATION.match(message)
    if not line:
        sort = "length" if b"\n" not in message else "frame"
        raise FrameError("no IEC 62056-21 identification", raw, sort=sort)
    identification = Identification(_text(line[1]), _text(line[2]), _text(line[4]), _text(line[3] or b""))
    rest = message[line.end() :]
    return _decode_readout(identification, rest, raw) if rest else identification


def _decode_readout(identification: Identification, rest: bytes, raw: bytes) -> Readout:
    body = rest.lstrip(b"\r\n")
    if body[:1] == b"\x02" and (ETX in body or EOT in body):
        block = _decode_block(body, raw)
        assert isinstance(block, Data)
        return Readout(identification, block.text, checked=True)
    body = body[1:] if body[:1] == b"\x02" else rest
    if _NOT_TEXT.search(body):
        raise FrameError("control characters in the data lines", raw)
    if not (b"\n" + body).rstrip(b"\r\n").endswith(b"\n!"):
        raise FrameError("the data lines do not end with !", raw, sort="length")
    return Readout(identification, _lines(body))


def _lines(body: bytes) -> str:
    """Return data lines as text after looking into them. Raises: FrameError, sort "data"."""
    text = _text(body)
    data_sets(text)
    return text


def _text(raw: bytes) -> str:
    return raw.decode("ascii", "replace")


def _enhanced(character: str) -> str:
    return f"\\{character}" if character else ""
