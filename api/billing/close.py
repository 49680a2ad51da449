"""Close a period, and find what changed behind a closed one. Who may do what is decided here."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from api.billing.calendars import Calendars, check_period, shift
from api.billing.compute import Total, compute
from api.billing.keep import refresh
from api.billing.load import Scope, calendars_of
from api.billing.settings import BillingSettings
from metering.quantities import MICRO, from_micro
from metering.store import ReadingStore
from registry import billing as books
from registry import billing_close, billing_words
from registry.database import Database
from registry.models import UsagePoint
from registry.models_billing import BillingTotal
from registry.refusals import RefusedError
from registry.roles import Actor, Role, service

LATE: Final = "late_data"
ADJUSTMENT: Final = "adjustment"
_BILLING: Final = service("billing")


@dataclass(frozen=True, slots=True)
class Checklist:
    """What stands open before a period is closed. open: (usage point, state, cause) of doubtful and missing ones."""

    period: str
    counts: Mapping[str, int]
    open: Sequence[tuple[str, str, str]]
    not_over: int
    earlier: Sequence[tuple[str, int]]


def checklist(connection: Connection, period: str, scope: Scope, *, now: int) -> Checklist:
    """Return the open totals of a period as they are stored."""
    counts: dict[str, int] = {}
    open_: list[tuple[str, str, str]] = []
    not_over = 0
    texts = {"customer_class": scope.customer_class, "medium": scope.medium, "district": scope.district}
    for row in books.totals_of(connection, period, texts):
        if row["close_id"] is not None:
            continue
        counts[row["state"]] = counts.get(row["state"], 0) + 1
        not_over += row["end_at"] > now
        if row["state"] in ("doubtful", "missing"):
            open_.append((row["usage_point_id"], row["state"], row["cause"]))
    return Checklist(period, counts, open_, not_over, books.open_before(connection, period, **_texts(scope)))


def close_period(
    database: Database,
    store: ReadingStore,
    settings: BillingSettings,
    actor: Actor,
    period: str,
    scope: Scope | None = None,
    *,
    missing: int,
    doubtful: int,
    now: int,
    note: str = "",
    also: Callable[[Connection, dict[str, Any]], None] | None = None,
) -> dict[str, Any]:
    """Bring a period's totals up to date, check them against what was confirmed, and freeze them. Return the close.

    missing, doubtful: how many open usage points of each state the closer has seen and lets stand.
    also: done with the close in its transaction.
    Raises: RefusedError, and nothing is closed: not allowed, not over, an earlier period open, other numbers.
    """
    scope = scope or Scope()
    check_closer(actor, scope)
    refresh(database, store, settings, check_period(period), scope, now=now)
    confirmed = {"missing": missing, "doubtful": doubtful, "now": now}
    return freeze_period(database, actor, period, scope, note=note, also=also, **confirmed)


def check_closer(actor: Actor, scope: Scope) -> None:
    """Raises: RefusedError for somebody who may not close a period of this scope."""
    if not actor.has(Role.BILLING, Role.ADMIN):
        raise RefusedError("forbidden", "a period is closed by billing or an administrator")
    if not actor.sees(scope.district) and actor.areas is not None:
        raise RefusedError("forbidden", "a period is closed for a district that one is responsible for")


def freeze_period(
    database: Database,
    actor: Actor,
    period: str,
    scope: Scope,
    *,
    missing: int,
    doubtful: int,
    now: int,
    note: str = "",
    also: Callable[[Connection, dict[str, Any]], None] | None = None,
) -> dict[str, Any]:
    """Check stored totals against what was confirmed, and freeze them: the second half of `close_period`."""
    check_closer(actor, scope)
    check = check_period(period)
    with database.begin() as connection:
        seen = checklist(connection, check, scope, now=now)
        _check_closable(seen, missing, doubtful)
        closed = billing_close.freeze(connection, actor, check, _texts(scope), now=now, note=note)
        if also is not None:
            also(connection, closed)
        return closed


def _check_closable(seen: Checklist, missing: int, doubtful: int) -> None:
    if not seen.counts:
        raise RefusedError("conflict", f"period {seen.period} has no open total in this scope")
    if seen.not_over:
        raise RefusedError("conflict", f"period {seen.period} is not over yet at {seen.not_over} usage points")
    if seen.earlier:
        before, count = seen.earlier[0]
        raise RefusedError("conflict", f"period {before} is still open at {count} usage points; close it first")
    found = seen.counts.get("missing", 0), seen.counts.get("doubtful", 0)
    if found != (missing, doubtful):
        raise RefusedError(
            "conflict",
            f"{found[0]} usage points are missing and {found[1]} doubtful; confirmed were {missing} and {doubtful}: "
            "look at the list again",
        )


def find_deltas(
    database: Database,
    store: ReadingStore,
    settings: BillingSettings,
    period: str,
    scope: Scope | None = None,
    *,
    now: int,
) -> list[int]:
    """Compute a closed period again and propose a delta line for every total that would be another one today.

    The closed totals stay as they are. Return the numbers of the new delta lines.
    """
    return [number for found in delta_blocks(database, store, settings, period, scope, now=now) for number in found]


def delta_blocks(
    database: Database,
    store: ReadingStore,
    settings: BillingSettings,
    period: str,
    scope: Scope | None = None,
    *,
    now: int,
) -> Iterator[list[int]]:
    """Do the same block by block, and yield the numbers of each."""
    for block in compute(database, store, settings, check_period(period), scope):
        with database.read() as connection:
            frozen = books.stored(connection, period, [total.place.point.id for total in block])
        changed = [
            (total, frozen[total.place.point.id])
            for total in block
            if total.outcome.consumption is not None
            and (row := frozen.get(total.place.point.id)) is not None
            and row["close_id"] is not None
        ]
        found: list[int] = []
        with database.begin() as connection:
            known = _late(connection, period)
            calendars = calendars_of(connection)
            for total, row in changed:
                own = known.get(total.place.point.id, [])
                if own or total.outcome.consumption != row["consumption"]:
                    number = _delta(connection, settings, calendars, total, row, own, now)
                    found += [number] if number is not None else []
        yield found


def _delta(
    connection: Connection,
    settings: BillingSettings,
    calendars: Calendars,
    total: Total,
    row: Mapping[str, Any],
    known: Sequence[Mapping[str, Any]],
    now: int,
) -> int | None:
    """Propose what a total changed by since it was closed and since its approved deltas; None when nothing did."""
    after, point, period = total.outcome.consumption, row["usage_point_id"], row["period"]
    assert after is not None
    before = (row["consumption"] or 0) + sum(d["amount"] for d in known if d["state"] == "approved")
    proposed = [d for d in known if d["state"] == "proposed"]
    if any(d["after"] == after for d in proposed) or any(
        d["state"] == "rejected" and d["after"] == after and d["before"] == before for d in known
    ):
        return None
    for delta in proposed:
        billing_words.replace_proposed(connection, _BILLING, delta["id"], now=now)
    if after == before:
        return None
    account = f"found by computing {period} again: {from_micro(before)} became {from_micro(after)}"
    account += f"; {total.outcome.detail}" if total.outcome.detail else ""
    delta = {
        "usage_point_id": point,
        "period": period,
        "in_period": next_open(connection, calendars, point, period),
        "kind": LATE,
        "quantity": row["quantity"] or (total.place.point.stays[-1].quantity if total.place.point.stays else ""),
        "before": before if row["consumption"] is not None or before else None,
        "after": after,
        "amount": after - before,
        "cause": "was_missing" if row["consumption"] is None and not before else "changed_data",
        "account": account[:2000],
    }
    return billing_words.propose(connection, _BILLING, delta, needs=_needs(settings, after - before), now=now)


def _late(connection: Connection, period: str) -> dict[str, list[dict[str, Any]]]:
    """Return what was already found of a closed period, by usage point."""
    found: dict[str, list[dict[str, Any]]] = {}
    for delta in billing_words.deltas(connection, period=period):
        if delta["kind"] == LATE:
            found.setdefault(delta["usage_point_id"], []).append(delta)
    return found


def _needs(settings: BillingSettings, amount: int) -> list[str]:
    return billing_words.needs_of(
        amount, team_above=settings.team_approval * MICRO, managers_above=settings.manager_approval * MICRO
    )


def next_open(connection: Connection, calendars: Calendars, usage_point: str, period: str) -> str:
    """Return the first period after a closed one that is due at a usage point and not closed yet."""
    place = connection.execute(sa.select(UsagePoint.__table__).where(UsagePoint.id == usage_point)).one()
    closed = books.closed_periods(connection, usage_point, period)
    after = shift(period, 1)
    for _ in range(36):
        rule = calendars.rule(place.customer_class, place.medium, after)
        if after not in closed and (rule is None or rule.due(after)):
            return after
        after = shift(after, 1)
    return after


def propose_adjustment(
    connection: Connection,
    settings: BillingSettings,
    actor: Actor,
    usage_point: str,
    period: str,
    *,
    amount: int,
    cause: str,
    account: str,
    now: int,
) -> int:
    """Propose a refund or extra charge [micro] on a closed total; return its number. Raises: RefusedError."""
    table = BillingTotal.__table__
    row = (
        connection.execute(sa.select(table).where(table.c.usage_point_id == usage_point, table.c.period == period))
        .mappings()
        .first()
    )
    if row is None or row["close_id"] is None:
        raise RefusedError(
            "conflict", f"period {period} of {usage_point} is not closed: its readings can still be corrected"
        )
    before = (row["consumption"] or 0) + sum(
        d["amount"]
        for d in billing_words.deltas(connection, usage_point=usage_point, period=period, state="approved")
    )
    delta = {
        "usage_point_id": usage_point,
        "period": period,
        "in_period": next_open(connection, calendars_of(connection), usage_point, period),
        "kind": ADJUSTMENT,
        "quantity": row["quantity"],
        "before": before,
        "after": before + amount,
        "amount": amount,
        "cause": cause,
        "account": account,
    }
    return billing_words.propose(connection, actor, delta, needs=_needs(settings, amount), now=now)


def _texts(scope: Scope) -> dict[str, str]:
    return {"customer_class": scope.customer_class, "medium": scope.medium, "district": scope.district}
