"""What billing keeps, in pages and words of the API, within a caller's areas."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from api import paging, words
from api.access.areas import Areas, in_areas, meter_seen
from api.billing import lists
from api.billing.calendars import DEFAULTS, Calendar
from api.billing.close import checklist
from api.billing.lists import Filters
from api.billing.load import Scope
from api.billing.spoken import amount, close_out, decision_out, delta_out, total_out
from api.problems import invalid, not_found
from api.schemas_billing import (
    ChecklistOut,
    CloseOut,
    ClosePage,
    DeltaOut,
    DeltaPage,
    EarlierOut,
    PeriodOut,
    PeriodPage,
    TotalDetail,
    TotalPage,
)
from api.schemas_billing_rules import (
    CalendarOut,
    CalendarPage,
    CalorificOut,
    CalorificPage,
    CorrectionOut,
    CorrectionPage,
    ExtraDayOut,
    ExtraDayPage,
    ValidationRuleOut,
    ValidationRulePage,
)
from metering.clock import rfc3339
from metering.quantities import from_micro
from registry import billing_words
from registry.models import UsagePoint
from registry.models_billing import (
    BillingApproval,
    BillingClose,
    BillingDecision,
    BillingDelta,
    BillingExtraDay,
    CalorificValue,
    ReadingCorrection,
)
from registry.roles import Actor

_DELTA: Final = BillingDelta.__table__
_PLACE: Final = UsagePoint.__table__


def totals(connection: Connection, areas: Areas, filters: Filters, limit: int, cursor: str | None) -> TotalPage:
    """Return a page of totals: by place, or with `since` in the order of their changes."""
    if filters.since is not None:
        return _changes(connection, areas, filters, limit, cursor)
    after = _place_key(cursor)
    rows = lists.by_place(connection, areas, filters, limit=limit + 1, after=after)
    page = paging.page_of(rows, limit, "totals", lambda row: " ".join(reversed(lists.key_of(row))))
    return TotalPage(items=[total_out(row) for row in page.items], next_cursor=page.next_cursor, resume_since=None)


def _place_key(cursor: str | None) -> tuple[str, str] | None:
    """A period and a usage point, whose id may hold spaces."""
    text = paging.text_key("totals", cursor)
    if text is None:
        return None
    period, _, point = text.partition(" ")
    return point, period


def _changes(connection: Connection, areas: Areas, filters: Filters, limit: int, cursor: str | None) -> TotalPage:
    after = _version_key("changed-totals", cursor)
    rows = lists.by_version(connection, areas, filters, limit=limit + 1, after=after)
    page = paging.page_of(rows, limit, "changed-totals", lambda row: f"{row.total['version']} {row.total['id']}")
    newest = page.items[-1].total["version"] if page.items else after[0] if after else filters.since
    return TotalPage(
        items=[total_out(row) for row in page.items],
        next_cursor=page.next_cursor,
        resume_since=newest if page.next_cursor is None else None,
    )


def _version_key(kind: str, cursor: str | None) -> tuple[int, int] | None:
    text = paging.text_key(kind, cursor)
    if text is None:
        return None
    version, _, number = text.partition(" ")
    if not (version.isdecimal() and number.isdecimal() and version.isascii() and number.isascii()):
        raise invalid("cursor", str(cursor), "is not a cursor of this list; begin without one")
    if max(int(version), int(number)) >= 2**63:
        raise invalid("cursor", str(cursor), "is not a cursor of this list; begin without one")
    return int(version), int(number)


def require_total(connection: Connection, caller: Actor, point: str, period: str) -> lists.Row:
    """Return a total. Raises: ProblemError 404 when it is not there or not the caller's."""
    filters = Filters(period=period, usage_point=point)
    rows = lists.by_place(connection, caller.areas, filters, limit=1)
    if not rows:
        raise not_found("total", f"{point} {period}")
    return rows[0]


def one_total(connection: Connection, caller: Actor, point: str, period: str) -> TotalDetail:
    """Return a total with decisions and deltas. Raises: ProblemError 404."""
    row = require_total(connection, caller, point, period)
    table = BillingDecision.__table__
    said = connection.execute(
        sa.select(table).where(table.c.usage_point_id == point, table.c.period == period).order_by(table.c.id)
    ).mappings()
    found = billing_words.deltas(connection, usage_point=point, period=period)
    given = _approvals(connection, [delta["id"] for delta in found])
    return TotalDetail(
        total=total_out(row),
        decisions=[decision_out(dict(each)) for each in said],
        deltas=[delta_out(delta, given.get(delta["id"], [])) for delta in found],
    )


def periods(connection: Connection, areas: Areas) -> PeriodPage:
    """Return how periods stand, newest first."""
    found: dict[str, PeriodOut] = {}
    for row in lists.periods(connection, areas):
        period = found.setdefault(row["period"], PeriodOut(period=row["period"], open={}, closed={}))
        (period.closed if row["closed"] else period.open)[row["state"]] = row["count"]
    return PeriodPage(items=list(found.values()))


def checklist_of(connection: Connection, period: str, scope: Scope, now: int) -> ChecklistOut:
    """Return what stands between a period and its close."""
    seen = checklist(connection, period, scope, now=now)
    return ChecklistOut(
        period=period,
        counts=dict(seen.counts),
        missing=seen.counts.get("missing", 0),
        doubtful=seen.counts.get("doubtful", 0),
        causes=dict(Counter(cause for _, _, cause in seen.open)),
        not_over=seen.not_over,
        earlier=[EarlierOut(period=earlier, totals=count) for earlier, count in seen.earlier],
        closable=bool(seen.counts) and not seen.not_over and not seen.earlier,
    )


# -- closes --------------------------------------------------------------------------------------------------------


def closes(connection: Connection, areas: Areas, period: str | None, limit: int, cursor: str | None) -> ClosePage:
    """Return closes, newest first; a caller for some areas sees those of his districts."""
    table = BillingClose.__table__
    statement = sa.select(table).where(in_areas(areas, table.c.district)).order_by(table.c.id.desc()).limit(limit + 1)
    if period is not None:
        statement = statement.where(table.c.period == period)
    if (before := paging.number_key("closes", cursor)) is not None:
        statement = statement.where(table.c.id < before)
    rows = [close_out(dict(row)) for row in connection.execute(statement).mappings()]
    page = paging.page_of(rows, limit, "closes", lambda row: row.id)
    return ClosePage(items=page.items, next_cursor=page.next_cursor)


def one_close(connection: Connection, areas: Areas, number: int) -> CloseOut:
    """Return a close. Raises: ProblemError 404."""
    table = BillingClose.__table__
    wanted = sa.select(table).where(table.c.id == number, in_areas(areas, table.c.district))
    row = connection.execute(wanted).mappings().first()
    if row is None:
        raise not_found("close", number)
    return close_out(dict(row))


# -- deltas --------------------------------------------------------------------------------------------------------


def deltas(
    connection: Connection,
    areas: Areas,
    wanted: Mapping[str, str | None],
    *,
    since: int | None,
    limit: int,
    cursor: str | None,
) -> DeltaPage:
    """Return deltas by number; with `since` those with a higher version, in the order of their changes."""
    statement = sa.select(_DELTA).join(_PLACE, _PLACE.c.id == _DELTA.c.usage_point_id)
    statement = statement.where(in_areas(areas, _PLACE.c.district)).limit(limit + 1)
    for column, text in wanted.items():
        if text is not None:
            statement = statement.where(_DELTA.c[column] == text)
    kind = "deltas" if since is None else "changed-deltas"
    after = _version_key(kind, cursor)
    order = (_DELTA.c.id, _DELTA.c.id) if since is None else (_DELTA.c.version, _DELTA.c.id)
    statement = statement.order_by(*order)
    if since is not None:
        statement = statement.where(_DELTA.c.version > since)
    if after is not None:
        statement = statement.where(sa.tuple_(*order) > sa.tuple_(*after))
    rows = [dict(row) for row in connection.execute(statement).mappings()]
    first = "id" if since is None else "version"
    page = paging.page_of(rows, limit, kind, lambda row: f"{row[first]} {row['id']}")
    given = _approvals(connection, [row["id"] for row in page.items])
    return DeltaPage(
        items=[delta_out(row, given.get(row["id"], [])) for row in page.items], next_cursor=page.next_cursor
    )


def _approvals(connection: Connection, numbers: list[int]) -> dict[int, list[dict[str, Any]]]:
    table = BillingApproval.__table__
    found: dict[int, list[dict[str, Any]]] = {}
    statement = sa.select(table).where(table.c.delta_id.in_(numbers)).order_by(table.c.id)
    for row in connection.execute(statement).mappings():
        found.setdefault(row["delta_id"], []).append(dict(row))
    return found


def one_delta(connection: Connection, areas: Areas, number: int) -> DeltaOut:
    """Return a delta. Raises: ProblemError 404."""
    statement = sa.select(_DELTA).join(_PLACE, _PLACE.c.id == _DELTA.c.usage_point_id)
    statement = statement.where(_DELTA.c.id == number, in_areas(areas, _PLACE.c.district))
    row = connection.execute(statement).mappings().first()
    if row is None:
        raise not_found("delta", number)
    return delta_out(dict(row), billing_words.approvals(connection, number))


# -- rules ---------------------------------------------------------------------------------------------------------


def calendars(rows: list[dict[str, Any]]) -> CalendarPage:
    """Return the utility's calendars, and the manuals'."""
    own = [CalendarOut(**{name: row[name] for name in CalendarOut.model_fields}) for row in rows]
    return CalendarPage(items=own, manuals=[_manual(calendar) for calendar in DEFAULTS])


def _manual(calendar: Calendar) -> CalendarOut:
    return CalendarOut(**asdict(calendar), id=None, created_by="the manuals", version=0)


def validation_rules(found: Iterable[Mapping[str, Any]]) -> ValidationRulePage:
    """Return the versions of the rules of validation."""
    return ValidationRulePage(
        items=[
            ValidationRuleOut(
                **dict(row)
                | {"valid_from": words.moment(row["valid_from"] or None), "made_at": words.moment(row["made_at"])}
            )
            for row in found
        ]
    )


def extra_days(connection: Connection) -> ExtraDayPage:
    """Return extra reading days, oldest first."""
    table = BillingExtraDay.__table__
    rows = connection.execute(sa.select(table).order_by(table.c.day, table.c.id)).mappings()
    return ExtraDayPage(items=[ExtraDayOut(**{name: row[name] for name in ExtraDayOut.model_fields}) for row in rows])


def calorific_values(connection: Connection) -> CalorificPage:
    """Return calorific values by day."""
    table = CalorificValue.__table__
    rows = connection.execute(sa.select(table).order_by(table.c.from_day, table.c.id)).mappings()
    same = ("id", "district", "from_day", "created_by")
    return CalorificPage(
        items=[CalorificOut(**{name: row[name] for name in same}, value=from_micro(row["value"])) for row in rows]
    )


# -- corrections ---------------------------------------------------------------------------------------------------


def corrections(
    connection: Connection, areas: Areas, meter: str | None, limit: int, cursor: str | None
) -> CorrectionPage:
    """Return corrections of readings, newest first."""
    table = ReadingCorrection.__table__
    statement = sa.select(table).where(meter_seen(areas, table.c.meter_id))
    if meter is not None:
        statement = statement.where(table.c.meter_id == meter)
    if (before := paging.number_key("corrections", cursor)) is not None:
        statement = statement.where(table.c.id < before)
    rows = connection.execute(statement.order_by(table.c.id.desc()).limit(limit + 1)).mappings()
    page = paging.page_of([_correction(dict(row)) for row in rows], limit, "corrections", lambda row: row.id)
    return CorrectionPage(items=page.items, next_cursor=page.next_cursor)


def one_correction(connection: Connection, areas: Areas, number: int) -> CorrectionOut:
    """Return a correction. Raises: ProblemError 404."""
    table = ReadingCorrection.__table__
    statement = sa.select(table).where(table.c.id == number, meter_seen(areas, table.c.meter_id))
    row = connection.execute(statement).mappings().first()
    if row is None:
        raise not_found("correction", number)
    return _correction(dict(row))


def _correction(row: Mapping[str, Any]) -> CorrectionOut:
    return CorrectionOut(
        **{name: row[name] for name in ("id", "quantity", "reason", "actor")},
        meter=row["meter_id"],
        read_at=rfc3339(row["read_at"]),
        was=from_micro(row["was"]),
        becomes=amount(row["becomes"]),
        at=rfc3339(row["at"]),
        withdrawn_at=words.moment(row["withdrawn_at"]),
    )
