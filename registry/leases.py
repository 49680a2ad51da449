"""Leases of the city's 64 parts among ingest workers, as plain functions on a connection.

- A lease is one row per part: holder, until when, and a *token* that rises whenever the part changes hands. Whoever
  saves something for a part shows its token in the same transaction (`check`), so that a worker that was stopped,
  cut off or slow, and does not know yet that its part moved on, can save nothing.
- Each live worker's fair share follows from the sorted names of the live workers, so that all come to the same answer
  without talking. A worker with too many parts gives the surplus back itself, after it has finished with them; one
  with too few takes what is free or expired. Nothing is ever taken from a living holder.
- A worker that freezes inside such a transaction keeps its locks. PostgreSQL ends a session that says nothing for
  `IDLE_MS` between two statements; one that froze in the middle of a statement's messages is ended by whoever waits
  for it (`end_silent`). On SQLite a frozen process blocks the file until it is killed.
- Times are [ms UTC] by the workers' own clocks: clocks that differ by more than the lease only move parts too early
  (the token still keeps everything right) or too late.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from metering.errors import RegistryError
from metering.messages import PARTS
from registry.ledger import upsert
from registry.models import LeaseWorker, PartLease

IDLE_MS: Final = 5000
"""How long a transaction that holds lease rows may wait for its own program."""

_LOCK_MS: Final = 2000  # a turn that waits longer for a lease row fails, and somebody looks who is silent
_SILENT: Final = sa.text(
    "SELECT pg_terminate_backend(a.pid) FROM pg_stat_activity a JOIN pg_locks l ON l.pid = a.pid"
    " WHERE l.relation = 'part_lease'::regclass AND l.granted AND a.pid <> pg_backend_pid()"
    " AND a.datname = current_database() AND a.wait_event = 'ClientRead'"
    " AND a.state_change < clock_timestamp() - :ms * interval '1 millisecond'"
)

_LEASE: sa.Table = PartLease.__table__  # type: ignore[assignment]  # SQLAlchemy calls it a FromClause
_WORKER: sa.Table = LeaseWorker.__table__  # type: ignore[assignment]  # as above


class LeaseLostError(RegistryError):
    """Some parts belong to another worker now; `parts` says which. Nothing was saved."""

    def __init__(self, parts: Collection[int]) -> None:
        self.parts = sorted(parts)
        super().__init__(f"the lease of parts {', '.join(map(str, self.parts))} was lost")


@dataclass(frozen=True, slots=True)
class Turn:
    """What one `turn` came to: part -> token of what is held now, split into kept and gained.

    lost: what we thought we held. surplus: parts above our share, to be finished with and then released.
    """

    kept: dict[int, int] = field(default_factory=dict)
    gained: dict[int, int] = field(default_factory=dict)
    lost: list[int] = field(default_factory=list)
    surplus: list[int] = field(default_factory=list)


def turn(connection: Connection, worker: str, held: Mapping[int, int], *, now: int, lease_ms: int) -> Turn:
    """Say that `worker` lives, renew what it holds, and take free parts up to its share.

    held: part -> token of what the caller believes to hold. A part that stands under our name with another token is
    from an earlier life of this worker: it is taken again with a new token, because its memory of it is gone.
    """
    _limit_idling(connection)
    if connection.dialect.name == "postgresql":
        connection.execute(sa.select(sa.func.set_config("lock_timeout", str(_LOCK_MS), True)))
    upsert(connection, LeaseWorker, [{"name": worker, "expires_at": now + lease_ms}], ("name",), replace=True)
    rows = connection.execute(sa.select(_LEASE).order_by(_LEASE.c.part).with_for_update()).mappings().all()
    own = {row["part"]: row["token"] for row in rows if row["holder"] == worker}
    kept = {part: token for part, token in held.items() if own.get(part) == token}
    share = share_of(worker, _alive(connection, now) | {worker})
    free = [row for row in rows if row["part"] not in kept and _is_free(row, worker, now)]
    free.sort(key=lambda row: row["holder"] != worker)  # stable: our own earlier ones first
    gained = {row["part"]: row["token"] + 1 for row in free[: max(0, share - len(kept))]}
    _hold(connection, worker, {**kept, **gained}, now + lease_ms)
    return Turn(
        kept=kept,
        gained=gained,
        lost=sorted(held.keys() - kept.keys()),
        surplus=sorted(kept)[share:],
    )


def share_of(worker: str, alive: Collection[str]) -> int:
    """Return how many parts a worker should hold: an equal share, the first by name get one more."""
    share, more = divmod(PARTS, len(alive))
    return share + (sorted(alive).index(worker) < more)


def check(connection: Connection, held: Mapping[int, int]) -> None:
    """Let this transaction go on only while every part still has the token that the caller holds.

    The rows stay locked to the end of the transaction: a part cannot change hands before what is saved is committed.
    Raises: LeaseLostError.
    """
    if not held:
        return
    _limit_idling(connection)
    # in order, like `turn`: two transactions that lock several rows never wait for each other
    statement = sa.select(_LEASE.c.part, _LEASE.c.token).where(_LEASE.c.part.in_(held)).order_by(_LEASE.c.part)
    now = {row.part: row.token for row in connection.execute(statement.with_for_update(read=True))}
    lost = [part for part, token in held.items() if now.get(part) != token]
    if lost:
        raise LeaseLostError(lost)


def floor_of(connection: Connection, parts: Collection[int]) -> int:
    """Return the lowest recovery floor [ms UTC] of parts."""
    floors = connection.execute(sa.select(sa.func.min(_LEASE.c.floor)).where(_LEASE.c.part.in_(parts)))
    return int(floors.scalar_one() or 0)


def set_floor(connection: Connection, parts: Iterable[int], floor: int) -> None:
    """Remember the recovery floor [ms UTC] of parts whose tokens were checked in this transaction."""
    connection.execute(sa.update(_LEASE).where(_LEASE.c.part.in_(sorted(parts))).values(floor=floor))


def release(connection: Connection, worker: str, held: Mapping[int, int], *, leave: bool = False) -> None:
    """Give parts back, so that another worker need not wait for their end; leave: the worker ends altogether."""
    for part, token in sorted(held.items()):
        connection.execute(
            sa.update(_LEASE)
            .where(_LEASE.c.part == part, _LEASE.c.token == token, _LEASE.c.holder == worker)
            .values(holder="", expires_at=0)
        )
    if leave:
        connection.execute(sa.delete(_WORKER).where(_WORKER.c.name == worker))


def end_silent(connection: Connection) -> int:
    """After a turn that could not get its rows: end the sessions that hold some and wait for a silent program.

    Returns: how many. What they had not committed is undone, as after any crash.
    """
    if connection.dialect.name != "postgresql":
        return 0
    return len(connection.execute(_SILENT, {"ms": IDLE_MS}).all())


def _limit_idling(connection: Connection) -> None:
    if connection.dialect.name == "postgresql":
        connection.execute(sa.select(sa.func.set_config("idle_in_transaction_session_timeout", str(IDLE_MS), True)))


def _alive(connection: Connection, now: int) -> set[str]:
    return set(connection.execute(sa.select(_WORKER.c.name).where(_WORKER.c.expires_at > now)).scalars())


def _is_free(row: sa.RowMapping, worker: str, now: int) -> bool:
    return not row["holder"] or row["holder"] == worker or row["expires_at"] <= now


def _hold(connection: Connection, worker: str, tokens: Mapping[int, int], expires_at: int) -> None:
    rows = [{"p": part, "t": token} for part, token in tokens.items()]
    if rows:
        connection.execute(
            sa.update(_LEASE)
            .where(_LEASE.c.part == sa.bindparam("p"))
            .values(holder=worker, token=sa.bindparam("t"), expires_at=expires_at),
            rows,
        )
