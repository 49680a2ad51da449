"""From the house's integers to what people and programs read: units, times, flags."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, cast

from api.schemas import Amount, LatestOut, ReadingOut
from metering.clock import rfc3339
from metering.quantities import QUANTITIES, UNITS, Quantity, from_micro
from metering.reading import Flag, Reading

_FLAGS: Final = {
    bit: name.lower() for name, bit in vars(Flag).items() if not name.startswith("_") and isinstance(bit, int)
}
_ORDER: Final = {quantity: place for place, quantity in enumerate(QUANTITIES)}


def moment(ms: int | None) -> str | None:
    """Return [ms UTC] as RFC 3339, None for None."""
    return None if ms is None else rfc3339(ms)


def amount(micro: int, quantity: str) -> Amount:
    """Return [10⁻⁶] of a quantity as a decimal string with its unit."""
    return Amount(value=from_micro(micro), unit=unit_of(quantity))


def amount_or_none(micro: int | None, quantity: str) -> Amount | None:
    """As `amount`; None for None."""
    return None if micro is None else amount(micro, quantity)


def unit_of(quantity: str) -> str:
    """Return the natural unit of a quantity, "" for one that this version does not know."""
    return UNITS.get(cast(Quantity, quantity), "")


def flags(bits: int) -> list[str]:
    """5 -> ["valve_closed", "cover"]; a bit without a name becomes "bit_9"."""
    return [_FLAGS.get(1 << place, f"bit_{place}") for place in range(bits.bit_length()) if bits >> place & 1]


def amounts(values: Mapping[str, int]) -> dict[str, Amount]:
    """Return values by quantity, in the order of the closed list."""
    ordered = sorted(values.items(), key=lambda item: _ORDER.get(cast(Quantity, item[0]), len(_ORDER)))
    return {quantity: amount(micro, quantity) for quantity, micro in ordered}


def reading(row: Reading) -> ReadingOut:
    """Return a stored reading as the API shows it."""
    return ReadingOut(**_reading_facts(row))


def latest(row: Any, now_ms: int) -> LatestOut:
    """Return a row of the table `latest` (or a Reading) as the API shows it, with its age at `now_ms`."""
    return LatestOut(**_reading_facts(row), age_s=max(0, now_ms - row.read_at) // 1000)


def _reading_facts(row: Any) -> dict[str, Any]:
    return {
        "meter": row.meter,
        "read_at": rfc3339(row.read_at),
        "meter_time": moment(row.meter_time),
        "received_at": moment(row.received_at),
        "values": amounts(row.values),
        "quality": row.quality,
        "reason": row.reason,
        "source": row.source,
        "flags": flags(row.flags),
    }
