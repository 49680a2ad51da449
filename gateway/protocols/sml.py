"""SML files as German electricity meters push them: transport with escapes and CRC, TLV, lists of values; both ways.

    1B1B1B1B 01010101  messages  padding  1B1B1B1B 1A pp CRC

The CRC is CRC-16/X-25 over everything before it, low byte first. 1B1B1B1B inside the data is sent twice. A message is
a list of six: transaction, group, abort, body (tag, content), CRC, end. Some makers break the CRC of the single
message; the outer one decides and the inner one is reported.

Source: BSI TR-03109-1 annex IV (SML 1.04), FNN Lastenheft EDL; OBIS and units of DLMS (IEC 62056-61, -62).
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Decimal, localcontext
from typing import Final

from gateway.protocols.framing import Nothing, NotYet, StreamSplitter, Whole, crc16_x25
from gateway.protocols.sml_tlv import END, Integer, Node, encode_head, encode_node, read_node
from metering.errors import ChecksumError, FrameError, ProtocolError
from metering.quantities import INT64_MAX, MICRO, Quantity

ESCAPE: Final = b"\x1b\x1b\x1b\x1b"
START: Final = ESCAPE + b"\x01\x01\x01\x01"
MAX_FRAME: Final = 8192
OPEN_RESPONSE, CLOSE_RESPONSE, GET_LIST_RESPONSE = 0x0101, 0x0201, 0x0701


@dataclass(frozen=True, slots=True)
class Message:
    """One SML message. kind: tag of the body. crc: as sent, None to have it made. crc_right: it fits."""

    transaction: Node
    group: Node
    abort: Node
    kind: Integer
    body: Node
    crc: Integer | None = None
    crc_right: bool = True


@dataclass(frozen=True, slots=True)
class File:
    """All messages of one transmission."""

    messages: tuple[Message, ...]

    @property
    def lists(self) -> tuple[ValueList, ...]:
        """The lists of values (GetListResponse)."""
        return tuple(_value_list(m.body) for m in self.messages if m.kind.value == GET_LIST_RESPONSE)

    @property
    def entries(self) -> tuple[Entry, ...]:
        """The values of all lists."""
        return tuple(entry for values in self.lists for entry in values.entries)

    @property
    def server(self) -> str:
        """Who speaks, as printed on the meter: "1 HLY02 0087 9590"; "" when no list says."""
        return next((printed_server(values.server) for values in self.lists if values.server), "")


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of a list. obis: "1-0:1.8.0*255". number: scaled value [unit]; None when the value is no number.

    raw: the value as sent. time_s: [s] of the meter's own counter or Unix time, None when absent.
    """

    obis: str
    status: int | None
    time_s: int | None
    unit: str
    number: Decimal | None
    raw: Node


@dataclass(frozen=True, slots=True)
class ValueList:
    """One GetListResponse. server: id in bytes."""

    server: bytes
    time_s: int | None
    entries: tuple[Entry, ...]


# --- transport


def decode(frame: bytes) -> File:
    """Check one whole transmission and take it apart.

    Raises: FrameError, not SML, cut (sort "length") or against the TLV rules; ChecksumError, sort "crc".
    """
    if frame[:8] != START:
        raise FrameError("not an SML transmission", frame, sort="frame" if len(frame) >= 8 else "length")
    payload, end = _unescape(frame)
    if end is None or end != len(frame):
        text = "SML transmission is cut: it has no end" if end is None else "bytes stand behind the SML transmission"
        raise FrameError(text, frame, sort="length", also=("crc",))
    computed = crc16_x25(frame[: end - 2])
    if computed != int.from_bytes(frame[end - 2 : end], "little"):
        facts = {
            "crc_in_frame": frame[end - 2 : end].hex().upper(),
            "crc_computed": _low_first(computed).hex().upper(),
        }
        raise ChecksumError("CRC of the SML transmission is wrong", frame, sort="crc", facts=facts)
    padding = frame[end - 3]
    if padding > 3 or payload[len(payload) - padding :] != bytes(padding):
        raise FrameError(f"{padding} padding bytes are announced and not there", frame)
    file = File(_messages(payload[: len(payload) - padding]))
    for values in file.lists:
        if not values.server and not values.entries:
            raise FrameError("SML list of values is empty", frame)
    return file


def _unescape(frame: bytes) -> tuple[bytes, int | None]:
    """Return what stands between start and end, and where the transmission ends; None when it does not."""
    out = bytearray()
    at = len(START)
    while True:
        found = frame.find(ESCAPE, at)
        if found < 0 or len(frame) < found + 8:
            return bytes(out), None
        out += frame[at:found]
        if frame[found + 4 : found + 8] == ESCAPE:
            out += ESCAPE
            at = found + 8
        elif frame[found + 4] == 0x1A:
            return bytes(out), found + 8
        elif frame[found + 4] == 0x1B:  # data that end in 1B stand before the escape
            out.append(0x1B)
            at = found + 1
        else:
            raise FrameError("an escape in the SML transmission means nothing", frame, also=("length",))


def encode(file: File) -> bytes:
    """Write a transmission; CRCs that are None are made."""
    payload = b"".join(_encode_message(message) for message in file.messages)
    padding = -len(payload) % 4
    body = START + (payload + bytes(padding)).replace(ESCAPE, ESCAPE * 2) + ESCAPE + bytes([0x1A, padding])
    return body + _low_first(crc16_x25(body))


def _low_first(crc: int) -> bytes:
    return crc.to_bytes(2, "little")


def measure(data: bytes) -> Whole | NotYet | Nothing:
    """Judge the transmission that begins here (see `framing.Measure`)."""
    if data[:8] != START[: len(data)]:
        return Nothing()
    if len(data) < 8:
        return NotYet(8)
    try:
        _, end = _unescape(data)
        if end is None:
            return NotYet(len(data) + 1)
        decode(data[:end])
    except ProtocolError as error:
        return Nothing(error.sort)
    return Whole(end)


def splitter() -> StreamSplitter:
    """Return a splitter for an optical head."""
    return StreamSplitter(measure, MAX_FRAME, starts=b"\x1b")


# --- messages


def _messages(payload: bytes) -> tuple[Message, ...]:
    messages: list[Message] = []
    at = 0
    while at < len(payload):
        if payload[at] == 0:  # some meters put their padding before the announced one
            at += 1
            continue
        begin = at
        node, at, crc_at = read_node(payload, at)
        messages.append(_message(node, payload[begin:crc_at]))
    return tuple(messages)


def _message(node: Node, before_crc: bytes) -> Message:
    if not isinstance(node, tuple) or len(node) != 6:
        raise FrameError("an SML message is not a list of six", before_crc)
    transaction, group, abort, body, crc, end = node
    if not isinstance(body, tuple) or len(body) != 2 or not isinstance(body[0], Integer):
        raise FrameError("the body of an SML message is not tag and content", before_crc)
    if end is not END:
        raise FrameError("an SML message has no end", before_crc)
    number = crc if isinstance(crc, Integer) else None
    computed = crc16_x25(before_crc)
    right = number is not None and number.value in (computed, int.from_bytes(_low_first(computed), "big"))
    return Message(transaction, group, abort, body[0], body[1], number, right)


def _encode_message(message: Message) -> bytes:
    head = encode_head(7, 6) + b"".join(encode_node(n) for n in (message.transaction, message.group, message.abort))
    head += encode_node((message.kind, message.body))
    crc = message.crc or Integer(int.from_bytes(_low_first(crc16_x25(head)), "big"), 2, False)
    return head + encode_node(crc) + b"\x00"


# --- lists of values

_UNIT_WORDS: Final = (
    "a mo wk d h min s ° °C currency m m/s m³ m³ m³/h m³/h m³/d m³/d l kg N Nm Pa bar J J/h W VA var Wh VAh varh "
    "A C V V/m F Ω Ωm²/m Wb T A/m H Hz 1/(Wh) 1/(varh) 1/(VAh) V²h A²h kg/s S K 1/(V²h) 1/(A²h) 1/m³ % Ah"
)
UNITS: Final = dict(enumerate(_UNIT_WORDS.split(), start=1))
"""Unit codes of DLMS, 1 to 57."""
_DZG_STATUS_MASK, _DZG_IMPORTING = 0xFFE009FF, 0x104


def _value_list(body: Node) -> ValueList:
    """Raises: FrameError when a GetListResponse is not a list of seven with a list of entries."""
    if not isinstance(body, tuple) or len(body) != 7 or not isinstance(body[4], tuple):
        raise FrameError("SML list of values is not a list of seven")
    server = body[1] if isinstance(body[1], bytes) else b""
    entries = tuple(_entry(node) for node in body[4])
    return ValueList(server, _time(body[3]), _without_dzg_fault(entries))


def _entry(node: Node) -> Entry:
    name = node[0] if isinstance(node, tuple) and len(node) == 7 else None
    if not isinstance(node, tuple) or not isinstance(name, bytes):
        raise FrameError("SML entry is not a list of seven with a name")
    _, status, time, unit, scaler, value, _ = node
    code = _int(unit)
    word = "" if code is None else UNITS.get(code, str(code))
    number = _number(_int(value), _int(scaler))
    return Entry(_obis(name), _int(status), _time(time), word, number, value)


def _int(node: Node) -> int | None:
    return node.value if isinstance(node, Integer) else None


def _number(value: int | None, scaler: int | None) -> Decimal | None:
    if value is None or not -18 <= (scaler or 0) <= 18:
        return None
    return Decimal(value).scaleb(scaler or 0)


def _time(node: Node) -> int | None:
    """A choice of (1, counter) or (2, Unix time); Holley meters send the bare number."""
    if isinstance(node, tuple) and len(node) == 2:
        return _int(node[1])
    return _int(node)


def _obis(name: bytes) -> str:
    if len(name) != 6:
        return name.hex().upper()
    a, b, c, d, e, f = name
    return f"{a}-{b}:{c}.{d}.{e}*{f}"


def printed_server(server: bytes) -> str:
    """Return a server id as printed on the meter (DIN 43863-5), else its bytes: "1 DZG00 6069 4612", "31-30-30"."""
    if len(server) == 10 and server[0] in (9, 10):
        number = int.from_bytes(server[6:], "big")
        maker = server[2:5].decode("latin-1")
        return f"{server[1]:X} {maker}{server[5]:02X} {number // 10000:04d} {number % 10000:04d}"
    return "-".join(f"{byte:02X}" for byte in server)


def _without_dzg_fault(entries: tuple[Entry, ...]) -> tuple[Entry, ...]:
    """Repair the power of DZG DVS-74 meters.

    They send a positive power of up to 3 bytes whose highest bit is set as a signed number. Their status word tells
    the direction: while they import, a negative 16.7.0 cannot be (reported by jmberg/libsml: 356.24 W read -299.12).
    """
    dzg = any(e.obis == "1-0:96.1.0*255" and isinstance(e.raw, bytes) and e.raw[2:6] == b"DZG\0" for e in entries)
    importing = any(e.status is not None and e.status & _DZG_STATUS_MASK == _DZG_IMPORTING for e in entries)
    if not (dzg and importing):
        return entries
    return tuple(_as_unsigned(e) if e.obis == "1-0:16.7.0*255" else e for e in entries)


def _as_unsigned(entry: Entry) -> Entry:
    raw, number = entry.raw, entry.number
    if not isinstance(raw, Integer) or number is None or raw.value >= 0 or raw.size > 3:
        return entry
    scale = number / raw.value
    fixed = (raw.value + (1 << 8 * raw.size)) * scale
    return Entry(entry.obis, entry.status, entry.time_s, entry.unit, fixed, raw)


# --- our words

_KILO: Final = Decimal("0.001")
_EXPORT_TARIFFS: Final = ("1-0:2.8.1", "1-0:2.8.2", "1-0:2.8.3", "1-0:2.8.4")
_QUANTITIES: Final[dict[str, tuple[Quantity, str, Decimal]]] = {
    "1-0:1.8.0": ("energy_import", "Wh", _KILO),
    "1-0:1.8.1": ("energy_import_t1", "Wh", _KILO),
    "1-0:1.8.2": ("energy_import_t2", "Wh", _KILO),
    "1-0:1.8.3": ("energy_import_t3", "Wh", _KILO),
    "1-0:1.8.4": ("energy_import_t4", "Wh", _KILO),
    "1-0:2.8.0": ("energy_export", "Wh", _KILO),
    "1-0:16.7.0": ("power", "W", _KILO),
    "1-0:32.7.0": ("voltage", "V", Decimal(1)),
    "1-0:31.7.0": ("current", "A", Decimal(1)),
    "7-0:3.0.0": ("volume", "m³", Decimal(1)),
    "8-0:1.0.0": ("volume", "m³", Decimal(1)),
}


def house_values(file: File) -> dict[Quantity, int]:
    """Return {quantity: 10⁻⁶ of the house unit}; finer digits (10⁻⁴ W) are rounded to the nearest.

    Where a meter has only tariff registers of its export, energy_export is their sum.
    """
    found: dict[Quantity, int] = {}
    exported: dict[str, int] = {}
    for entry in file.entries:
        code = entry.obis.partition("*")[0]
        if code in _EXPORT_TARIFFS and (micro := _micro(entry, "Wh", _KILO)) is not None:
            exported.setdefault(code, micro)
        if code not in _QUANTITIES:
            continue
        quantity, unit, factor = _QUANTITIES[code]
        if (micro := _micro(entry, unit, factor)) is not None:
            found.setdefault(quantity, micro)
    if exported:
        found.setdefault("energy_export", sum(exported.values()))
    return found


def _micro(entry: Entry, unit: str, factor: Decimal) -> int | None:
    if entry.unit != unit or entry.number is None:
        return None
    with localcontext() as context:
        context.prec = 60
        micro = int((entry.number * factor * MICRO).to_integral_value(ROUND_HALF_EVEN))
    return micro if abs(micro) <= INT64_MAX else None
