"""A change of thresholds, a job and a shift for the small utility of `tests.api.world`: each has the id 1."""

from __future__ import annotations

from datetime import date

from sqlalchemy.engine import Connection

from anomaly import changes
from anomaly.thresholds import load_thresholds
from api.jobs import book
from api.jobs.settings import JobSettings
from registry import shifts
from registry.roles import console


def fill(connection: Connection, now: int) -> None:
    """Change 1: rest of a home, from 2026-04-01 on, proposed. Job 1: waits. Shift 1: since now, control room."""
    somebody = console("test")
    changes.propose(
        connection, somebody, thresholds=load_thresholds(), effective=date(2026, 4, 1),
        scope={"class": "residential"}, values={"zero_use.min_days": 10}, reason="holidays", now_ms=now,
    )  # fmt: skip
    book.submit(
        connection, somebody, "thresholds.backtest", {"change": 1, "t0": now - 86_400_000, "t1": now},
        title="back-test", now_ms=now, settings=JobSettings(),
    )  # fmt: skip
    shifts.begin(connection, somebody, desk="control-room", now_ms=now)
