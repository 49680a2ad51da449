"""Read rates and the monthly reading report 抄表月报 in the words of the API, as CSV, and as a page to be printed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from api.access.areas import Areas, in_areas
from api.billing.rates import ESTIMATED, MISSING, UNKNOWN, WAYS, Sum, percent, reached
from api.billing.settings import BillingSettings
from api.formats import csv_lines
from api.schemas_billing_reports import RateOut, RatePage, ReportLine, ReportOut
from metering.clock import rfc3339
from metering.quantities import from_micro
from registry.models_billing import BillingDelta, BillingTotal

Group = tuple[str, str]
ALL: Final = "all"
OPEN: Final = ("missing", "doubtful")
HEADER: Final = (
    *("period", "group", "medium", "due", "read", "estimated", "missing", "rate", "target", "met"),
    *(*WAYS, "corrected", "accuracy", "solved", "still_open", "missing_why", "estimated_why"),
)
_TITLES: Final = (
    ("group", "Class 类别"),
    ("medium", "Medium 介质"),
    ("due", "Due 应抄"),
    ("read", "Read 实抄"),
    ("estimated", "Estimated 估抄"),
    ("missing", "Missing 缺抄"),
    ("rate", "Read rate 抄见率 %"),
    ("target", "Target %"),
    ("met", "Met 达标"),
    ("first_try", "First try"),
    ("after_retry", "After retry"),
    ("earlier", "Earlier index"),
    ("after_backfill", "After backfill 补传"),
    ("by_hand", "By hand 手工"),
    ("way_unknown", "Way unknown"),
    ("corrected", "Corrected"),
    ("accuracy", "Accuracy 准确率 %"),
    ("solved", "Long-standing solved 长期异常已处理"),
    ("still_open", "Still open"),
)


def rate_out(group: Group, found: Sum, target: int | None) -> RateOut:
    """Return a group's read rate."""
    return RateOut(**_rate(group, found, target))


def _rate(group: Group, found: Sum, target: int | None) -> dict[str, Any]:
    return {
        "group": group[0],
        "medium": group[1],
        "due": found.due,
        "read": found.read,
        **{way: found.ways[way] for way in WAYS},
        "estimated": found.ways[ESTIMATED],
        "estimated_why": dict(sorted(found.estimated.items())),
        "missing": found.ways[MISSING],
        "missing_why": dict(sorted(found.missing.items())),
        "rate": percent(found.read, found.due),
        "target": None if target is None else from_micro(target),
        "met": reached(found.read, found.due, target),
    }


def rates(settings: BillingSettings, period: str, by: str, groups: Mapping[Group, Sum], total: Sum) -> RatePage:
    """Return read rates by group; targets are the manuals' ones, by class and medium."""
    items = [
        rate_out(group, groups[group], settings.rate_of(*group) if by == "class" else None)
        for group in sorted(groups)
    ]
    return RatePage(period=period, by=by, items=items, total=rate_out((ALL, ""), total, None), unknown=list(UNKNOWN))


def report(
    settings: BillingSettings,
    period: str,
    groups: Mapping[Group, Sum],
    total: Sum,
    lasting: Mapping[Group, Mapping[str, int]],
    *,
    now: int,
) -> ReportOut:
    """Return the monthly reading report. lasting: group -> solved and still_open exceptions."""
    none: Mapping[str, int] = {}
    lines = [
        _line(group, groups[group], settings.rate_of(*group), lasting.get(group, none)) for group in sorted(groups)
    ]
    everything: Counter[str] = Counter()
    for counts in lasting.values():
        everything.update(counts)
    last = _line((ALL, ""), total, None, everything)
    return ReportOut(period=period, made_at=rfc3339(now), lines=lines, total=last, unknown=list(UNKNOWN))


def _line(group: Group, found: Sum, target: int | None, lasting: Mapping[str, int]) -> ReportLine:
    return ReportLine(
        **_rate(group, found, target),
        corrected=found.corrected,
        accuracy=percent(found.read - found.corrected, found.read),
        solved=lasting.get("solved", 0),
        still_open=lasting.get("still_open", 0),
    )


def lasting_exceptions(connection: Connection, areas: Areas, period: str) -> dict[Group, dict[str, int]]:
    """Return (class, medium) -> solved, still_open: what the period before left missing or doubtful.

    The period before speaks as it is stored now: where it was closed, as it was closed.
    """
    now, before, other = BillingTotal.__table__, BillingTotal.__table__.alias(), BillingTotal.__table__.alias()
    last = (
        sa.select(sa.func.max(other.c.period))
        .where(other.c.usage_point_id == now.c.usage_point_id, other.c.period < period)
        .correlate(now)
        .scalar_subquery()
    )
    statement = (
        sa.select(now.c.customer_class, now.c.medium, now.c.state, sa.func.count().label("many"))
        .select_from(now)
        .join(before, sa.and_(before.c.usage_point_id == now.c.usage_point_id, before.c.period == last))
        .where(now.c.period == period, before.c.state.in_(OPEN), in_areas(areas, now.c.district))
        .group_by(now.c.customer_class, now.c.medium, now.c.state)
    )
    found: dict[Group, dict[str, int]] = {}
    for row in connection.execute(statement):
        word = "solved" if row.state == "billed" else "still_open" if row.state in OPEN else ""
        if word:
            counts = found.setdefault((row.customer_class, row.medium), {})
            counts[word] = counts.get(word, 0) + row.many
    return found


def adjusted_points(connection: Connection, period: str) -> set[str]:
    """Return usage points whose closed total of a period was changed by an approved delta."""
    wanted = sa.select(BillingDelta.usage_point_id).where(
        BillingDelta.period == period, BillingDelta.state == "approved"
    )
    return set(connection.execute(wanted).scalars())


def report_csv(found: ReportOut) -> bytes:
    """Return the report as CSV."""
    return csv_lines([HEADER, *(_cells(found.period, line) for line in (*found.lines, found.total))])


def _cells(period: str, line: ReportLine) -> list[str]:
    return [period if name == "period" else _plain(getattr(line, name)) for name in HEADER]


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return " ".join(f"{name}={count}" for name, count in value.items())
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "" if value is None else str(value)


def report_html(found: ReportOut) -> str:
    """Return the report as a page without script, to be printed."""
    head = _row("th", (title for _, title in _TITLES))
    body = "".join(_row("td", _shown(line)) for line in (*found.lines, found.total))
    why = "".join(f"<li>{escape(text)}</li>" for text in _reasons(found.lines))
    notes = "".join(f"<li>{escape(text)}</li>" for text in found.unknown)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Reading report '
        f'{escape(found.period)}</title><link rel="stylesheet" href="/style.css"></head><body>'
        f"<h1>Monthly reading report 抄表月报 {escape(found.period)}</h1>"
        f"<p>Made {escape(found.made_at)}.</p><div><table><thead>{head}</thead><tbody>{body}</tbody></table></div>"
        f"<h2>Why meters were not read</h2><ul>{why or '<li>Every due meter was read.</li>'}</ul>"
        f"<h2>What these numbers cannot know</h2><ul>{notes}</ul></body></html>"
    )


def _row(tag: str, cells: Iterable[str]) -> str:
    return "<tr>" + "".join(f"<{tag}>{escape(cell)}</{tag}>" for cell in cells) + "</tr>"


def _shown(line: ReportLine) -> list[str]:
    return [_plain(getattr(line, name)) for name, _ in _TITLES]


def _reasons(lines: Sequence[ReportLine]) -> list[str]:
    return [
        f"{line.group} {line.medium}: {count} {what} ({why})"
        for line in lines
        for what, reasons in (("missing", line.missing_why), ("estimated", line.estimated_why))
        for why, count in reasons.items()
    ]
