"""Looks at a staged batch of readings: a reading twice, steps that `metering.steps` cannot explain, large volumes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import sqlalchemy as sa

from metering.quantities import MICRO, from_micro
from metering.steps import Step, StepResult, limits_of, relate
from registry.database import Database
from registry.models import Closing, Meter, UsagePoint
from registry.models_books import ImportRow, OfficeRow

_ROW: Final = ImportRow.__table__
_PAGE: Final = 5000
_MONTH_MS: Final = 30 * 86_400_000


Limits = Mapping[tuple[str, str], tuple[int, int]]
"""(class, medium) -> [micro in 30 days] above which a person looks, and above which the meter is read again."""

HOUSEHOLD_GAS: Final[Limits] = {
    ("residential", "gas"): (50 * MICRO, 100 * MICRO),
    ("residential_heating", "gas"): (50 * MICRO, 100 * MICRO),
}
"""What the manuals name, where the setting `billing.limits` says nothing else."""


def check_batch(database: Database, batch: int, limits: Limits) -> None:
    """Give doubtful and unusable rows of a batch their verdict, in pieces."""
    _mark_twice(database, batch)
    _mark_known(database, batch)
    line = 0
    while True:
        with database.begin() as connection:
            page = connection.execute(_page(batch, line)).all()
            found = [verdict for row in page if (verdict := _judge(row, limits)) is not None]
            if found:
                here = (_ROW.c.batch_id == batch, _ROW.c.line == sa.bindparam("at_line"))
                change: dict[str, Any] = {
                    name: sa.bindparam(f"new_{name}") for name in ("verdict", "reason", "detail")
                }
                connection.execute(sa.update(ImportRow).where(*here).values(change), found)
        if len(page) < _PAGE:
            return
        line = page[-1].line


def _mark_twice(database: Database, batch: int) -> None:
    first = _ROW.alias("first")
    same = sa.exists().where(
        first.c.batch_id == _ROW.c.batch_id,
        first.c.meter == _ROW.c.meter,
        first.c.at == _ROW.c.at,
        first.c.line + 0 < _ROW.c.line,  # the sum keeps SQLite off the key (batch, line), which made this quadratic
        first.c.verdict != "bad",
    )
    _mark(database, batch, same, "twice", "the same meter and time stand on an earlier line")


def _mark_known(database: Database, batch: int) -> None:
    same = sa.exists().where(OfficeRow.meter == _ROW.c.meter, OfficeRow.read_at == _ROW.c.at)
    _mark(database, batch, same, "known", "this meter and time were posted before")


def _mark(database: Database, batch: int, where: Any, reason: str, detail: str) -> None:
    with database.begin() as connection:
        here = (_ROW.c.batch_id == batch, _ROW.c.verdict != "bad", where)
        values = {"verdict": "bad", "reason": reason, "detail": detail}
        connection.execute(sa.update(ImportRow).where(*here).values(values))


def _page(batch: int, after: int) -> Any:
    """Rows with what is known of their meter, and its last closing before."""
    before = (
        sa.select(Closing.read_at)
        .where(Closing.meter == _ROW.c.meter, Closing.read_at < _ROW.c.at)
        .order_by(Closing.day.desc())
        .limit(1)
        .correlate(_ROW)
        .scalar_subquery()
    )
    page = (
        sa.select(
            _ROW.c.line, _ROW.c.meter, _ROW.c.usage_point, _ROW.c.at, _ROW.c["values"], before.label("before_at")
        )
        .where(_ROW.c.batch_id == batch, _ROW.c.verdict == "ok", _ROW.c.line > after)
        .order_by(_ROW.c.line)
        .limit(_PAGE)
        .subquery()
    )
    return (
        sa.select(
            page,
            Closing.index.label("before_index"),
            Meter.quantity,
            Meter.index_digits,
            Meter.resolution,
            Meter.qmax,
            UsagePoint.customer_class,
            UsagePoint.medium,
        )
        .select_from(page)
        .join(Meter, Meter.id == page.c.meter)
        .outerjoin(UsagePoint, UsagePoint.id == page.c.usage_point)
        .outerjoin(Closing, sa.and_(Closing.meter == page.c.meter, Closing.read_at == page.c.before_at))
        .order_by(page.c.line)
    )


def _judge(row: Any, limits: Limits) -> dict[str, Any] | None:
    if row.before_index is None:
        return None
    index = row._mapping["values"][row.quantity]
    step = step_of(row, row.before_index, index, (row.at - row.before_at) // 1000)
    doubt = _doubt_of(step) or _large(row, step, limits)
    if doubt is None:
        return None
    reason, detail = doubt
    before = f"{from_micro(row.before_index)} before, {from_micro(index)} now: {detail}"
    return {"at_line": row.line, "new_verdict": "doubt", "new_reason": reason, "new_detail": before[:500]}


def step_of(meter: Any, before: int, after: int, elapsed_s: int) -> StepResult:
    """Classify a step by what the books know of the meter; without Qmax only a fall can be doubted."""
    if meter.index_digits and meter.resolution and meter.qmax:
        known = limits_of(digits=meter.index_digits, resolution=meter.resolution, qmax=meter.qmax)
        return relate(before, after, elapsed_s, known)
    forward = after >= before
    return StepResult(Step.FORWARD if forward else Step.REVERSE, after - before)


_DOUBTS: Final = {
    Step.ROLLOVER: ("rollover", "the counter would have run over its last digit"),
    Step.REVERSE: ("reverse", "the meter would have run backwards"),
    Step.PENDING: ("unexplained", "no flow of this meter explains it"),
    Step.CONFLICT: ("conflict", "two values for one moment"),
}


def _doubt_of(step: StepResult) -> tuple[str, str] | None:
    return _DOUBTS.get(step.step)


def _large(row: Any, step: StepResult, limits: Limits) -> tuple[str, str] | None:
    limit = limits.get((row.customer_class or "", row.medium or ""))
    if step.consumption is None or limit is None:
        return None
    month = step.consumption * _MONTH_MS // max(row.at - row.before_at, _MONTH_MS)
    shown, again = limit
    if month > again:
        return "read_again", f"more than {from_micro(again)} in a month, read it again"
    if month > shown:
        return "large_volume", f"more than {from_micro(shown)} in a month"
    return None
