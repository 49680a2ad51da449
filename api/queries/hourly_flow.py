"""Flow of the last whole hour beside the same hour a week before, as the overview shows it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from api import words
from api.access.areas import Areas, in_areas
from registry.models import HourlyFlow

_FLOW: Final = HourlyFlow.__table__
_OLDEST_MS: Final = 3 * 3_600_000
_SUMS: Final = ("micro", "known", "due", "same", "same_now", "same_then")
_PER_HOUR: Final = {"kWh": "kW"}


@dataclass(frozen=True, slots=True)
class FlowLine:
    """One medium and quantity. micro: what `known` of `due` meters passed in the hour.

    same: meters known in both hours; same_now, same_then: what these passed in each.
    """

    medium: str
    quantity: str
    micro: int
    known: int
    due: int
    same: int
    same_now: int
    same_then: int

    @property
    def amount(self) -> str:
        """The flow with one decimal, rounded half up; "–" when no meter is known: silence is not zero."""
        return f"{_tenths(self.micro, 1_000_000)}" if self.known else "–"

    @property
    def unit(self) -> str:
        """The unit of a flow: m³/h or kW."""
        unit = words.unit_of(self.quantity)
        return _PER_HOUR.get(unit, f"{unit}/h")

    @property
    def change(self) -> str:
        """How much more [%] the same meters passed than a week before, with its sign; "" when that cannot be said."""
        if not self.same or self.same_then <= 0:
            return ""
        found = _tenths((self.same_now - self.same_then) * 100, self.same_then)
        return found if found.startswith("-") else f"+{found}"


@dataclass(frozen=True, slots=True)
class FlowNow:
    """hour: [ms UTC] start of the hour, None when none of the last three was worked out."""

    hour: int | None = None
    city: list[FlowLine] = field(default_factory=list)
    districts: Mapping[str, list[FlowLine]] = field(default_factory=dict)


def _tenths(number: int, one: int) -> str:
    """Return number / one with one decimal, rounded half up (away from zero)."""
    tenths = (abs(number) * 20 + one) // (2 * one)
    sign = "-" if number < 0 and tenths else ""
    return f"{sign}{tenths // 10}.{tenths % 10}"


def flow_now(connection: Connection, *, areas: Areas, now_ms: int) -> FlowNow:
    """Return the newest hour that was worked out for `areas`, if it is no older than three hours."""
    hour = connection.execute(
        sa.select(sa.func.max(_FLOW.c.hour)).where(_FLOW.c.hour >= now_ms - _OLDEST_MS, _FLOW.c.hour <= now_ms)
    ).scalar()
    if hour is None:
        return FlowNow()
    rows = connection.execute(sa.select(_FLOW).where(_FLOW.c.hour == hour, in_areas(areas, _FLOW.c.district)))
    city: dict[tuple[str, str], dict[str, int]] = defaultdict(lambda: dict.fromkeys(_SUMS, 0))
    districts: dict[str, list[FlowLine]] = defaultdict(list)
    for row in rows.mappings():
        what, sums = (row["medium"], row["quantity"]), {name: int(row[name]) for name in _SUMS}
        districts[row["district"]].append(_line(what, sums))
        for name in _SUMS:
            city[what][name] += sums[name]
    return FlowNow(hour, [_line(what, sums) for what, sums in sorted(city.items())], districts)


def _line(what: tuple[str, str], sums: Mapping[str, int]) -> FlowLine:
    return FlowLine(what[0], what[1], **sums)
