"""IEC 62056-21 by profile: item is the address as the meter writes it ("1-0:1.8.0*255", "7:300.0").

The unit is the one that the meter writes; where it writes none, the profile's. Another unit is refused.
"""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
from typing import Final

from gateway.drivers.iec62056 import IecAsk
from gateway.profile import Dialect, Item, MeterField
from gateway.protocols import iec62056_21 as iec
from gateway.protocols.iec62056_21 import DataSet
from gateway.units import factor, units_of
from metering.errors import FrameError
from metering.quantities import UNITS, to_micro

_SPELLINGS: Final = {
    "m^3": "m3",
    "m³": "m3",
    "m^3/h": "m3/h",
    "m³/h": "m3/h",
    "{C": "degC",
    "°C": "degC",
    "C": "degC",
}
_SIGN_ON: Final = 22
_LINE: Final = 28


def group_of(field: MeterField) -> str:
    """One talk brings everything."""
    return ""


def make_ask(dialect: Dialect, address: str, fields: tuple[MeterField, ...]) -> IecAsk:
    """Return the question. Raises: ProtocolError for an address that cannot be written."""
    iec.encode(iec.SignOn(address))
    registers = tuple(_item(field).item for field in fields) if dialect.single else ()
    return IecAsk(address, registers)


def parse(dialect: Dialect, item: str, data: bytes) -> list[DataSet]:
    """Return all values."""
    return iec.data_sets(data.decode("ascii", "replace"))


def value(field: MeterField, parsed: list[DataSet]) -> int | None:
    """Return one field."""
    item = _item(field)
    found = next((each for each in parsed if each.address == item.item), None)
    if found is None:
        raise FrameError(f"the read-out has no {item.item}", sort="record")
    if not found.value:
        return None
    try:
        number = Decimal(found.value)
        if field.quantity is None:
            return int(found.value, 16)
        micro = number * _factor(field, item, found.unit)
        return to_micro(micro.scaleb(-6))
    except (InvalidOperation, ValueError, ArithmeticError) as error:
        raise FrameError(f"{found} is no number of {item.unit}: {error}", str(found).encode(), sort="value") from None


def golden_data(dialect: Dialect, request: bytes, response: bytes) -> tuple[str, bytes]:
    """Return the data lines of a golden pair."""
    iec.decode(request)
    message = iec.decode(response)
    if not isinstance(message, iec.Data | iec.Readout):
        raise FrameError("response: a data block is needed", response)
    return "", message.text.encode()


def wire_sizes(item: str, fields: tuple[MeterField, ...]) -> tuple[int, int, int]:
    """Return bytes of sign-on and option, and of identification and four lines per field of the profile."""
    return _SIGN_ON, _SIGN_ON + 4 * _LINE * len(fields), 2


def _factor(field: MeterField, item: Item, unit: str | None) -> Decimal:
    """Return [10⁻⁶ of the house unit] per written unit. Raises: FrameError."""
    if not unit or field.quantity is None:
        return item.micro
    house, written = UNITS[field.quantity], _SPELLINGS.get(unit, unit)
    if written not in units_of(house):
        raise FrameError(f"{field.name} comes in {unit}", sort="unit")
    return factor(written, house).scaleb(6)


def _item(field: MeterField) -> Item:
    assert field.item is not None
    return field.item
