"""Modbus PDUs: reads and register writes, their answers, exceptions. Values of registers: see `registers`.

Source: Modbus Application Protocol Specification V1.1b3, clauses 6 and 7.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

from metering.errors import FrameError, MeterError

READ_COILS: Final = 1
READ_DISCRETE: Final = 2
READ_HOLDING: Final = 3
READ_INPUT: Final = 4
WRITE_COIL: Final = 5
WRITE_REGISTER: Final = 6
WRITE_COILS: Final = 15
WRITE_REGISTERS: Final = 16

_BITS: Final = (READ_COILS, READ_DISCRETE)
_READS: Final = (READ_COILS, READ_DISCRETE, READ_HOLDING, READ_INPUT)
_SINGLES: Final = (WRITE_COIL, WRITE_REGISTER)
_MULTIPLES: Final = (WRITE_COILS, WRITE_REGISTERS)
FUNCTIONS: Final = frozenset(_READS + _SINGLES + _MULTIPLES)
MOST_READ: Final = {READ_COILS: 2000, READ_DISCRETE: 2000, READ_HOLDING: 125, READ_INPUT: 125}
MOST_WRITTEN: Final = {WRITE_COILS: 1968, WRITE_REGISTERS: 123}

EXCEPTIONS: Final = {
    0x01: "illegal function",
    0x02: "illegal data address",
    0x03: "illegal data value",
    0x04: "server device failure",
    0x05: "acknowledge",
    0x06: "server device busy",
    0x08: "memory parity error",
    0x0A: "gateway path unavailable",
    0x0B: "gateway target device failed to respond",
}


@dataclass(frozen=True, slots=True)
class ReadRequest:
    """Read `count` registers (or bits) from wire address `address`."""

    function: int
    address: int
    count: int


@dataclass(frozen=True, slots=True)
class ReadAnswer:
    """The bytes that were read, two per register, high byte first."""

    function: int
    data: bytes

    @property
    def registers(self) -> tuple[int, ...]:
        """The 16-bit registers. Raises: FrameError for an odd number of bytes (coils)."""
        if len(self.data) % 2:
            raise FrameError(f"{len(self.data)} bytes are no whole registers", self.data, sort="length")
        return struct.unpack(f">{len(self.data) // 2}H", self.data)


@dataclass(frozen=True, slots=True)
class WriteSingle:
    """Write one register or coil (FF00 on, 0000 off); the answer is the same."""

    function: int
    address: int
    value: int


@dataclass(frozen=True, slots=True)
class WriteRequest:
    """Write `count` registers or coils: `data` as on the wire."""

    function: int
    address: int
    count: int
    data: bytes


@dataclass(frozen=True, slots=True)
class WriteAnswer:
    """`count` registers or coils from `address` were written."""

    function: int
    address: int
    count: int


@dataclass(frozen=True, slots=True)
class Refusal:
    """Exception answer. function: the one asked for, without 80H."""

    function: int
    code: int

    @property
    def name(self) -> str:
        return EXCEPTIONS.get(self.code, f"exception {self.code:02X}")


Request = ReadRequest | WriteSingle | WriteRequest
Answer = ReadAnswer | WriteSingle | WriteAnswer | Refusal


def encode(pdu: Request | Answer) -> bytes:
    """Return the bytes of a PDU. Raises: FrameError for what the specification does not allow."""
    match pdu:
        case ReadRequest(function, address, count) | WriteAnswer(function, address, count):
            raw = struct.pack(">BHH", function, _word(address), _word(count))
        case ReadAnswer(function, data):
            raw = bytes((function, _byte(len(data)))) + data
        case WriteSingle(function, address, value):
            raw = struct.pack(">BHH", function, _word(address), _word(value))
        case WriteRequest(function, address, count, data):
            raw = struct.pack(">BHHB", function, _word(address), _word(count), _byte(len(data))) + data
        case Refusal(function, code):
            raw = bytes((function | 0x80, code))
    again = decode_request(raw) if isinstance(pdu, ReadRequest | WriteRequest) else decode_answer(raw)
    if again != pdu:
        raise FrameError(f"{pdu} is no Modbus PDU", raw)
    return raw


def decode_request(raw: bytes) -> Request:
    """Take a request apart. Raises: FrameError, sort "length" (bytes lack or are too many), "function", "value"."""
    function = _function(raw)
    if function in _READS:
        address, count = _two_words(raw)
        _limit(count, MOST_READ[function], raw)
        return ReadRequest(function, address, count)
    if function in _SINGLES:
        return WriteSingle(function, *_two_words(raw))
    if function in _MULTIPLES:
        return _write_request(raw)
    raise FrameError(f"Modbus function {function} is not spoken here", raw, sort="function")


def decode_answer(raw: bytes) -> Answer:
    """Take an answer apart. Raises: FrameError, as `decode_request`."""
    function = _function(raw)
    if function & 0x80:
        if len(raw) != 2:
            raise FrameError(f"exception answer of {len(raw)} bytes; 2 are needed", raw, sort="length")
        return Refusal(function & 0x7F, raw[1])
    if function in _READS:
        return _read_answer(raw)
    if function in _SINGLES:
        return WriteSingle(function, *_two_words(raw))
    if function in _MULTIPLES:
        address, count = _two_words(raw)
        _limit(count, MOST_WRITTEN[function], raw)
        return WriteAnswer(function, address, count)
    raise FrameError(f"Modbus function {function} is not spoken here", raw, sort="function")


def request_size(head: bytes) -> int:
    """Return [bytes] of the request PDU that begins so; -n: n bytes must be seen first; 0: no request begins so."""
    if head[0] in _READS or head[0] in _SINGLES:
        return 5
    if head[0] in _MULTIPLES:
        return 6 + head[5] if len(head) > 5 else -6
    return 0


def answer_size(head: bytes) -> int:
    """Return [bytes] of the answer PDU that begins so; -n: n bytes must be seen first; 0: no answer begins so."""
    if head[0] & 0x80:
        return 2 if head[0] & 0x7F in FUNCTIONS else 0
    if head[0] in _READS:
        return 2 + head[1] if len(head) > 1 else -2
    return 5 if head[0] in FUNCTIONS else 0


def check(request: Request, answer: Answer, *, item_bytes: int = 2) -> Answer:
    """Return the answer when it is one to this request.

    item_bytes: [bytes] per register; 4 or 8 for Enron style devices, where one address holds a whole number.
    Raises: MeterError, with the exception code, when the meter refuses; FrameError for an answer to something else.
    """
    if answer.function != request.function:
        message = f"asked for function {request.function}, answered {answer.function}"
        raise FrameError(message, encode(answer), sort="function")
    if isinstance(answer, Refusal):
        raise MeterError(f"the meter refuses: {answer.name}", encode(answer), code=answer.code)
    if isinstance(request, ReadRequest) and isinstance(answer, ReadAnswer):
        bits = request.function in _BITS
        wanted = (request.count + 7) // 8 if bits else request.count * item_bytes
        if len(answer.data) != wanted:
            raise FrameError(f"{wanted} bytes were asked for, {len(answer.data)} came", answer.data, sort="length")
    elif isinstance(request, WriteRequest):
        if answer != WriteAnswer(request.function, request.address, request.count):
            raise FrameError("the answer confirms another write", encode(answer), sort="value")
    elif answer != request:
        raise FrameError("the answer confirms another write", encode(answer), sort="value")
    return answer


def _read_answer(raw: bytes) -> ReadAnswer:
    size = raw[1] if len(raw) > 1 else 0
    if len(raw) < 2 or len(raw) != 2 + size:
        raise FrameError(f"{len(raw) - 2} data bytes; the byte count says {size}", raw, sort="length")
    if not size or (size % 2 and raw[0] not in _BITS):
        raise FrameError(f"byte count {size} is no number of registers", raw, sort="length")
    return ReadAnswer(raw[0], raw[2:])


def _write_request(raw: bytes) -> WriteRequest:
    if len(raw) < 6 or len(raw) != 6 + raw[5]:
        raise FrameError(f"write request of {len(raw)} bytes does not fit its byte count", raw, sort="length")
    function, address, count, size = struct.unpack(">BHHB", raw[:6])
    _limit(count, MOST_WRITTEN[function], raw)
    if size != (count * 2 if function == WRITE_REGISTERS else (count + 7) // 8):
        raise FrameError(f"byte count {size} does not fit {count} items", raw, sort="length")
    return WriteRequest(function, address, count, raw[6:])


def _function(raw: bytes) -> int:
    if not raw:
        raise FrameError("empty Modbus PDU", raw, sort="length")
    return raw[0]


def _two_words(raw: bytes) -> tuple[int, int]:
    if len(raw) != 5:
        raise FrameError(f"Modbus PDU of {len(raw)} bytes; 5 are needed", raw, sort="length")
    first, second = struct.unpack(">HH", raw[1:])
    return first, second


def _limit(count: int, most: int, raw: bytes) -> None:
    if not 1 <= count <= most:
        raise FrameError(f"count {count}; 1 to {most} are allowed", raw, sort="value")


def _word(number: int) -> int:
    if not 0 <= number <= 0xFFFF:
        raise FrameError(f"{number} does not fit into 16 bits", sort="value")
    return number


def _byte(number: int) -> int:
    if number > 255:
        raise FrameError(f"{number} data bytes; 255 are possible", sort="length")
    return number
