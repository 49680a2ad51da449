"""The table of jobs: plain functions on a connection. Times [ms UTC]."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, cast

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from api.jobs.settings import JobSettings
from metering.clock import rfc3339
from registry import audit
from registry.models_jobs import Job
from registry.refusals import RefusedError
from registry.roles import Actor, Rank, Role, areas_from, areas_to, service

JOB: Final = cast(sa.Table, Job.__table__)
RUNNER: Final = service("jobs")
STATES: Final = ("queued", "running", "done", "failed", "cancelled", "interrupted", "expired")
ALIVE: Final = ("queued", "running")
FORGET_MS: Final = 90 * 86_400_000
"""Rows of jobs that are over are kept for so long after their result."""

_SETTLED: Final = JOB.c.outcome.is_not(None)
"""A job that runs has no outcome but the one of `settle`."""


def submit(
    connection: Connection,
    actor: Actor,
    kind: str,
    args: Mapping[str, Any],
    *,
    title: str,
    now_ms: int,
    settings: JobSettings,
) -> int:
    """Queue a job and return its number; the caller has checked that the actor may ask for it.

    kind: of `api.jobs.kinds.KINDS`. args: JSON types.

    Raises: RefusedError when he has too many waiting already.
    """
    mine = sa.select(sa.func.count()).where(JOB.c.by == actor.name, JOB.c.state.in_(ALIVE))
    if connection.execute(mine).scalar_one() >= settings.waiting_per_caller:
        raise RefusedError(
            "conflict", f"{settings.waiting_per_caller} of your jobs wait or run; wait for one of them"
        )
    row: dict[str, Any] = {
        "kind": kind,
        "title": title[:200],
        "args": dict(args),
        "state": "queued",
        "by": actor.name,
    }
    row |= {"actor": _words_of(actor), "created_at": now_ms, "holder": "", "progress": 0, "progress_text": ""}
    row |= {"cancel": False, "problem": "", "result_name": "", "result_type": "", "result_sha256": ""}
    number = int(connection.execute(sa.insert(JOB).values(row).returning(JOB.c.id)).scalar_one())
    audit.append(connection, actor, "job.submit", "job", number, at=now_ms, after={"kind": kind, "title": title})
    return number


def _words_of(actor: Actor) -> dict[str, list[str]]:
    return {"roles": sorted(actor.roles), "ranks": sorted(actor.ranks), "areas": areas_to(actor.areas)}


def actor_of(row: Mapping[str, Any]) -> Actor:
    """Return who asked for a job, as he was when he did."""
    words = row["actor"]
    roles, ranks = frozenset(map(Role, words["roles"])), frozenset(map(Rank, words["ranks"]))
    return Actor(row["by"], roles, ranks, areas_from(words["areas"]))


def may_see(actor: Actor, row: Mapping[str, Any]) -> bool:
    """True for whoever asked for the job, and for administrators who see its districts."""
    if actor.name == row["by"]:
        return True
    areas = areas_from(row["actor"]["areas"])
    return actor.has(Role.ADMIN) and (actor.areas is None or (areas is not None and areas <= actor.areas))


def row_of(connection: Connection, actor: Actor, number: int, *, lock: bool = False) -> dict[str, Any]:
    """Return one job. Raises: RefusedError when there is none that the actor may see."""
    statement = sa.select(JOB).where(JOB.c.id == number)
    row = connection.execute(statement.with_for_update() if lock else statement).mappings().first()
    if row is None or not may_see(actor, dict(row)):
        raise RefusedError("unknown", f"there is no job {number}")
    return dict(row)


def any_row(connection: Connection, number: int) -> dict[str, Any] | None:
    """Return one job whoever asked for it, None when it is forgotten; the caller has checked who may know of it."""
    row = connection.execute(sa.select(JOB).where(JOB.c.id == number)).mappings().first()
    return None if row is None else dict(row)


def rows(
    connection: Connection, actor: Actor, *, state: str | None, kind: str | None, before: int | None, limit: int
) -> list[dict[str, Any]]:
    """Return jobs that the actor may see, newest first."""
    wanted = sa.select(JOB).order_by(JOB.c.id.desc()).limit(limit)
    wanted = wanted if actor.has(Role.ADMIN) and actor.areas is None else wanted.where(JOB.c.by == actor.name)
    for column, value in ((JOB.c.state, state), (JOB.c.kind, kind)):
        wanted = wanted if value is None else wanted.where(column == value)
    wanted = wanted if before is None else wanted.where(JOB.c.id < before)
    return [dict(row) for row in connection.execute(wanted).mappings()]


def cancel(connection: Connection, actor: Actor, number: int, *, now_ms: int) -> None:
    """End a job: one that waits at once, one that runs as soon as its runner looks. Raises: RefusedError."""
    row = row_of(connection, actor, number, lock=True)
    if row["state"] not in ALIVE:
        raise RefusedError("conflict", f"job {number} is {row['state']} already")
    if row["outcome"] is not None:
        raise RefusedError("conflict", f"what job {number} was to do is done already")
    values: dict[str, Any] = {"cancel": True}
    if row["state"] == "queued":
        values |= {"state": "cancelled", "finished_at": now_ms}
    connection.execute(sa.update(JOB).where(JOB.c.id == number).values(values))
    audit.append(connection, actor, "job.cancel", "job", number, at=now_ms, before={"state": row["state"]})


# --- of the runner --------------------------------------------------------------------------------------------------


def claim(connection: Connection, holder: str, now_ms: int) -> dict[str, Any] | None:
    """Take the oldest job that waits, None when there is none."""
    first = sa.select(JOB).where(JOB.c.state == "queued").order_by(JOB.c.id).limit(1)
    row = connection.execute(first.with_for_update(skip_locked=True)).mappings().first()
    if row is None:
        return None
    taken = {"state": "running", "holder": holder, "started_at": now_ms, "beat_at": now_ms}
    connection.execute(sa.update(JOB).where(JOB.c.id == row["id"]).values(taken))
    return {**row, **taken}


def beat(connection: Connection, holder: str, number: int, now_ms: int, percent: int, text: str) -> bool:
    """Say that a job lives and how far it is. Returns False when it is to end: cancelled, or no longer ours."""
    mine = (JOB.c.id == number) & (JOB.c.holder == holder) & (JOB.c.state == "running")
    values = {"beat_at": now_ms, "progress": min(max(percent, 0), 99), "progress_text": text[:200]}
    done = connection.execute(sa.update(JOB).where(mine).values(values).returning(JOB.c.cancel)).scalar_one_or_none()
    return done is False


def settle(connection: Connection, facts: Mapping[str, Any], *, holder: str, number: int) -> None:
    """Write what a job came to in the transaction in which it does it: both are there, or neither.

    Raises: RefusedError when it was cancelled meanwhile, or counts as interrupted.
    """
    mine = (JOB.c.id == number) & (JOB.c.holder == holder) & (JOB.c.state == "running") & JOB.c.cancel.is_(False)
    if not connection.execute(sa.update(JOB).where(mine).values(outcome=dict(facts))).rowcount:
        raise RefusedError("conflict", f"job {number} was ended before it was done; nothing was changed")


def finish(connection: Connection, holder: str, number: int, now_ms: int, state: str, **facts: Any) -> bool:
    """Write down how a job ended. Returns False when it is no longer ours: then its result does not count."""
    mine = (JOB.c.id == number) & (JOB.c.holder == holder) & (JOB.c.state == "running")
    if state != "done" and connection.execute(sa.select(JOB.c.id).where(mine, _SETTLED)).first() is not None:
        state, facts = "done", {"expires_at": now_ms + FORGET_MS}  # its process ended behind what it did
    values = {"state": state, "finished_at": now_ms, **facts}
    if state == "done":
        values |= {"progress": 100, "progress_text": ""}
    if not connection.execute(sa.update(JOB).where(mine).values(values)).rowcount:
        return False
    after = {"state": state} | {key: facts[key] for key in ("problem", "result_sha256") if facts.get(key)}
    audit.append(connection, RUNNER, f"job.{state}", "job", number, at=now_ms, after=after)
    return True


def sweep(connection: Connection, now_ms: int, settings: JobSettings) -> list[int]:
    """Mark jobs of runners that died, and results whose time is over. Returns the jobs whose files go."""
    dead = (JOB.c.state == "running") & (JOB.c.beat_at < now_ms - round(settings.lease_s * 1000))
    done = {"state": "done", "finished_at": now_ms, "progress": 100, "progress_text": ""}
    done |= {"expires_at": now_ms + FORGET_MS}
    for number in connection.execute(sa.select(JOB.c.id).where(dead, _SETTLED)).scalars().all():
        connection.execute(sa.update(JOB).where(JOB.c.id == number).values(done))
        audit.append(connection, RUNNER, "job.done", "job", number, at=now_ms, note="its process died afterwards")
    for number in connection.execute(sa.select(JOB.c.id).where(dead)).scalars().all():
        why = f"its process gave no sign of life since {rfc3339(now_ms - round(settings.lease_s * 1000))}; ask again"
        values = {"state": "interrupted", "finished_at": now_ms, "problem": why}
        connection.execute(sa.update(JOB).where(JOB.c.id == number).values(values))
        audit.append(connection, RUNNER, "job.interrupted", "job", number, at=now_ms, note=why)
    old = (JOB.c.state == "done") & (JOB.c.expires_at <= now_ms)
    expired = list(connection.execute(sa.select(JOB.c.id).where(old)).scalars())
    if expired:
        connection.execute(sa.update(JOB).where(JOB.c.id.in_(expired)).values(state="expired"))
    gone = JOB.c.state.not_in(ALIVE) & (JOB.c.finished_at < now_ms - FORGET_MS) & (JOB.c.state != "done")
    connection.execute(sa.delete(JOB).where(gone))
    return expired
