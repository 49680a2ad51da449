"""Looks at a staged batch of readings: a reading twice, steps that `metering.steps` cannot explain, large volumes."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from metering.quantities import MICRO, from_micro
from metering.steps import Step, StepLimits, StepResult, limits_of, relate
from registry.database import Database
from registry.many import among
from registry.models import Closing
from registry.models_books import ImportRow, OfficeRow

_ROW: Final = ImportRow.__table__
_MONTH_MS: Final = 30 * 86_400_000


Limits = Mapping[tuple[str, str], tuple[int, int]]
"""(class, medium) -> [micro in 30 days] above which a person looks, and above which the meter is read again."""

HOUSEHOLD_GAS: Final[Limits] = {
    ("residential", "gas"): (50 * MICRO, 100 * MICRO),
    ("residential_heating", "gas"): (50 * MICRO, 100 * MICRO),
}
"""What the manuals name, where the setting `billing.limits` says nothing else."""


def judge_chunk(
    connection: Connection, rows: Sequence[dict[str, Any]], meters: Mapping[int, Any], limits: Limits
) -> None:
    """Give rows that are not written yet their doubt, those that are usable.

    meters: line -> what the books know of its meter. One look-up of the last closings for all of them.
    """
    usable = [row for row in rows if row["verdict"] == "ok"]
    _mark_known(connection, usable)
    before = _before(connection, usable)
    for row in usable:
        last = before.get((row["meter"], row["at"]))
        if row["verdict"] == "ok" and last is not None:
            _judge(row, meters[row["line"]], last, limits)


def _mark_known(connection: Connection, rows: Sequence[dict[str, Any]]) -> None:
    wanted = among(connection, OfficeRow.meter, {row["meter"] for row in rows})
    statement = sa.select(OfficeRow.meter, OfficeRow.read_at).where(wanted)
    known = {(meter, at) for meter, at in connection.execute(statement).all()}
    for row in rows:
        if (row["meter"], row["at"]) in known:
            row |= {"verdict": "bad", "reason": "known", "detail": "this meter and time were posted before"}


def _before(connection: Connection, rows: Sequence[dict[str, Any]]) -> dict[tuple[str, int], tuple[int, int]]:
    """Return (meter, at) -> (time, index) of the meter's last closing before it."""
    found: dict[tuple[str, int], tuple[int, int]] = {}
    if rows:
        asked = _asked(connection, sorted({(row["meter"], row["at"]) for row in rows}))
        day = (
            sa.select(Closing.day)
            .where(Closing.meter == asked.c.meter, Closing.read_at < asked.c.at)
            .order_by(Closing.day.desc())
            .limit(1)
            .correlate(asked)
            .scalar_subquery()
        )
        last = sa.and_(Closing.meter == asked.c.meter, Closing.day == day)
        statement = sa.select(asked.c.meter, asked.c.at, Closing.read_at, Closing.index).join_from(
            asked, Closing, last
        )
        found |= {(meter, at): (then, index) for meter, at, then, index in connection.execute(statement).all()}
    return found


def _asked(connection: Connection, keys: Sequence[tuple[str, int]]) -> Any:
    """The keys as a table: one text parameter instead of two for each."""
    sqlite, text = connection.dialect.name == "sqlite", json.dumps(keys)
    apart = sa.func.json_each(text) if sqlite else sa.func.json_array_elements(sa.cast(sa.literal(text), sa.JSON))
    each = apart.table_valued("value").c.value
    key: list[Any] = [sa.literal_column(f"'$[{place}]'" if sqlite else str(place)) for place in (0, 1)]
    meter, at = (each.op("->>")(place) for place in key)
    return sa.select(meter.label("meter"), sa.cast(at, sa.BigInteger).label("at")).subquery("asked")


def mark_twice(database: Database, batch: int) -> None:
    """Refuse the later ones of rows that speak of one meter and time; an index finds them in one walk."""
    key = sa.tuple_(_ROW.c.meter, _ROW.c.at)
    same = (
        sa.select(_ROW.c.meter, _ROW.c.at)
        .where(_ROW.c.batch_id == batch, _ROW.c.at.is_not(None))
        .group_by(_ROW.c.meter, _ROW.c.at)
        .having(sa.func.count() > 1)
    )
    first = _ROW.alias("first")
    earlier = sa.exists().where(
        first.c.batch_id == _ROW.c.batch_id,
        first.c.meter == _ROW.c.meter,
        first.c.at == _ROW.c.at,
        first.c.line + 0 < _ROW.c.line,  # the sum keeps SQLite off the key (batch, line), which made this quadratic
        first.c.verdict != "bad",
    )
    with database.begin() as connection:
        here = (_ROW.c.batch_id == batch, _ROW.c.verdict != "bad", key.in_(same), earlier)
        detail = "the same meter and time stand on an earlier line"
        connection.execute(sa.update(ImportRow).where(*here).values(verdict="bad", reason="twice", detail=detail))


def _judge(row: dict[str, Any], meter: Any, before: tuple[int, int], limits: Limits) -> None:
    then, last = before
    index, elapsed = row["values"][meter.quantity], row["at"] - then
    step = step_of(meter, last, index, elapsed // 1000)
    doubt = _DOUBTS.get(step.step) or _large(meter, step, elapsed, limits)
    if doubt is not None:
        detail = f"{from_micro(last)} before, {from_micro(index)} now: {doubt[1]}"
        row |= {"verdict": "doubt", "reason": doubt[0], "detail": detail[:500]}


@lru_cache(maxsize=1000)
def _limits(digits: int, resolution: int, qmax: int) -> StepLimits:
    return limits_of(digits=digits, resolution=resolution, qmax=qmax)


def step_of(meter: Any, before: int, after: int, elapsed_s: int) -> StepResult:
    """Classify a step by what the books know of the meter; without Qmax only a fall can be doubted."""
    if meter.index_digits and meter.resolution and meter.qmax:
        known = _limits(meter.index_digits, meter.resolution, meter.qmax)
        return relate(before, after, elapsed_s, known)
    forward = after >= before
    return StepResult(Step.FORWARD if forward else Step.REVERSE, after - before)


_DOUBTS: Final = {
    Step.ROLLOVER: ("rollover", "the counter would have run over its last digit"),
    Step.REVERSE: ("reverse", "the meter would have run backwards"),
    Step.PENDING: ("unexplained", "no flow of this meter explains it"),
    Step.CONFLICT: ("conflict", "two values for one moment"),
}


def _large(meter: Any, step: StepResult, elapsed_ms: int, limits: Limits) -> tuple[str, str] | None:
    limit = limits.get((meter.customer_class or "", meter.medium or ""))
    if step.consumption is None or limit is None:
        return None
    month = step.consumption * _MONTH_MS // max(elapsed_ms, _MONTH_MS)
    shown, again = limit
    if month > again:
        return "read_again", f"more than {from_micro(again)} in a month, read it again"
    if month > shown:
        return "large_volume", f"more than {from_micro(shown)} in a month"
    return None
