"""How far a period is, as the Billing pages show it: totals by state, cause, class and district, and the read rate.

Counting a city's totals takes a tenth of a second, so that an answer is kept until any total changes (each change
raises the version that pullers follow); the read rate also asks the store, for what is missing alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from api.access.areas import Areas, in_areas
from api.billing import rates
from api.billing.desk import steps
from api.billing.settings import BillingSettings
from api.house import House
from api.screens.frame import attempt
from metering.quantities import from_micro
from registry.models_billing import BillingClose, BillingTotal
from registry.roles import Actor

_TOTAL: Final = BillingTotal.__table__
_CLOSE: Final = BillingClose.__table__
_PERIODS: Final = 24
_KEEP_S: Final = 3600.0
_KEEP_RATE_S: Final = 60.0
_MOST_MISSING: Final = 20_000
"""More missing totals than that are not looked up in the store for a page; the reading report counts them."""


@dataclass(slots=True)
class Line:
    """Counts of a class or district. read: with an index at the reading day; rate [%], None when not known."""

    name: str
    medium: str = ""
    states: Counter[str] = field(default_factory=Counter)
    closed: int = 0
    read: int = 0
    rate: str | None = None
    target: str | None = None
    met: bool | None = None

    @property
    def due(self) -> int:
        """All that the books do not exclude."""
        return self.states.total() - self.states["excluded"]


@dataclass(slots=True)
class Progress:
    """How a period stands. causes: (state, cause, how many) of what is missing, doubtful or excluded, most first."""

    period: str
    all: Line
    classes: list[Line]
    districts: list[Line]
    causes: list[tuple[str, str, int]]
    rate_trouble: str = ""
    """Why the read rate cannot be shown now; "" when it is shown, "many" when too much is missing to look."""

    @property
    def open(self) -> int:
        """How many wait for a person."""
        return sum(count for state, _, count in self.causes if state in ("doubtful", "missing"))


@dataclass(frozen=True, slots=True)
class PeriodLine:
    """A period in the list. closed: totals that are frozen, in `closes` closes; closed_at: [ms UTC] of the last."""

    period: str
    closed: int
    closes: int
    closed_at: int | None


def newest_periods(connection: Connection, areas: Areas) -> list[PeriodLine]:
    """Return the newest periods that have totals; found by leaps over an index, however many totals there are."""
    names: list[str] = []
    while len(names) < _PERIODS:
        newest = sa.select(sa.func.max(_TOTAL.c.period))
        newest = newest.where(_TOTAL.c.period < names[-1]) if names else newest
        if (found := connection.execute(newest).scalar()) is None:
            break
        names.append(str(found))
    count = sa.func.count().label("closes")
    frozen = sa.select(_CLOSE.c.period, sa.func.sum(_CLOSE.c.totals), count, sa.func.max(_CLOSE.c.closed_at))
    frozen = frozen.where(_CLOSE.c.period.in_(names), in_areas(areas, _CLOSE.c.district)).group_by(_CLOSE.c.period)
    closed = {row[0]: (int(row[1]), int(row[2]), int(row[3])) for row in connection.execute(frozen)}
    return [PeriodLine(name, *closed.get(name, (0, 0, None))) for name in names]


def closes_of(connection: Connection, areas: Areas, period: str) -> list[dict[str, Any]]:
    """Return the closes of a period, newest first."""
    wanted = sa.select(_CLOSE).where(_CLOSE.c.period == period, in_areas(areas, _CLOSE.c.district))
    return [dict(row) for row in connection.execute(wanted.order_by(_CLOSE.c.id.desc()).limit(50)).mappings()]


async def progress(house: House, settings: BillingSettings, caller: Actor, period: str) -> Progress:
    """Return how a period stands for a caller. A store that is away costs the rate alone; the registry raises."""
    version = await house.read(lambda c: c.execute(sa.select(sa.func.max(_TOTAL.c.version))).scalar())
    key: Hashable = ("billing", period, caller.areas, version)

    async def count() -> list[Any]:
        return await house.read(lambda c: _counts(c, caller.areas, period))

    counts = await house.shared.get(key, count, keep_s=_KEEP_S)
    found = _progress(period, counts)
    missing = found.all.states["missing"]
    if missing > _MOST_MISSING:
        found.rate_trouble = "many"
        return found

    async def look() -> Counter[tuple[str, str, str]]:
        return await _read_without_total(house, settings, caller, period) if missing else Counter()

    late, found.rate_trouble = await attempt(house.shared.get((key, "read"), look, keep_s=_KEEP_RATE_S))
    if late is not None:
        _add_rates(found, settings, late)
    return found


def _counts(connection: Connection, areas: Areas, period: str) -> list[Any]:
    read = sa.case((sa.and_(_TOTAL.c.closing_at.is_not(None), _TOTAL.c.method == ""), 1), else_=0)
    frozen = sa.case((_TOTAL.c.close_id.is_not(None), 1), else_=0)
    columns = [_TOTAL.c[name] for name in ("state", "cause", "customer_class", "medium", "district")]
    sums = [sa.func.count().label("many"), sa.func.sum(read).label("read"), sa.func.sum(frozen).label("closed")]
    wanted = sa.select(*columns, *sums).where(_TOTAL.c.period == period, in_areas(areas, _TOTAL.c.district))
    return list(connection.execute(wanted.group_by(*columns)))


def _progress(period: str, counts: Iterable[Any]) -> Progress:
    whole, classes, districts = Line(""), dict[tuple[str, str], Line](), dict[str, Line]()
    causes: Counter[tuple[str, str]] = Counter()
    for row in counts:
        kind = classes.setdefault((row.customer_class, row.medium), Line(row.customer_class, row.medium))
        place = districts.setdefault(row.district, Line(row.district))
        for line in (whole, kind, place):
            line.states[row.state] += row.many
            line.closed += row.closed
            line.read += row.read if row.state != "excluded" else 0
        if row.state != "billed":
            causes[row.state, row.cause] += row.many
    ordered = sorted(((state, cause, many) for (state, cause), many in causes.items()), key=lambda c: (-c[2], c))
    by_class = [classes[key] for key in sorted(classes)]
    return Progress(period, whole, by_class, [districts[key] for key in sorted(districts)], ordered)


async def _read_without_total(
    house: House, settings: BillingSettings, caller: Actor, period: str
) -> Counter[tuple[str, str, str]]:
    """Count (class, medium, district) of meters that were read at their reading day and yet give no total."""
    found: Counter[tuple[str, str, str]] = Counter()
    pages = rates.visits(house.database, house.store, settings, period, caller.areas, state="missing")
    async for page in steps(house, pages):
        found.update((v.customer_class, v.medium, v.district) for v in page if v.way in rates.WAYS)
    return found


def _add_rates(found: Progress, settings: BillingSettings, late: Counter[tuple[str, str, str]]) -> None:
    classes = {(line.name, line.medium): line for line in found.classes}
    districts = {line.name: line for line in found.districts}
    for (customer_class, medium, district), many in late.items():
        for line in (found.all, classes[customer_class, medium], districts[district]):
            line.read += many
    for line in (found.all, *found.classes, *found.districts):
        line.rate = rates.percent(line.read, line.due)
    for line in found.classes:
        target = settings.rate_of(line.name, line.medium)
        line.target = None if target is None else from_micro(target)
        line.met = rates.reached(line.read, line.due, target)
