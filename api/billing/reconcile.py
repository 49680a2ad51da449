"""Run a reconciliation, keep what it came to, and ask for the exchange of prepaid meters that disagree."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from api.billing import reconcile_parent, reconcile_prepaid, reconcile_scada
from api.billing.calendars import check_period
from api.billing.load import rules_in_force
from api.billing.reconcile_settings import ReconcileSettings
from api.billing.reconcile_words import MISMATCH, Compared, Kind, Scope
from api.billing.settings import BillingSettings
from api.orders.book import DEFAULT_TZ, Request, open_or_join
from api.orders.deadlines import Deadline
from api.orders.words import Opens, OrderType, Priority
from api.orders.working_days import WorkCalendar
from metering.clock import rfc3339
from metering.quantities import from_micro
from metering.store import ReadingStore
from registry import audit
from registry.database import Database
from registry.ledger import upsert
from registry.models import UsagePoint
from registry.models_reconcile import Reconciliation
from registry.refusals import RefusedError
from registry.roles import Actor

_TABLE: Final = Reconciliation.__table__
_COMPARE: Final[Mapping[str, Callable[..., Iterator[list[Compared]]]]] = {
    "prepaid": reconcile_prepaid.compare,
    "scada": reconcile_scada.compare,
    "parent": reconcile_parent.compare,
}


def passes(
    database: Database,
    store: ReadingStore,
    settings: BillingSettings,
    actor: Actor,
    kind: Kind,
    period: str,
    scope: Scope | None = None,
    *,
    now: int,
) -> Iterator[dict[str, int]]:
    """Compare everything of a kind that is due in a period and keep it; yield verdict -> how many after each block.

    now: [ms UTC]. Raises: ValueError for a period that is none.
    """
    period, where = check_period(period), scope or Scope()
    with database.read() as connection:
        rules = rules_in_force(connection, settings)
    counts: Counter[str] = Counter()
    for block in _COMPARE[kind](database, store, rules, settings.reconciliation, period, where):
        counts.update(item.result.verdict for item in block)
        if block:
            with database.begin() as connection:
                _keep(connection, kind, period, block, now)
        yield dict(counts)
    with database.begin() as connection:
        said = {"district": where.district, "verdicts": dict(counts)}
        audit.append(
            connection, actor, "reconciliation.run", "reconciliation", f"{kind} {period}", at=now, after=said
        )


def reconcile(
    database: Database,
    store: ReadingStore,
    settings: BillingSettings,
    actor: Actor,
    kind: Kind,
    period: str,
    scope: Scope | None = None,
    *,
    now: int,
) -> dict[str, int]:
    """Do all passes; return verdict -> how many."""
    counts: dict[str, int] = {}
    for found in passes(database, store, settings, actor, kind, period, scope, now=now):
        counts = found
    return counts


def _keep(connection: Connection, kind: Kind, period: str, block: Sequence[Compared], now: int) -> None:
    """Write what a block came to; an order that was asked for stays beside it."""
    rows = [
        {
            "kind": kind,
            "usage_point_id": item.point,
            "period": period,
            "district": item.district,
            "verdict": item.result.verdict,
            "cause": item.result.cause[:48],
            "difference": item.result.difference,
            "facts": {"start_at": item.start, "end_at": item.end, **item.result.facts},
            "computed_at": now,
        }
        for item in block
    ]
    upsert(connection, Reconciliation, rows, ("kind", "usage_point_id", "period"), replace=True)


def results(
    connection: Connection,
    kind: Kind,
    period: str,
    *,
    verdict: str = "",
    district: str = "",
    areas: frozenset[str] | None = None,
    points: Sequence[str] | None = None,
    after: str = "",
    limit: int = 1000,
) -> list[Any]:
    """Return what is kept of a kind and period, by usage point, behind `after`. areas: districts that may be seen."""
    statement = sa.select(_TABLE).where(
        _TABLE.c.kind == kind, _TABLE.c.period == period, _TABLE.c.usage_point_id > after
    )
    for column, wanted in ((_TABLE.c.verdict, verdict), (_TABLE.c.district, district)):
        if wanted:
            statement = statement.where(column == wanted)
    if points is not None:
        statement = statement.where(_TABLE.c.usage_point_id.in_(points))
    if areas is not None:
        statement = statement.where(_TABLE.c.district.in_(sorted(area for area in areas if area)))
    return list(connection.execute(statement.order_by(_TABLE.c.usage_point_id).limit(limit)).mappings())


def last_period(connection: Connection, kind: Kind) -> str:
    """Return the last period of which anything of a kind is kept, "" for none."""
    newest = sa.select(sa.func.max(_TABLE.c.period)).where(_TABLE.c.kind == kind)
    return connection.execute(newest).scalar() or ""


def ask_for_exchanges(
    connection: Connection,
    actor: Actor,
    period: str,
    settings: ReconcileSettings,
    *,
    calendar: WorkCalendar,
    now: int,
    district: str = "",
    areas: frozenset[str] | None = None,
    points: Sequence[str] | None = None,
) -> list[int]:
    """Open an urgent meter exchange 换表 for each prepaid meter that disagrees and has none; return their numbers.

    A meter for which one is open already is joined to it. Raises: RefusedError when too many disagree.
    """
    audit.lock(connection)
    limit = settings.most_orders
    rows = results(
        connection,
        "prepaid",
        period,
        verdict=MISMATCH,
        district=district,
        areas=areas,
        points=points,
        limit=limit + 100_000,
    )
    if len(rows) > limit:
        raise RefusedError(
            "conflict",
            f"{len(rows)} prepaid meters disagree, more than reconciliation.most_orders ({limit}): "
            "look first whether purchases are missing",
        )
    opened = []
    for row in rows:
        if row["order_id"] is None:
            number = _ask(connection, actor, row, settings, calendar, now)
            connection.execute(sa.update(Reconciliation).where(_TABLE.c.id == row["id"]).values(order_id=number))
            opened.append(number)
    return opened


def _ask(
    connection: Connection,
    actor: Actor,
    row: Mapping[str, Any],
    settings: ReconcileSettings,
    calendar: WorkCalendar,
    now: int,
) -> int:
    place = connection.execute(sa.select(UsagePoint).where(UsagePoint.id == row["usage_point_id"])).one()
    english, chinese = sentences(row)
    request = Request(
        place=place.id,
        usage_point_id=place.id,
        meter=row["facts"].get("meter", ""),
        district=place.district,
        type=OrderType.METER_EXCHANGE,
        priority=Priority.URGENT,
        opens=Opens.ITSELF,
        deadline=Deadline.parse(settings.exchange_deadline),
        respond=Deadline.parse(settings.exchange_respond),
        reason_en=english,
        reason_zh=chinese,
        tz=place.tz or DEFAULT_TZ,
        policy="reconciliation/prepaid",
        by_hand=True,
    )
    return open_or_join(connection, actor, request, now_ms=now, calendar=calendar).order_id


def sentences(row: Mapping[str, Any]) -> tuple[str, str]:
    """Return why a prepaid meter is to be exchanged, in English and Chinese, with the numbers."""
    facts = row["facts"]
    names = ("credit_before", "bought", "used", "credit_after")
    before, bought, used, after = (from_micro(facts[name]) for name in names)
    times = f"{rfc3339(facts['from_at'])} - {rfc3339(facts['to_at'])}"
    off = from_micro(row["difference"])
    english = (
        f"prepaid meter {facts['meter']} disagrees by {off} m³ ({row['cause']}): credit {before} + bought {bought} "
        f"- used {used} - credit {after}, {times}"
    )
    chinese = (
        f"预付费表 {facts['meter']} 购用不符 {off} m³: 原存量 {before} + 购气 {bought} - 用气 {used} "
        f"- 表内存量 {after}, {times}"
    )
    return english[:500], chinese[:500]


_MICRO_FACTS: Final = frozenset(
    (
        *("credit_before", "bought", "used", "credit_after", "tolerance", "mechanical", "accumulated", "not_loaded"),
        *("loaded_late", "scada", "metered", "parent", "children", "band", "worst_case", "unknown", "loss_from"),
        *("loss_to", "covered_percent", "scada_percent", "deviation_percent", "loss_percent"),
    )
)
"""Numbers in 10⁻⁶; the rest are counts."""


def spoken(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a kept comparison as it leaves the house: decimal texts, RFC 3339, absent instead of null."""
    facts = dict(row["facts"])
    out: dict[str, Any] = {"kind": row["kind"], "usage_point": row["usage_point_id"], "period": row["period"]}
    out |= {name: row[name] for name in ("district", "cause") if row[name]}
    out |= {"verdict": row["verdict"], "from": rfc3339(facts.pop("start_at")), "to": rfc3339(facts.pop("end_at"))}
    if row["difference"] is not None:
        out["difference"] = from_micro(row["difference"])
    if row["order_id"] is not None:
        out["work_order"] = row["order_id"]
    return out | {"computed_at": rfc3339(row["computed_at"]), "facts": _spoken(facts)}


def _spoken(facts: Mapping[str, Any]) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for name, value in facts.items():
        if name.endswith("_at"):
            out[name.removesuffix("_at") + "_time"] = rfc3339(value)
        elif name in _MICRO_FACTS and isinstance(value, int):
            out[name] = from_micro(value)
        elif isinstance(value, list):
            out[name] = [_spoken(each) if isinstance(each, dict) else each for each in value]
        else:
            out[name] = value
    return out
