"""The registers of one meter, kept ready as bytes: serving a block is a slice.

An image is laid out once from the fields of a meter profile. Slow quantities are written when the meter refreshes
them; the billed index is written for each answer that holds it, by plain integer arithmetic where its form allows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from gateway.profile import MeterField, Profile
from gateway.protocols.registers import Number, capacity, decode, encode, encode_sum, reorder, step
from metering.errors import FrameError
from metering.quantities import MICRO, Quantity
from simulators.farm_settings import FaultKind

ILLEGAL_FUNCTION: Final = 1
ILLEGAL_ADDRESS: Final = 2
ILLEGAL_VALUE: Final = 3
MAX_COUNT: Final = 125
_MARGIN: Final = 32
"""Registers around the profile's fields that read as zeros: a model has more of them than its profile names."""


@dataclass(frozen=True, slots=True)
class Block:
    """A request that this meter can answer. head: the answer's bytes between transaction id and registers."""

    function: int
    start: int
    count: int
    head: bytes
    begin: int
    end: int
    holds_index: bool


class RegisterImage:
    """All registers of one meter."""

    def __init__(self, profile: Profile, *, gaps: str = "zero") -> None:
        self._fields = [field for field in profile.fields if field is not profile.index]
        self._billed = profile.index
        self._gaps = gaps
        self._first: dict[int, int] = {}
        self._defined: dict[int, set[int]] = {3: set(), 4: set()}
        for field in profile.fields:
            self._defined[field.function].update(_registers(field))
        self._bytes: dict[int, bytearray] = {}
        for function, registers in self._defined.items():
            first, last = _span(registers, _MARGIN if gaps == "zero" else 0)
            self._first[function] = first
            self._bytes[function] = bytearray(2 * (last + 1 - first))
        self._turnover = _turnover(profile)
        self._write_index = _index_writer(self._billed, self._bytes, self._first)
        self._written = -1
        self.index = 0

    @property
    def step(self) -> int:
        """The smallest change of the index [10⁻⁶ of its house unit] that shows near 10,000 units; at least 1."""
        return step(self._billed.parts[-1].form, 10_000 * MICRO)

    def show(self, values: Mapping[Quantity, int]) -> None:
        """Write slow quantities [10⁻⁶ of the house unit], cut to what each form can show; the index is left alone.

        A quantity that is not among `values` stays as it is, and one that does not fit its registers stays too.
        """
        for field in self._fields:
            micro = values.get(field.quantity) if field.quantity else None
            if micro is not None:
                with suppress(FrameError):
                    self._put(field, _encode(field, micro))

    def show_flags(self, flags: int) -> None:
        """Write what the meter reports of itself: bits of `metering.reading.Flag`."""
        for field in self._fields:
            if field.flags:
                raw = 0
                for known in field.flags:
                    raw |= known.equals if flags & known.bit else 0
                self._put(field, [raw.to_bytes(field.parts[0].form.size, "big")])

    def show_index(self, micro: int) -> int:
        """Write the billed index, rolled over where its registers are full; return what they now say exactly."""
        if micro != self._written:
            self._written = micro
            self.index = self._write_index(micro % self._turnover)
        return self.index

    def show_content(self, kind: FaultKind) -> int | None:
        """Write what a broken meter says for its index; return it when it is a number."""
        self._written = -1
        forms = [part.form for part in self._billed.parts]
        self._put(self._billed, [bytes(f.size) if kind == "zero_index" else _bad_bytes(f, kind) for f in forms])
        return self._billed.offset if kind == "zero_index" else None

    def block(self, unit: int, pdu: bytes) -> Block | int:
        """Understand a request (function, start, count as 5 bytes); an int is the exception code to answer."""
        if not pdu or pdu[0] not in (3, 4):
            return ILLEGAL_FUNCTION
        if len(pdu) != 5:
            return ILLEGAL_VALUE
        function, start, count = pdu[0], pdu[1] << 8 | pdu[2], pdu[3] << 8 | pdu[4]
        if not 1 <= count <= MAX_COUNT:
            return ILLEGAL_VALUE
        begin = 2 * (start - self._first[function])
        if begin < 0 or begin + 2 * count > len(self._bytes[function]):
            return ILLEGAL_ADDRESS
        asked = set(range(start, start + count))
        if self._gaps == "refuse" and not asked <= self._defined[function]:
            return ILLEGAL_ADDRESS
        head = (3 + 2 * count).to_bytes(4, "big") + bytes([unit, function, 2 * count])
        holds = function == self._billed.function and asked.issuperset(_registers(self._billed))
        return Block(function, start, count, head, begin, begin + 2 * count, holds)

    def space(self, function: int) -> bytearray:
        """Return the bytes behind `Block.begin` and `Block.end`."""
        return self._bytes[function]

    def _put(self, field: MeterField, pieces: Iterable[bytes]) -> None:
        for part, raw in zip(field.parts, pieces, strict=True):
            at = 2 * (part.register - self._first[field.function])
            self._bytes[field.function][at : at + len(raw)] = reorder(raw, part.form.order) if field.flags else raw


def _registers(field: MeterField) -> set[int]:
    """Return the registers that a field takes."""
    return {part.register + n for part in field.parts for n in range(part.form.registers)}


def _span(registers: set[int], margin: int) -> tuple[int, int]:
    """Return the first and last register that answer; (0, -1) when there are none."""
    if not registers:
        return 0, -1
    return max(0, min(registers) - margin), min(65_535, max(registers) + margin)


def _turnover(profile: Profile) -> int:
    """Return where the index starts again at 0 [10⁻⁶ of its house unit]: its digits, or what its registers hold."""
    digits = profile.index_digits
    full = capacity(profile.index.parts[0].form) + profile.index.offset
    return min(full, 10**digits * MICRO) if digits else full


def _encode(field: MeterField, micro: int) -> list[bytes]:
    forms = [part.form for part in field.parts]
    value = micro - field.offset
    return encode_sum(forms, value) if len(forms) > 1 else [encode(forms[0], value, cut=True)]


def _index_writer(field: MeterField, spaces: dict[int, bytearray], first: dict[int, int]) -> Callable[[int], int]:
    """Return the function that writes an index and gives back what was written."""
    space = spaces[field.function]
    places = [2 * (part.register - first[field.function]) for part in field.parts]
    forms = [part.form for part in field.parts]
    form, unit = forms[0], int(forms[0].micro)
    whole = form.encoding.startswith(("uint", "int", "bcd")) and unit == form.micro and unit > 0
    if len(forms) == 1 and whole and not field.offset:
        return _whole_writer(form, unit, space, places[0])

    def write(micro: int) -> int:
        shown = field.offset
        for form, at, raw in zip(forms, places, _encode(field, micro), strict=True):
            space[at : at + len(raw)] = raw
            shown += decode(form, raw) or 0
        return shown

    return write


def _whole_writer(form: Number, unit: int, space: bytearray, at: int) -> Callable[[int], int]:
    """The same for one whole number, without Decimal: an answer may cost some 10 µs in all."""
    size, order, is_bcd = form.size, form.order, form.encoding == "bcd"
    end = at + size

    def write(micro: int) -> int:
        raw = micro // unit
        plain = bytes.fromhex(f"{raw:0{2 * size}d}") if is_bcd else raw.to_bytes(size, "big")
        space[at:end] = plain if order == "ABCD" else reorder(plain, order)
        return raw * unit

    return write


def _bad_bytes(form: Number, kind: FaultKind) -> bytes:
    """Return bytes that are no number of this form, or its "not available"."""
    if kind == "not_available" and form.absent:
        return reorder(sorted(form.absent)[0], form.order)
    if form.encoding == "bcd":
        return b"\xab" * form.size if kind == "bad_content" else b"\xff" * form.size
    if form.encoding.startswith("float"):
        nan = b"\x7f\xc0\x00\x00" if form.size == 4 else b"\x7f\xf8" + bytes(6)
        return reorder(nan, form.order)
    return b"\xff" * form.size
