"""Background jobs as the API shows them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy.engine import Connection

from api import paging
from api.jobs import book
from api.paging import Page
from api.schemas_thresholds import JobOut
from api.words import moment
from metering.clock import rfc3339
from registry.roles import Actor

_SAME = (
    "id", "kind", "title", "state", "by", "progress", "progress_text", "outcome", "problem", "result_name",
    "result_type", "result_bytes", "result_sha256",
)  # fmt: skip


def list_jobs(
    connection: Connection, actor: Actor, *, state: str | None, kind: str | None, before: int | None, limit: int
) -> Page[JobOut]:
    """Return one page of the jobs that the actor may see, newest first."""
    rows = book.rows(connection, actor, state=state, kind=kind, before=before, limit=limit + 1)
    return paging.page_of([job_out(row) for row in rows], limit, "jobs", lambda job: job.id)


def job_out(row: Mapping[str, Any]) -> JobOut:
    """Return a row as the API shows it."""
    return JobOut(
        **{name: row[name] for name in _SAME},
        created_at=rfc3339(row["created_at"]),
        started_at=moment(row["started_at"]),
        finished_at=moment(row["finished_at"]),
        cancel_asked=row["cancel"],
        expires_at=moment(row["expires_at"]),
    )
