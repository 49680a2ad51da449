"""What stands behind DI and SER in a CJ/T 188 frame: typed, and back to the same bytes.

A `Layout` holds what meters do differently: decimals, and the unit byte before the number (vendor JY).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from gateway.protocols.cjt188.units import UNITS, Amount, Clock, Kind

AMOUNT_SIZE: Final = 5
VOLUMES_SIZE: Final = 19
HEAT_SIZE: Final = 43


@dataclass(frozen=True, slots=True)
class Layout:
    """Decimals of each kind of number; unit_first: unit byte before the number, None: see which one fits."""

    volume: int = 2
    energy: int = 2
    power: int = 2
    flow: int = 4
    temperature: int = 2
    unit_first: bool | None = None

    def decimals(self, kind: Kind) -> int:
        return {"volume": self.volume, "energy": self.energy, "power": self.power, "flow": self.flow}[kind]


STANDARD_LAYOUT: Final = Layout()


@dataclass(frozen=True, slots=True)
class Volumes:
    """901F of water and gas: index now, index of the last settlement day, clock, ST. extra: vendor bytes behind."""

    current: Amount
    settlement: Amount
    clock: Clock
    status: bytes
    extra: bytes = b""

    def encode(self) -> bytes:
        return self.current.encode() + self.settlement.encode() + self.clock.raw + self.status + self.extra


@dataclass(frozen=True, slots=True)
class Heat:
    """901F of heat: energies are settlement then current (type 25: cooling, then heat); temperatures 3 BCD bytes."""

    energy_1: Amount
    energy_2: Amount
    power: Amount
    flow: Amount
    volume: Amount
    supply: Amount
    back: Amount
    hours: Amount
    clock: Clock
    status: bytes
    extra: bytes = b""

    def encode(self) -> bytes:
        units = (self.energy_1, self.energy_2, self.power, self.flow, self.volume)
        bare = (self.supply, self.back, self.hours)
        parts = b"".join(amount.encode() for amount in units) + b"".join(amount.digits for amount in bare)
        return parts + self.clock.raw + self.status + self.extra


@dataclass(frozen=True, slots=True)
class Settlement:
    """D120..: index of the last settlement day `months_back` months ago (1 = the last one)."""

    value: Amount
    months_back: int

    def encode(self) -> bytes:
        return self.value.encode()


@dataclass(frozen=True, slots=True)
class Freeze:
    """D3xx, D4xx (2018): timed or instant freeze. pressure: 3 BCD bytes, its unit is the vendor's."""

    clock: Clock
    volume: Amount
    flow: Amount
    temperature: Amount
    pressure: Amount

    def encode(self) -> bytes:
        return (
            self.clock.raw
            + self.volume.encode()
            + self.flow.encode()
            + self.temperature.digits
            + self.pressure.digits
        )


@dataclass(frozen=True, slots=True)
class Initial:
    """A016: the initial reading that is written into the meter."""

    value: Amount

    def encode(self) -> bytes:
        return self.value.encode()


@dataclass(frozen=True, slots=True)
class SetTime:
    """A015: standard time; 907F: clock."""

    clock: Clock

    def encode(self) -> bytes:
        return self.clock.raw


@dataclass(frozen=True, slots=True)
class Valve:
    """A017: valve command. 55 open, 99 close; vendors: 66 and 77 set it free, 00 asks."""

    command: int

    @property
    def word(self) -> str:
        words = {0x55: "open", 0x99: "close", 0x66: "free-open", 0x77: "free-close", 0x00: "query"}
        return words.get(self.command, f"{self.command:02X}")

    def encode(self) -> bytes:
        return bytes((self.command,))


@dataclass(frozen=True, slots=True)
class ValveAnswer:
    """Answer to A017: ST, at the moment of the command. Only reading ST later proves that the valve moved."""

    status: bytes

    def encode(self) -> bytes:
        return self.status


@dataclass(frozen=True, slots=True)
class NewAddress:
    """A018, and answers to 810A that repeat the address: 14 digits as printed."""

    address: str

    def encode(self) -> bytes:
        return bytes.fromhex(self.address)[::-1]


@dataclass(frozen=True, slots=True)
class Refusal:
    """Abnormal answer: status bytes as they came (papers disagree: one byte, or SER and two)."""

    status: bytes

    def encode(self) -> bytes:
        return self.status


@dataclass(frozen=True, slots=True)
class Plain:
    """Bytes without a layout known here; b"" for a request."""

    raw: bytes

    def encode(self) -> bytes:
        return self.raw


Body = Volumes | Heat | Settlement | Freeze | Initial | SetTime | Valve | ValveAnswer | NewAddress | Refusal | Plain

_VOLUMES_KINDS: Final[tuple[Kind, ...]] = ("volume", "volume")
_HEAT_KINDS: Final[tuple[Kind, ...]] = ("energy", "energy", "power", "flow", "volume")


def volumes(raw: bytes, layout: Layout) -> Volumes:
    """Read at least 19 bytes of 901F of a water or gas meter."""
    current, settlement = amounts(raw, _VOLUMES_KINDS, layout)
    return Volumes(current, settlement, Clock(raw[10:17]), raw[17:19], raw[19:])


def heat(raw: bytes, layout: Layout) -> Heat:
    """Read at least 43 bytes of 901F of a heat meter."""
    energy_1, energy_2, power, flow, volume = amounts(raw, _HEAT_KINDS, layout)
    supply, back = (Amount(raw[i : i + 3], 0, layout.temperature) for i in (25, 28))
    hours = Amount(raw[31:34], 0, 0)
    return Heat(energy_1, energy_2, power, flow, volume, supply, back, hours, Clock(raw[34:41]), raw[41:43], raw[43:])


def freeze(raw: bytes, layout: Layout) -> Freeze:
    """Read the 23 bytes of a freeze: time 7, volume 5, flow 5, temperature 3, pressure 3."""
    volume, flow = amounts(raw[7:17], ("volume", "flow"), layout)
    temperature = Amount(raw[17:20], 0, layout.temperature)
    return Freeze(Clock(raw[:7]), volume, flow, temperature, Amount(raw[20:23], 0, 0))


def amounts(raw: bytes, kinds: tuple[Kind, ...], layout: Layout) -> list[Amount]:
    """Read amounts of 5 bytes that stand one behind the other."""
    unit_first = layout.unit_first
    if unit_first is None:
        unit_first = not _fits(raw, kinds, 4) and _fits(raw, kinds, 0)
    found = []
    for place, kind in enumerate(kinds):
        part = raw[place * AMOUNT_SIZE : (place + 1) * AMOUNT_SIZE]
        digits, unit = (part[1:], part[0]) if unit_first else (part[:4], part[4])
        found.append(Amount(digits, unit, layout.decimals(kind), unit_first))
    return found


def _fits(raw: bytes, kinds: tuple[Kind, ...], offset: int) -> bool:
    """True when every unit byte at `offset` of its amount means a unit of the right kind."""
    units = (UNITS.get(raw[place * AMOUNT_SIZE + offset]) for place in range(len(kinds)))
    return all(unit is not None and unit.kind == kind for unit, kind in zip(units, kinds, strict=True))
