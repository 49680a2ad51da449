"""Closing a period: freezing its totals, and proving later that they are the ones that were closed.

A closed total is frozen with a digest of its canonical bytes; the close carries the hash over all digests in order of
the usage points. Whoever changes a frozen row, a line of it or its place breaks `verify`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from registry import audit
from registry.billing import lines_of, next_version, totals_of
from registry.models_billing import BillingClose, BillingTotal
from registry.refusals import RefusedError
from registry.roles import Actor

_BLOCK: Final = 500
_NOT_FROZEN: Final = frozenset({"id", "version", "close_id", "digest", "computed_at"})


def digest(row: Mapping[str, Any], lines: Sequence[Mapping[str, Any]]) -> str:
    """Return the SHA-256 of a total with its lines in their one spelling."""
    facts = {name: value for name, value in row.items() if name not in _NOT_FROZEN}
    whole = audit.canonical({"total": facts, "lines": [dict(line) for line in lines]})
    return hashlib.sha256(whole.encode()).hexdigest()


def _digests(
    connection: Connection, period: str, scope: Mapping[str, str], close_id: int | None
) -> Iterator[tuple[Mapping[str, Any], str]]:
    block: list[Mapping[str, Any]] = []
    for row in totals_of(connection, period, scope, close_id=close_id):
        block.append(row)
        if len(block) == _BLOCK:
            yield from _digested(connection, period, block)
            block = []
    yield from _digested(connection, period, block)


def _digested(
    connection: Connection, period: str, block: Sequence[Mapping[str, Any]]
) -> Iterator[tuple[Mapping[str, Any], str]]:
    lines = lines_of(connection, period, [row["usage_point_id"] for row in block])
    for row in block:
        yield row, digest(row, lines.get(row["usage_point_id"], []))


def freeze(
    connection: Connection,
    actor: Actor,
    period: str,
    scope: Mapping[str, str],
    *,
    now: int,
    note: str,
) -> dict[str, Any]:
    """Freeze the open totals of a period and scope (customer_class, medium, district); return the close.

    Raises: RefusedError when there is nothing to close. Who may and whether, `api.billing.close` decides.
    """
    rows = [
        (row["id"], code, row["state"])
        for row, code in _digests(connection, period, scope, None)
        if row["close_id"] is None
    ]
    if not rows:
        raise RefusedError("conflict", f"period {period} has no open total in this scope")
    whole = hashlib.sha256("".join(code for _, code, _ in rows).encode()).hexdigest()
    states = [state for _, _, state in rows]
    close = {
        "period": period,
        **{name: scope.get(name, "") for name in ("customer_class", "medium", "district")},
        "closed_at": now,
        "closed_by": actor.name,
        "note": note,
        "totals": len(rows),
        "open_missing": states.count("missing"),
        "open_doubtful": states.count("doubtful"),
        "hash": whole,
    }
    number = connection.execute(sa.insert(BillingClose).values(close)).inserted_primary_key
    close["id"] = number[0] if number else 0
    version = next_version(connection)
    table = BillingTotal.__table__
    connection.execute(
        sa.update(BillingTotal)
        .where(table.c.id == sa.bindparam("key"))
        .values(close_id=close["id"], digest=sa.bindparam("code"), version=version),
        [{"key": key, "code": code} for key, code, _ in rows],
    )
    after = {name: close[name] for name in ("period", "totals", "open_missing", "open_doubtful", "hash")}
    audit.append(connection, actor, "period.close", "billing_close", close["id"], at=now, after=after, note=note)
    return close


def closes(connection: Connection, period: str | None = None) -> list[dict[str, Any]]:
    """Return closed periods, oldest first."""
    table = BillingClose.__table__
    statement = sa.select(table).order_by(table.c.id)
    if period is not None:
        statement = statement.where(table.c.period == period)
    return [dict(row) for row in connection.execute(statement).mappings()]


def verify(connection: Connection, close_id: int) -> list[str]:
    """Return what is wrong with a frozen period in sentences; empty when every byte is as it was closed."""
    found = [close for close in closes(connection) if close["id"] == close_id]
    if not found:
        raise RefusedError("unknown", f"no closed period has the number {close_id}")
    close, wrong, codes = found[0], [], []
    for row, code in _digests(connection, close["period"], {}, close_id):
        codes.append(code)
        if code != row["digest"]:
            wrong.append(f"the total of {row['usage_point_id']} is not the one that was closed")
    if len(codes) != close["totals"]:
        wrong.append(f"{close['totals']} totals were closed, {len(codes)} are there")
    if hashlib.sha256("".join(codes).encode()).hexdigest() != close["hash"]:
        wrong.append("the hash over all totals is not the one of the close")
    return wrong
