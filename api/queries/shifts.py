"""Shifts as the API shows them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy.engine import Connection

from api import paging
from api.paging import Page
from api.schemas_thresholds import ShiftDetail, ShiftOut
from api.words import moment
from metering.clock import rfc3339
from registry import shifts
from registry.roles import Actor, areas_from
from registry.shift_content import content_of

_SAME = (
    "id", "desk", "state", "districts", "on_duty", "handed_note", "taken_by", "taken_note", "version",
)  # fmt: skip


def list_shifts(
    connection: Connection, actor: Actor, *, desk: str | None, state: str | None, before: int | None, limit: int
) -> Page[ShiftOut]:
    """Return one page of shifts, newest first."""
    rows = shifts.rows(connection, actor, desk=desk, state=state, before=before, limit=limit + 1)
    return paging.page_of([ShiftOut(**_facts(row)) for row in rows], limit, "shifts", lambda shift: shift.id)


def one_shift(connection: Connection, actor: Actor, number: int, *, now_ms: int) -> ShiftDetail:
    """Return one shift with its log. Raises: RefusedError when there is none that the actor may see."""
    row = shifts.row_of(connection, actor, number)
    content = row["content"]
    if content is None:
        content = content_of(connection, row, areas_from(row["districts"]), now_ms)
    intact = not row["sha256"] or shifts.digest_of(content) == row["sha256"]
    return ShiftDetail(**_facts(row), content=content, sha256=row["sha256"], intact=intact)


def _facts(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        **{name: row[name] for name in _SAME},
        "started_at": rfc3339(row["started_at"]),
        "previous": row["previous_id"],
        "handed_at": moment(row["handed_at"]),
        "taken_at": moment(row["taken_at"]),
    }
