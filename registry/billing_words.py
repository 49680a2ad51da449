"""What people say about totals: a clerk's decision, deltas with their approvals, corrections of readings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from registry import audit
from registry.billing import next_version
from registry.models_billing import BillingApproval, BillingDecision, BillingDelta, BillingTotal, ReadingCorrection
from registry.refusals import RefusedError
from registry.roles import Actor, Role

TEAM: Final = ("team_lead", "department_head")
MANAGERS: Final = ("finance", "deputy_manager")

# -- a clerk's word ------------------------------------------------------------------------------------------------


def decide(
    connection: Connection, actor: Actor, usage_point: str, period: str, kind: str, *, now: int, note: str = ""
) -> dict[str, Any]:
    """Accept a doubtful total or send its meter back to be read again. Return the decision.

    It counts for the total as it stands; `api.billing.states.after_word` lays it over the next computation.
    Raises: RefusedError when there is nothing to decide.
    """
    if kind not in ("accept", "reread"):
        raise RefusedError("invalid", f'"{kind}": a clerk accepts (accept) or sends back (reread)')
    table = BillingTotal.__table__
    row = (
        connection.execute(sa.select(table).where(table.c.usage_point_id == usage_point, table.c.period == period))
        .mappings()
        .first()
    )
    if row is None:
        raise RefusedError("unknown", f"usage point {usage_point} has no total of {period}")
    if row["close_id"] is not None:
        raise RefusedError("conflict", f"period {period} of {usage_point} is closed; propose an adjustment")
    if kind == "accept" and row["state"] != "doubtful":
        raise RefusedError(
            "conflict", f"the total of {usage_point} in {period} is {row['state']}; only a doubtful one is accepted"
        )
    if kind == "accept" and row["cause"] == "reread":
        raise RefusedError("conflict", f"{usage_point} was sent back to be read again; a new reading settles it")
    if row["consumption"] is None:
        raise RefusedError(
            "conflict", f"{usage_point} has no total in {period} that could be read again; enter a reading"
        )
    facts = {"usage_point_id": usage_point, "period": period, "kind": kind, "consumption": row["consumption"]}
    decision = facts | {"cause": row["cause"], "note": note, "actor": actor.name, "at": now}
    connection.execute(sa.insert(BillingDecision).values(decision))
    state = "billed" if kind == "accept" else "doubtful"
    cause = row["cause"] if kind == "accept" else "reread"
    connection.execute(
        sa.update(BillingTotal)
        .where(table.c.id == row["id"])
        .values(state=state, cause=cause, version=next_version(connection), detail=_said(kind, row["cause"], actor))
    )
    before = {"state": row["state"], "cause": row["cause"], "consumption": row["consumption"]}
    audit.append(
        connection,
        actor,
        f"total.{kind}",
        "billing_total",
        f"{usage_point} {period}",
        at=now,
        before=before,
        after={"state": state, "cause": cause},
        note=note,
    )
    return decision


def _said(kind: str, cause: str, actor: Actor) -> str:
    return f"{cause} accepted by {actor.name}" if kind == "accept" else f"sent back to be read again by {actor.name}"


# -- deltas --------------------------------------------------------------------------------------------------------


def needs_of(amount: int, *, team_above: int, managers_above: int) -> list[str]:
    """Return the capacities that must approve a change of volume [micro]; each level adds to the one below."""
    size = abs(amount)
    return ["admin", *(TEAM if size > team_above else ()), *(MANAGERS if size > managers_above else ())]


def propose(connection: Connection, actor: Actor, delta: Mapping[str, Any], *, needs: Sequence[str], now: int) -> int:
    """Write a delta line that waits for its approvals and return its number. Raises: RefusedError."""
    if delta["amount"] == 0:
        raise RefusedError("invalid", "a correction of 0 changes nothing")
    if len(needs) > 1 and not str(delta["account"]).strip():
        raise RefusedError("invalid", "a correction of this size needs a written account")
    if delta["in_period"] <= delta["period"]:
        raise RefusedError(
            "conflict", f"a change of {delta['period']} is billed in a later period, not in {delta['in_period']}"
        )
    row = {
        **delta,
        "state": "proposed",
        "proposed_by": actor.name,
        "proposed_at": now,
        "needs": ",".join(needs),
        "version": next_version(connection),
    }
    key = connection.execute(sa.insert(BillingDelta).values(row)).inserted_primary_key
    number = int(key[0]) if key else 0
    after = {name: delta[name] for name in ("usage_point_id", "period", "in_period", "kind", "amount", "cause")}
    audit.append(
        connection, actor, "delta.propose", "billing_delta", number, at=now, after={**after, "needs": [*needs]}
    )
    return number


def deltas(
    connection: Connection,
    *,
    usage_point: str | None = None,
    period: str | None = None,
    in_period: str | None = None,
    state: str | None = None,
) -> list[dict[str, Any]]:
    """Return delta lines, oldest first."""
    table = BillingDelta.__table__
    statement = sa.select(table).order_by(table.c.id)
    for column, wanted in (
        ("usage_point_id", usage_point),
        ("period", period),
        ("in_period", in_period),
        ("state", state),
    ):
        if wanted is not None:
            statement = statement.where(table.c[column] == wanted)
    return [dict(row) for row in connection.execute(statement).mappings()]


def replace_proposed(connection: Connection, actor: Actor, number: int, *, now: int) -> None:
    """Withdraw a proposed delta whose data changed before anybody approved all of it."""
    connection.execute(
        sa.update(BillingDelta)
        .where(BillingDelta.id == number, BillingDelta.state == "proposed")
        .values(state="replaced", version=next_version(connection))
    )
    audit.append(connection, actor, "delta.replace", "billing_delta", number, at=now)


def may_approve_as(actor: Actor) -> set[str]:
    """Return the capacities in which an actor may approve."""
    ranks = {str(rank) for rank in actor.ranks if rank in (*TEAM, *MANAGERS)}
    return ranks | ({"admin"} if actor.has(Role.ADMIN) else set())


def approve(
    connection: Connection,
    actor: Actor,
    number: int,
    *,
    capacity: str,
    now: int,
    note: str = "",
    word: str = "approved",
) -> str:
    """Give one capacity's word on a delta (approved, rejected) and return the delta's state.

    Nobody approves what he proposed, and nobody gives two words on one delta. Raises: RefusedError.
    """
    row = connection.execute(sa.select(BillingDelta.__table__).where(BillingDelta.id == number)).mappings().first()
    if row is None:
        raise RefusedError("unknown", f"no delta has the number {number}")
    given = _given(connection, number)
    _check_approval(actor, dict(row), given, capacity, word)
    connection.execute(
        sa.insert(BillingApproval).values(
            delta_id=number, capacity=capacity, word=word, actor=actor.name, note=note, at=now
        )
    )
    needs = set(row["needs"].split(","))
    done = needs <= {g["capacity"] for g in given} | {capacity}
    state = "rejected" if word == "rejected" else "approved" if done else "proposed"
    connection.execute(
        sa.update(BillingDelta).where(BillingDelta.id == number).values(state=state, version=next_version(connection))
    )
    facts = {"capacity": capacity, "word": word, "state": state}
    audit.append(connection, actor, f"delta.{word}", "billing_delta", number, at=now, after=facts, note=note)
    return state


def _given(connection: Connection, number: int) -> list[dict[str, Any]]:
    table = BillingApproval.__table__
    rows = connection.execute(sa.select(table).where(table.c.delta_id == number).order_by(table.c.id)).mappings()
    return [dict(row) for row in rows]


def approvals(connection: Connection, number: int) -> list[dict[str, Any]]:
    """Return who said what on a delta."""
    return _given(connection, number)


def _check_approval(
    actor: Actor, row: Mapping[str, Any], given: Sequence[Mapping[str, Any]], capacity: str, word: str
) -> None:
    needs = row["needs"].split(",")
    if word not in ("approved", "rejected"):
        raise RefusedError("invalid", f'"{word}": a delta is approved or rejected')
    if row["state"] != "proposed":
        raise RefusedError("conflict", f"delta {row['id']} is {row['state']}; nothing is open")
    if row["proposed_by"] == actor.name:
        raise RefusedError("forbidden", "nobody approves his own proposal")
    if any(each["actor"] == actor.name for each in given):
        raise RefusedError("conflict", f"{actor.name} has given a word on this delta already")
    if capacity not in needs or any(each["capacity"] == capacity for each in given):
        left = [need for need in needs if need not in {each["capacity"] for each in given}]
        raise RefusedError("conflict", f'delta {row["id"]} waits for {", ".join(left)}, not for "{capacity}"')
    if capacity not in may_approve_as(actor):
        raise RefusedError("forbidden", f"{actor.name} may not approve as {capacity}")


# -- corrections of readings ---------------------------------------------------------------------------------------


def correct(
    connection: Connection,
    actor: Actor,
    *,
    meter: str,
    read_at: int,
    quantity: str,
    was: int,
    becomes: int | None,
    reason: str,
    now: int,
) -> int:
    """Record that a stored index is to be taken as another one (None: as not read). Return its number.

    The store keeps what was read. Raises: RefusedError without a reason.
    """
    if not reason.strip():
        raise RefusedError("invalid", "a correction needs a reason")
    if becomes is not None and becomes < 0:
        raise RefusedError("invalid", f"an index is not below 0: {becomes}")
    facts = {"meter_id": meter, "read_at": read_at, "quantity": quantity, "was": was, "becomes": becomes}
    row = facts | {"reason": reason, "actor": actor.name, "at": now, "withdrawn_at": None}
    key = connection.execute(sa.insert(ReadingCorrection).values(row)).inserted_primary_key
    number = int(key[0]) if key else 0
    before, after = {"index": was}, {"index": becomes, "quantity": quantity, "read_at": read_at}
    audit.append(
        connection, actor, "reading.correct", "reading", meter, at=now, before=before, after=after, note=reason
    )
    return number


def withdraw_correction(connection: Connection, actor: Actor, number: int, *, now: int, note: str = "") -> None:
    """Let a correction count no more; it stays visible. Raises: RefusedError."""
    done = connection.execute(
        sa.update(ReadingCorrection)
        .where(ReadingCorrection.id == number, ReadingCorrection.withdrawn_at.is_(None))
        .values(withdrawn_at=now)
    )
    if done.rowcount != 1:
        raise RefusedError("conflict", f"no correction with the number {number} is in force")
    audit.append(connection, actor, "reading.correct_withdraw", "reading_correction", number, at=now, note=note)
