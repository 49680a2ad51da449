"""Join neighbouring registers into as few Modbus reads as the limits allow, and decode what they bring.

A field is never cut: a total in pieces is read in one request, else a carry between two requests would make a false
jump. A meter that refuses a joined block with exception 02 may only lack one register in it: `split` parts the block,
and the poller remembers.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from gateway.profile import MeterField, decode_field, flags_of
from gateway.protocols.registers import Number, decoder, float32_converter, whole_converter
from metering.errors import FrameError
from metering.quantities import Quantity


@dataclass(frozen=True, slots=True)
class Request:
    """One read of `count` registers from `start`, and the fields that it brings."""

    function: int
    start: int
    count: int
    fields: tuple[MeterField, ...]


def plan_requests(fields: Iterable[MeterField], *, max_registers: int, max_gap: int) -> tuple[Request, ...]:
    """Return the fewest reads that bring all fields.

    max_registers: most in one read (a field that is longer still gets one of its own). max_gap: unused registers
    between two fields that a read may cover.
    """
    requests: list[Request] = []
    group: list[MeterField] = []
    for field in sorted(fields, key=lambda f: (f.function, f.start)):
        stop = max((f.stop for f in group), default=0)
        joins = (
            bool(group)
            and group[0].function == field.function
            and field.start - stop <= max_gap
            and max(stop, field.stop) - group[0].start <= max_registers
        )
        if not joins and group:
            requests.append(_request(group))
            group = []
        group.append(field)
    return (*requests, _request(group)) if group else ()


def split(request: Request) -> tuple[Request, ...]:
    """Part a refused block at its widest gap (between equal gaps in the middle); a single field stays as it is."""
    fields = request.fields
    if len(fields) < 2:
        return (request,)
    middle = len(fields) / 2
    cuts = range(1, len(fields))
    at = max(cuts, key=lambda i: (fields[i].start - max(f.stop for f in fields[:i]), -abs(i - middle)))
    return _request(fields[:at]), _request(fields[at:])


def _request(fields: Sequence[MeterField]) -> Request:
    start = min(field.start for field in fields)
    return Request(fields[0].function, start, max(field.stop for field in fields) - start, tuple(fields))


@dataclass(slots=True)
class Found:
    """What the answers of one poll brought so far.

    bad: fields whose registers hold no such number, with the sort of fault. absent: fields of which the meter says
    that it has no value.
    """

    values: dict[Quantity, int]
    flags: int = 0
    bad: dict[str, str] | None = None
    absent: list[str] | None = None


def compile_request(request: Request) -> Callable[[bytes, Found], None]:
    """Return the function that decodes the register bytes of an answer into a `Found`; made once.

    One `struct` takes the block apart, fields of one number each; the others go the general way.
    That function raises FrameError when the bytes are not as many as were asked for.
    """
    size = 2 * request.count
    single = [f for f in request.fields if len(f.parts) == 1 and not f.offset and not f.parts[0].form.absent]
    numbers = sorted((f for f in single if f.quantity is not None), key=lambda f: f.start)
    states = sorted((f for f in single if f.quantity is None), key=lambda f: f.start)
    rest = [f for f in request.fields if f not in single]
    table = [_column(field) for field in numbers]
    unpack = _unpacker(request, numbers)
    unpack_states = _unpacker(request, states) if states else None

    def decode(data: bytes, found: Found) -> None:
        if len(data) != size:
            raise FrameError(f"{len(data)} register bytes, {size} were asked for", data, sort="length")
        values = found.values
        for (quantity, name, convert), raw in zip(table, unpack(data), strict=True):
            try:
                value = convert(raw)
            except FrameError as error:
                _bad(found, name, error)
                continue
            if value is None:
                _absent(found, name)
            else:
                values[quantity] = value
        if unpack_states is not None:
            for field, raw in zip(states, unpack_states(data), strict=True):
                found.flags |= flags_of(field, raw)
        for field in rest:
            _decode_rest(field, data, request.start, found)

    return decode


_Column = tuple[Quantity, str, Callable[[Any], int | None]]
"""Quantity, field name, and the function that converts what `struct` brings."""

_CODES: Final = {
    "uint16": "H", "uint32": "I", "uint64": "Q", "int16": "h", "int32": "i", "int64": "q", "float32": "f",
}  # fmt: skip


def _code(form: Number) -> str:
    """Return the `struct` code of a number; one that needs more than that comes as bytes."""
    return _CODES.get(form.encoding, f"{form.size}s") if form.order == "ABCD" else f"{form.size}s"


def _unpacker(request: Request, fields: Sequence[MeterField]) -> Callable[[bytes], tuple[Any, ...]]:
    """Return what takes these fields, each of one number, out of the bytes of an answer."""
    layout, at = ">", request.start
    for field in fields:
        layout += f"{2 * (field.start - at)}x{_code(field.parts[0].form)}"
        at = field.stop
    return struct.Struct(f"{layout}{2 * (request.start + request.count - at)}x").unpack


def _column(field: MeterField) -> _Column:
    form, quantity = field.parts[0].form, field.quantity
    if quantity is None:
        raise ValueError(f"{field.name} has no quantity")
    code = _code(form)
    if code == "f":
        return quantity, field.name, float32_converter(form)
    return quantity, field.name, decoder(form) if code.endswith("s") else whole_converter(form)


def _decode_rest(field: MeterField, data: bytes, base: int, found: Found) -> None:
    try:
        value = decode_field(field, data, base)
    except FrameError as error:
        _bad(found, field.name, error)
        return
    if value is None:
        _absent(found, field.name)
    elif field.quantity is None:
        found.flags |= flags_of(field, value)
    else:
        found.values[field.quantity] = value


def _bad(found: Found, name: str, error: FrameError) -> None:
    if found.bad is None:
        found.bad = {}
    found.bad[name] = error.sort


def _absent(found: Found, name: str) -> None:
    if found.absent is None:
        found.absent = []
    found.absent.append(name)
