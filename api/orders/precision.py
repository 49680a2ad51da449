"""What the crews found teaches the rules: each rule's precision by customer class and month, and labels for trials.

A finding counts when an order that answered it was finished with a label: `true` is right; `false` and `other_cause`
are wrong; `not_looked` says nothing. The month is that of the detection in the utility's time zone.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final
from zoneinfo import ZoneInfo

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from anomaly.scoring import AFTER_S, Event, Labels
from api.access.areas import Areas, in_areas
from registry.models import UsagePoint
from registry.models_findings import FindingRecord
from registry.models_work_orders import WorkOrder, WorkOrderFinding

_SURE: Final = ("true", "false", "other_cause")
_ALWAYS: Final = 1e12
_DAY_S: Final = 86_400.0


@dataclass(frozen=True, slots=True)
class Precision:
    """One rule, class and month: how many findings were looked at on site, and what was found."""

    rule: str
    kind: str
    customer_class: str
    month: str
    true: int
    false: int
    other_cause: int
    not_looked: int

    @property
    def precision(self) -> float | None:
        """Share of those that were right; None when nobody could look."""
        looked = self.true + self.false + self.other_cause
        return self.true / looked if looked else None


def precision(
    connection: Connection,
    *,
    areas: Areas = None,
    rule: str | None = None,
    since_ms: int | None = None,
    until_ms: int | None = None,
    tz: str = "Asia/Shanghai",
) -> list[Precision]:
    """Return the precision of the rules by rule, class and month. since, until: of the detection [ms UTC]."""
    zone = ZoneInfo(tz)
    counts: dict[tuple[str, str, str, str], dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for row in _labelled(connection, areas, rule, since_ms, until_ms):
        month = datetime.fromtimestamp(row.detected_at / 1000, UTC).astimezone(zone).strftime("%Y-%m")
        counts[row.rule, row.kind, row.customer_class or "", month][row.label] += 1
    names = (*_SURE, "not_looked")
    return [Precision(*key, *(found[name] for name in names)) for key, found in sorted(counts.items())]


def labels(connection: Connection, names: Mapping[str, str], *, since_ms: int, until_ms: int) -> Labels:
    """Return what the crews found as the truth for a back-test over a period [ms UTC].

    names: usage point -> what the back-test calls it.

    A finding that was right is an event from its start to its clearing; one that was wrong is an ordinary situation.
    Nobody looked at the rest: alarms outside the labelled spans count neither for nor against a trial.
    """
    out = Labels()
    known: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for row in _labelled(connection, None, None, since_ms, until_ms):
        name = names.get(row.usage_point)
        if row.label not in _SURE or name is None:
            continue
        start, end = row.started_at / 1000, (row.cleared_at or row.finished_at) / 1000
        end = max(end, row.detected_at / 1000, start)
        known[name].append((start - _DAY_S, end))
        if row.label == "true":
            out.events[name].append(Event(name, row.kind, row.severity, start, end))
        else:
            out.ordinary[name].append((start, end, row.label))
    for name in names.values():
        out.ignored[name].extend((begin, end, None) for begin, end in _outside(known.get(name, [])))
    return out


def _outside(spans: Iterable[tuple[float, float]]) -> Iterator[tuple[float, float]]:
    """Yield what lies between spans; the scorer lets an ignored span last `AFTER_S` longer than it says."""
    begin = 0.0
    for first, last in sorted(spans):
        if first - AFTER_S > begin:
            yield begin, first - AFTER_S
        begin = max(begin, last + AFTER_S)
    yield begin, _ALWAYS


def _labelled(
    connection: Connection, areas: Areas, rule: str | None, since_ms: int | None, until_ms: int | None
) -> Iterator[Any]:
    """Yield each finding once, with the label of the last order that looked at it."""
    statement = (
        sa.select(
            FindingRecord.id,
            FindingRecord.rule,
            FindingRecord.kind,
            FindingRecord.severity,
            FindingRecord.usage_point,
            FindingRecord.started_at,
            FindingRecord.detected_at,
            FindingRecord.cleared_at,
            UsagePoint.customer_class,
            WorkOrder.label,
            WorkOrder.finished_at,
        )
        .join(WorkOrderFinding, WorkOrderFinding.finding_id == FindingRecord.id)
        .join(WorkOrder, WorkOrder.id == WorkOrderFinding.order_id)
        .outerjoin(UsagePoint, UsagePoint.id == FindingRecord.usage_point)
        .where(WorkOrder.label != "", WorkOrder.state == "finished", in_areas(areas, FindingRecord.district))
        .order_by(FindingRecord.id, WorkOrder.finished_at.desc(), WorkOrder.id.desc())
    )
    if rule is not None:
        statement = statement.where(FindingRecord.rule == rule)
    if since_ms is not None:
        statement = statement.where(FindingRecord.detected_at >= since_ms)
    if until_ms is not None:
        statement = statement.where(FindingRecord.detected_at < until_ms)
    last = None
    for row in connection.execute(statement):
        if row.id != last:
            last = row.id
            yield row
