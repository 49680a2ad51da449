"""The fixed columns of exported totals, the same in CSV, XLSX and Parquet. Names and order are a promise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal

from api.billing.lists import Row
from metering.quantities import UNITS

Sort = Literal["text", "amount", "time", "number", "flag"]


@dataclass(frozen=True, slots=True)
class Column:
    """One column. sort: text, amount ([micro], a decimal outside), time ([ms UTC]), number, flag."""

    name: str
    sort: Sort


COLUMNS: Final = (
    Column("period", "text"),
    Column("usage_point", "text"),
    Column("account_number", "text"),
    Column("customer_class", "text"),
    Column("medium", "text"),
    Column("district", "text"),
    Column("state", "text"),
    Column("cause", "text"),
    Column("detail", "text"),
    Column("from", "time"),
    Column("to", "time"),
    Column("quantity", "text"),
    Column("unit", "text"),
    Column("consumption", "amount"),
    Column("forward", "amount"),
    Column("reverse", "amount"),
    Column("volume_actual", "amount"),
    Column("volume_standard", "amount"),
    Column("energy_kwh", "amount"),
    Column("year_to_date", "amount"),
    Column("opening_index", "amount"),
    Column("opening_at", "time"),
    Column("opening_quality", "text"),
    Column("closing_index", "amount"),
    Column("closing_at", "time"),
    Column("closing_quality", "text"),
    Column("meters", "text"),
    Column("lines", "number"),
    Column("shown", "text"),
    Column("edited", "flag"),
    Column("method", "text"),
    Column("closed", "flag"),
    Column("version", "number"),
)
NAMES: Final = tuple(column.name for column in COLUMNS)
_ELSEWHERE: Final = {
    "usage_point": "usage_point_id",
    "from": "start_at",
    "to": "end_at",
    "energy_kwh": "energy",
}


def cells(row: Row) -> tuple[Any, ...]:
    """Return the raw cells of a total in the order of COLUMNS; None where there is no value."""
    total = row.total
    made = {
        "unit": UNITS.get(total["quantity"], ""),
        "meters": " ".join(dict.fromkeys(line["meter_id"] for line in row.lines)),
        "lines": len(row.lines),
        "closed": total["close_id"] is not None,
        "edited": bool(total["edited"]),
    }
    return tuple(made[name] if name in made else total[_ELSEWHERE.get(name, name)] for name in NAMES)
