"""From a checked CJ/T 188 frame to its meaning, and back; and the requests a gateway sends."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from gateway.protocols.cjt188 import body as bodies
from gateway.protocols.cjt188.body import Body, Layout, NewAddress, Plain, Refusal, SetTime, Valve, ValveAnswer
from gateway.protocols.cjt188.frame import WILDCARD, Frame
from gateway.protocols.cjt188.units import Amount, Clock
from gateway.protocols.shape68 import address_bytes
from metering.errors import FrameError

Order = Literal["big", "little"]

READ: Final = 0x01
READ_ADDRESS: Final = 0x03
WRITE: Final = 0x04
WRITE_ADDRESS: Final = 0x15
WRITE_INITIAL: Final = 0x16
VENDOR_VALVE: Final = 0x2A
ANSWER: Final = 0x80

DI_CURRENT: Final = 0x901F
DI_CLOCK: Final = 0x907F
DI_ADDRESS: Final = 0x810A
DI_SET_TIME: Final = 0xA015
DI_INITIAL: Final = 0xA016
DI_VALVE: Final = 0xA017
DI_NEW_ADDRESS: Final = 0xA018
ANY_TYPE: Final = 0xAA

_KNOWN: Final = frozenset(
    {0x901F, 0x911F, 0x907F, 0x903F, 0x904F, 0x905F, 0x906F}
    | set(range(0x8102, 0x810B))
    | set(range(0xA010, 0xA01A))
    | set(range(0xA101, 0xA108))
    | set(range(0x9130, 0x9190))
    | set(range(0xD120, 0xD12C))
    | set(range(0xD200, 0xD500))
)
"""Identifiers of the standards and of common vendors; they tell the byte order of a frame."""


@dataclass(frozen=True, slots=True)
class Message:
    """A frame with its data understood. di and ser are None where the frame has none (abnormal answers)."""

    meter_type: int
    address: str
    control: int
    di: int | None
    order: Order
    ser: int | None
    body: Body


def parse(frame: Frame, layout: Layout = bodies.STANDARD_LAYOUT, *, order: Order | None = None) -> Message:
    """Understand a frame's data. order: the meter's order of the DI bytes, None: take the one that is in the table.

    Data whose layout is not known here come back as `Plain`. Raises: FrameError when DI and SER are missing.
    """
    data = frame.data
    if frame.abnormal:
        return _parse_refusal(frame)
    if len(data) < 3:
        raise FrameError(f"{len(data)} data bytes; DI and SER take 3", data, sort="length")
    di, order = di_of(data[:2], order)
    body = _parse_body(frame, di, data[3:], layout)
    return Message(frame.meter_type, frame.address, frame.control, di, order, data[2], body)


def build(message: Message) -> Frame:
    """Return the frame of a message; `parse` of it gives the message back."""
    head = b""
    if message.di is not None:
        head += message.di.to_bytes(2, message.order)
    if message.ser is not None:
        head += bytes((message.ser,))
    return Frame(message.meter_type, message.address, message.control, head + message.body.encode())


def di_of(raw: bytes, order: Order | None = None) -> tuple[int, Order]:
    """Return DI and the byte order; without an order given, the one under which the DI is known.

    An unknown DI is taken for big-endian unless only the other way it begins with 8, 9 or A..F as all DIs do.
    """
    big = int.from_bytes(raw, "big")
    little = int.from_bytes(raw, "little")
    if order is None:
        unlikely = raw[0] < 0x80 <= raw[1]
        order = "little" if big not in _KNOWN and (little in _KNOWN or unlikely) else "big"
    return (big, "big") if order == "big" else (little, "little")


def read_request(meter_type: int, address: str, di: int = DI_CURRENT, *, ser: int = 0, order: Order = "big") -> Frame:
    """Ask for data; an address of AA bytes reaches the only meter on the line."""
    return build(Message(meter_type, address, READ, di, order, ser, Plain(b"")))


def read_address_request(*, ser: int = 0, order: Order = "big") -> Frame:
    """Ask the only meter on the line who it is."""
    return build(Message(ANY_TYPE, WILDCARD, READ_ADDRESS, DI_ADDRESS, order, ser, Plain(b"")))


def set_time_request(meter_type: int, address: str, time: str, *, ser: int = 0, order: Order = "big") -> Frame:
    """Set the clock to the meter's local time, "2026-01-31T23:59:58". Raises: FrameError for an impossible time."""
    return build(Message(meter_type, address, WRITE, DI_SET_TIME, order, ser, SetTime(Clock.of(time))))


def valve_request(
    meter_type: int,
    address: str,
    command: Literal["open", "close"],
    *,
    ser: int = 0,
    order: Order = "big",
    control: int = WRITE,
) -> Frame:
    """Open (many gas meters: permit opening) or close the valve. control: 2A for meters with that vendor code."""
    body = Valve(0x55 if command == "open" else 0x99)
    return build(Message(meter_type, address, control, DI_VALVE, order, ser, body))


def write_address_request(
    meter_type: int, address: str, new_address: str, *, ser: int = 0, order: Order = "big"
) -> Frame:
    """Give the meter another address. Raises: FrameError unless both have 14 digits."""
    body = NewAddress(address_bytes(new_address, 7)[::-1].hex().upper())
    return build(Message(meter_type, address, WRITE_ADDRESS, DI_NEW_ADDRESS, order, ser, body))


def write_initial_request(
    meter_type: int, address: str, value: Amount, *, ser: int = 0, order: Order = "big"
) -> Frame:
    """Tell the electronics what the dial shows."""
    return build(Message(meter_type, address, WRITE_INITIAL, DI_INITIAL, order, ser, bodies.Initial(value)))


def _parse_refusal(frame: Frame) -> Message:
    """Papers disagree on abnormal answers: status 1 byte, SER and status 2, or DI and SER before the status."""
    data, di, order, ser = frame.data, None, "big", None
    if len(data) >= 4 and (int.from_bytes(data[:2], "big") in _KNOWN or int.from_bytes(data[:2], "little") in _KNOWN):
        (di, order), data = di_of(data[:2]), data[2:]
    if len(data) >= 2:
        ser, data = data[0], data[1:]
    return Message(
        frame.meter_type,
        frame.address,
        frame.control,
        di,
        "little" if order == "little" else "big",
        ser,
        Refusal(data),
    )


def _parse_body(frame: Frame, di: int, raw: bytes, layout: Layout) -> Body:
    if not raw:
        return Plain(raw)
    if di == DI_VALVE:
        return _valve_body(frame, raw)
    if di in (DI_CURRENT, 0x911F):
        return _current_body(frame, raw, layout)
    if len(raw) == 7:
        if di in (DI_SET_TIME, DI_CLOCK):
            return SetTime(Clock(raw))
        if di in (DI_NEW_ADDRESS, DI_ADDRESS):
            return NewAddress(raw[::-1].hex().upper())
    return _stored_body(di, raw, layout)


def _valve_body(frame: Frame, raw: bytes) -> Body:
    if frame.from_meter:
        return ValveAnswer(raw) if len(raw) == 2 else Plain(raw)
    return Valve(raw[0]) if len(raw) == 1 else Plain(raw)


def _current_body(frame: Frame, raw: bytes, layout: Layout) -> Body:
    """The length tells water and gas from heat; the type decides when vendors append bytes of their own."""
    if len(raw) == bodies.HEAT_SIZE or (len(raw) > bodies.HEAT_SIZE and frame.meter_type & 0xF0 == 0x20):
        return bodies.heat(raw, layout)
    if len(raw) == bodies.VOLUMES_SIZE or (
        len(raw) > bodies.VOLUMES_SIZE and frame.meter_type & 0xF0 in (0x10, 0x30)
    ):
        return bodies.volumes(raw, layout)
    return Plain(raw)


def _stored_body(di: int, raw: bytes, layout: Layout) -> Body:
    kind: Literal["energy", "volume"] = "volume"
    if len(raw) == bodies.AMOUNT_SIZE:
        (value,) = bodies.amounts(raw, (kind,), layout)
        if di == DI_INITIAL:
            return bodies.Initial(value)
        if 0xD120 <= di <= 0xD12B:
            return bodies.Settlement(value, di - 0xD120 + 1)
        if 0xD200 <= di <= 0xD2FF:
            return bodies.Settlement(value, di - 0xD200 + 1)
    if len(raw) == 23 and 0xD300 <= di <= 0xD4FF:
        return bodies.freeze(raw, layout)
    return Plain(raw)
