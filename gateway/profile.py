"""What a meter model means to drivers and planners: fields at their registers, decoded exactly.

A model is a data file (`gateway/profiles/*.toml`); `gateway.profiles` reads and checks it, this is the result.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property
from typing import Literal

from gateway.profile_file import Absent, FieldFile, GoldenFile, Medium, ProfileFile, ProtocolName
from gateway.protocols.registers import BYTES, Number, decoder
from gateway.units import factor
from metering.errors import FrameError
from metering.quantities import UNITS, Quantity, from_micro, to_micro
from metering.reading import Flag


@dataclass(frozen=True, slots=True)
class Part:
    """A number at its place."""

    register: int
    form: Number


@dataclass(frozen=True, slots=True)
class FlagBit:
    """`bit` of Reading.flags is set when (number & mask) == equals."""

    bit: int
    mask: int
    equals: int


@dataclass(frozen=True, slots=True)
class Item:
    """Where a value stands in protocols that name their data: see `gateway.items`.

    item: DI, record or address. value: which one of the item. decimals, size: None, 0: as the standard says.
    micro: [10⁻⁶ of the house unit] per `unit`. words: masked number -> [10⁻⁶ of the house unit].
    """

    item: str
    value: str
    decimals: int | None
    size: int
    signed: bool
    unit: str
    micro: Decimal
    mask: int
    words: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class MeterField:
    """One thing that the meter tells. quantity None: flags. offset: [10⁻⁶ of the house unit].

    parts: places in registers, none in protocols that have items instead.
    """

    name: str
    quantity: Quantity | None
    function: int
    parts: tuple[Part, ...]
    offset: int
    flags: tuple[FlagBit, ...]
    item: Item | None = None

    @property
    def start(self) -> int:
        """First register."""
        return min(part.register for part in self.parts)

    @property
    def stop(self) -> int:
        """One past the last register."""
        return max(part.register + part.form.registers for part in self.parts)


@dataclass(frozen=True, slots=True)
class Dialect:
    """What a model does its own way. protocol: see `profile_file`; the others belong to one protocol each."""

    protocol: ProtocolName = "modbus"
    meter_type: int = 0
    di_order: Literal["big", "little"] = "big"
    unit_first: bool = False
    single: bool = False


@dataclass(frozen=True)
class Profile:
    """One meter model, checked. index: the field that is billed. index_digits: None when not known.

    takes_time: its clock can be set by the command of its standard.
    """

    id: str
    name: str
    medium: Medium
    source: str
    index: MeterField
    index_digits: int | None
    max_registers: int
    max_gap: int
    fields: tuple[MeterField, ...]
    caveats: tuple[str, ...]
    golden: tuple[GoldenFile, ...]
    dialect: Dialect = Dialect()
    takes_time: bool = False

    @property
    def is_modbus(self) -> bool:
        """True for meters that are read by registers."""
        return self.dialect.protocol == "modbus"

    @cached_property
    def by_name(self) -> dict[str, MeterField]:
        """Fields by their names."""
        return {field.name: field for field in self.fields}


def decode_field(field: MeterField, data: bytes, base: int) -> int | None:
    """Return a field's value from the register bytes of a read that began at register `base`.

    Quantities in 10⁻⁶ of the house unit; flags as the raw number. None: the meter says "not available".
    Raises: FrameError, when the bytes hold no such number or do not reach that far.
    """
    total = field.offset
    for part in field.parts:
        start = (part.register - base) * 2
        raw = data[start : start + part.form.size] if start >= 0 else b""
        if len(raw) != part.form.size:
            raise FrameError(f"registers of {field.name} are not in this answer", data, sort="length")
        value = decoder(part.form)(raw)
        if value is None:
            return None
        total += value
    return total


def flags_of(field: MeterField, raw: int) -> int:
    """Return the bits of `Reading.flags` that a raw number tells."""
    return sum(bit.bit for bit in field.flags if raw & bit.mask == bit.equals)


def flag_names(flags: int) -> str:
    """LOW_BATTERY | ALARM -> "ALARM LOW_BATTERY" (sorted, "" when none)."""
    return " ".join(sorted(name for name, bit in vars(Flag).items() if name.isupper() and flags & bit))


def show(field: MeterField, value: int | None) -> str:
    """Return a field's value for people and golden frames: house-unit decimal, flag names, or "not available"."""
    if value is None:
        return "not available"
    return flag_names(flags_of(field, value)) if field.quantity is None else from_micro(value)


def build(file: ProfileFile) -> Profile:
    """Return what a file means; only for a file without faults (`gateway.profile_checks`)."""
    fields = tuple(_meter_field(field, file.function) for field in file.field)
    return Profile(
        id=file.id,
        name=file.name,
        medium=file.medium,
        source=file.source,
        index=next(field for field in fields if field.name == file.index),
        index_digits=file.index_digits,
        max_registers=file.max_registers,
        max_gap=file.max_gap,
        fields=fields,
        caveats=tuple(caveat.text for caveat in file.caveat),
        golden=tuple(file.golden),
        dialect=Dialect(
            file.protocol, file.meter_type or 0, file.di_order, file.unit_byte == "before", file.readout == "single"
        ),
        takes_time=file.set_time == "standard",
    )


def _meter_field(field: FieldFile, function: int) -> MeterField:
    to_house = factor(field.unit, UNITS[field.quantity]).scaleb(6) if field.quantity else Decimal(1)
    pieces = [(p.register, p.encoding, p.size, p.order, p.scale) for p in field.part]
    if field.register is not None and field.encoding is not None:
        pieces = [(field.register, field.encoding, field.size, field.order, field.scale)]
    parts = []
    for register, encoding, given, order, scale in pieces:
        size = BYTES.get(encoding, given)
        absent = frozenset(_absent_form(word, size) for word in field.not_available if word != "nan")
        form = Number(encoding, size, order, Decimal(scale) * to_house, absent, "nan" in field.not_available)
        parts.append(Part(register, form))
    bits = tuple(FlagBit(getattr(Flag, f.flag), f.mask, f.mask if f.equals is None else f.equals) for f in field.flag)
    item = None
    if field.item:
        words = tuple((word.equals, to_micro(word.value)) for word in field.word)
        item = Item(
            field.item, field.value, field.decimals, field.size, field.signed, field.unit,
            Decimal(field.scale) * to_house, field.mask, words,
        )  # fmt: skip
    return MeterField(
        field.name, field.quantity, field.function or function, tuple(parts), to_micro(field.offset), bits, item
    )


def _absent_form(word: Absent, size: int) -> bytes:
    if word == "all_ff":
        return b"\xff" * size
    return b"\x7f" + b"\xff" * (size - 1) if word == "max_signed" else b"\x80" + bytes(size - 1)
