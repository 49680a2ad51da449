"""From M-Bus records to our own words and units: {quantity: 10⁻⁶ of the house unit}, exact.

Only what is certain: present values (storage 0, tariff 0 or 1-4 of energy, main unit) that no VIFE turns into
something else. Two records that claim one quantity with different values: neither is taken; a profile must choose.
"""

from __future__ import annotations

from collections.abc import Iterable
from decimal import ROUND_HALF_EVEN, Decimal, localcontext
from typing import Final

from gateway.protocols.mbus.records import Record
from metering.quantities import INT64_MAX, MICRO, Quantity

_HARMLESS: Final = frozenset({"uncorrected", "base conditions", "only positive", "only negative", "vendor"})

_FACTORS: Final[dict[str, Decimal]] = {
    "m^3": Decimal(1),
    "Wh": Decimal("0.001"),
    "W": Decimal("0.001"),
    "m^3/h": Decimal(1),
    "m^3/min": Decimal(60),
    "m^3/s": Decimal(3600),
    "bar": Decimal(100),
    "°C": Decimal(1),
    "V": Decimal(1),
    "A": Decimal(1),
}
_JOULES_PER_KWH: Final = 3_600_000
_PLAIN: Final[dict[str, Quantity]] = {
    "Volume flow": "flow",
    "Power": "power",
    "Pressure": "pressure",
    "Flow temperature": "temperature",
    "Return temperature": "temperature_2",
    "Voltage": "voltage",
    "Current": "current",
}
_TARIFFS: Final[dict[int, Quantity]] = {
    0: "energy_import",
    1: "energy_import_t1",
    2: "energy_import_t2",
    3: "energy_import_t3",
    4: "energy_import_t4",
}


def house_values(records: Iterable[Record]) -> dict[Quantity, int]:
    """Return {quantity: 10⁻⁶ of the house unit} of the present values."""
    found: dict[Quantity, int] = {}
    unclear: set[Quantity] = set()
    for record in records:
        quantity = _quantity(record)
        value = to_house(record) if quantity else None
        if quantity is None or value is None:
            continue
        if found.setdefault(quantity, value) != value:
            unclear.add(quantity)
    return {quantity: value for quantity, value in found.items() if quantity not in unclear}


def to_house(record: Record) -> int | None:
    """Return one record's number in 10⁻⁶ of our unit for its kind; None when it is no number or has another unit.

    Joules and reals with more decimals are rounded to the nearest 10⁻⁶; everything else is exact.
    """
    meaning = record.meaning
    if not isinstance(record.value, Decimal) or meaning.changed:
        return None
    with localcontext() as context:
        context.prec = 60
        if meaning.unit in ("J", "J/h"):
            number = record.value / _JOULES_PER_KWH
        elif meaning.unit in _FACTORS:
            number = record.value * _FACTORS[meaning.unit]
        else:
            return None
        micro = int((number * MICRO).to_integral_value(ROUND_HALF_EVEN))
    return micro if abs(micro) <= INT64_MAX else None


def _quantity(record: Record) -> Quantity | None:
    if record.function != "instantaneous" or record.storage or record.subunit:
        return None
    meaning = record.meaning
    if "vendor" in meaning.qualifiers and meaning.base.quantity in ("Volume", "Energy"):
        return None  # a maker's second register of the same kind
    if meaning.changed or not set(meaning.qualifiers) <= _HARMLESS:
        return None
    if meaning.quantity == "Energy":
        return _energy(record.tariff, meaning.qualifiers)
    if record.tariff:
        return None
    if meaning.quantity == "Volume":
        return _volume(meaning.qualifiers)
    return _PLAIN.get(meaning.quantity) if not set(meaning.qualifiers) - {"vendor"} else None


def _energy(tariff: int, qualifiers: tuple[str, ...]) -> Quantity | None:
    if "only negative" in qualifiers:
        return "energy_export" if tariff == 0 else None
    return _TARIFFS.get(tariff)


def _volume(qualifiers: tuple[str, ...]) -> Quantity:
    if "only negative" in qualifiers:
        return "volume_reverse"
    if "base conditions" in qualifiers:
        return "volume_standard"
    return "volume_actual" if "uncorrected" in qualifiers else "volume"
