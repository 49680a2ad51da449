"""Data lines of IEC 62056-21: `address(value*unit)`, several per line, as the meter wrote them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Final

from metering.errors import FrameError
from metering.quantities import Quantity, to_micro

_SET: Final = re.compile(r"([^()!/\r\n]*)\(([^()\r\n]*)\)")
_OBIS: Final = re.compile(r"(?:(\d+)-\d+:)?(\d+\.\d+(?:\.\d+)?)(?:\*255)?")

_ELECTRICITY: Final[Mapping[str, tuple[Quantity, str]]] = {
    "1.8.0": ("energy_import", "kWh"),
    "1.8.1": ("energy_import_t1", "kWh"),
    "1.8.2": ("energy_import_t2", "kWh"),
    "1.8.3": ("energy_import_t3", "kWh"),
    "1.8.4": ("energy_import_t4", "kWh"),
    "2.8.0": ("energy_export", "kWh"),
    "16.7": ("power", "kW"),
    "16.7.0": ("power", "kW"),
    "32.7": ("voltage", "V"),
    "32.7.0": ("voltage", "V"),
    "31.7": ("current", "A"),
    "31.7.0": ("current", "A"),
}


@dataclass(frozen=True, slots=True)
class DataSet:
    """One value. address: "" when none was ever given; value: text without the blanks around it; unit: None: none."""

    address: str
    value: str
    unit: str | None = None

    def __str__(self) -> str:
        return f"{self.address}({self.value}{'' if self.unit is None else f'*{self.unit}'})"

    @property
    def quantity(self) -> Quantity | None:
        """Our quantity, for electricity registers whose unit is written and that hold the current value.

        Historic values (`*01`, `&01`) have none. Gas and water meters differ widely: a profile maps them.
        """
        match = _OBIS.fullmatch(self.address)
        if not match or match[1] not in (None, "1"):
            return None
        quantity, unit = _ELECTRICITY.get(match[2], (None, ""))
        return quantity if self.unit == unit else None

    @property
    def micro(self) -> int | None:
        """The value [10⁻⁶ of its own unit], None when it is no plain decimal number with at most 6 decimals."""
        try:
            return to_micro(Decimal(self.value)) if re.fullmatch(r"[+-]?\d{1,20}(\.\d+)?", self.value) else None
        except (ValueError, InvalidOperation):
            return None


def data_sets(text: str) -> list[DataSet]:
    """Take data lines apart, up to the line that begins with `!`.

    A missing address repeats the last one (several values of one register). Raises: FrameError, sort "data", when
    something stands outside address and brackets.
    """
    found: list[DataSet] = []
    address = ""
    lines = iter(text.splitlines())
    for line in lines:
        if line == "!":
            break
        place = 0
        for match in _SET.finditer(line):
            if match.start() != place:
                break
            place = match.end()
            address = match[1].strip() or address
            found.append(_data_set(address, match[2]))
        if line[place:].strip():
            raise FrameError(f"{line[place:][:40]!r} is no address(value*unit)", text.encode(), sort="data")
    if any(lines):
        raise FrameError("text behind the ! that ends the data", text.encode(), sort="data")
    return found


def _data_set(address: str, content: str) -> DataSet:
    value, star, unit = content.rpartition("*")
    return DataSet(address, value.strip(), unit.strip()) if star else DataSet(address, content.strip())
