"""The audit as its page shows it: rows by filter, the newest check, the newest anchor."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from zoneinfo import ZoneInfo

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from anomaly.stored import city_zone
from api import paging
from api.audit_job import KIND
from api.jobs.book import JOB
from api.paging import Page
from api.problems import invalid
from registry import audit

_LONGEST_DETAIL: Final = 600


@dataclass(frozen=True, slots=True)
class Filters:
    """What the list is narrowed to, "" narrows nothing. since, until: local times as a browser sends them."""

    actor: str = ""
    action: str = ""
    object_kind: str = ""
    object_id: str = ""
    since: str = ""
    until: str = ""


def rows(connection: Connection, filters: Filters, *, limit: int, cursor: str | None) -> Page[dict[str, Any]]:
    """Return one page of rows, newest first, each with `said`: its detail in one line."""
    found = audit.records(
        connection,
        before=paging.number_key("audit", cursor),
        actor=filters.actor,
        action=filters.action,
        object_kind=filters.object_kind,
        object_id=filters.object_id,
        since=_moment(connection, "since", filters.since),
        until=_moment(connection, "until", filters.until),
        limit=limit + 1,
    )
    shown = [{**row, "said": _said(row["detail"])} for row in found]
    return paging.page_of(shown, limit, "audit", lambda row: int(row["number"]))


def _said(detail: Mapping[str, Any]) -> str:
    parts = [str(detail["note"])] if detail.get("note") else []
    before, after = detail.get("before") or {}, detail.get("after") or {}
    for name in dict.fromkeys([*before, *after]):
        was, now = (json.dumps(side[name], ensure_ascii=False) if name in side else "" for side in (before, after))
        parts.append(f"{name}: {was} → {now}" if was and now else f"{name}: {was or now}")
    text = "; ".join(parts)
    return text if len(text) <= _LONGEST_DETAIL else text[:_LONGEST_DETAIL] + " …"


def _moment(connection: Connection, name: str, text: str) -> int | None:
    """Return [ms UTC] of a local time, None for "". Raises: ProblemError 422."""
    if not text:
        return None
    try:
        local = datetime.fromisoformat(text)
        if local.tzinfo is None:
            local = local.replace(tzinfo=ZoneInfo(city_zone(connection)))
        return round(local.timestamp() * 1000)
    except (ValueError, OverflowError, OSError):
        raise invalid(name, text, "must be a local time such as 2026-03-01T08:00") from None


def newest_check(connection: Connection) -> Mapping[str, Any] | None:
    """Return the job that checked, or checks, the audit last; None when nobody ever asked."""
    wanted = sa.select(JOB).where(JOB.c.kind == KIND).order_by(JOB.c.id.desc()).limit(1)
    row = connection.execute(wanted).mappings().first()
    return None if row is None else dict(row)
