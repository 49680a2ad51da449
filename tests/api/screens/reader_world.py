"""The small utility with something to say on every page: gateways in every state, doubts, jobs that failed."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from anomaly.memory import LATE_DATA
from api.jobs import book
from api.jobs.settings import JobSettings
from registry import billing, findings, ledger
from registry.database import Database
from registry.models_billing import GatewayOutage
from registry.models_jobs import Job
from registry.roles import console
from tests.api.billing_world import ends, total
from tests.api.findings_world import leak
from tests.api.screens.test_field import health
from tests.api.world import HOUR, T0, World, make_world, say_ready

NOW: Final = T0 + 24 * HOUR


def make_talkative(folder: Path, database: Database | None = None) -> World:
    """Return the world of the tests of pages, filled further. database: see `make_world`."""
    world = make_world(folder, database=database)
    with world.database.begin() as connection:
        _field(connection)
        _alarms(connection)
        _billing(connection)
        _jobs(connection)
        say_ready(connection, NOW - 1000, store="the store does not answer: no route to host")
        say_ready(connection, NOW - 600_000, instance="ingest-2")
    return world


def _field(connection: Connection) -> None:
    """gw-1 tells of its buses; gw-2 was never heard, gw-3 is silent, gw-9 left, gw-4 cannot keep rows."""
    full = {"outbox": "full", "outbox_reason": "the outbox holds 1000000 rows, its limit"}
    ledger.save_gateway_status(
        connection,
        [
            ledger.StatusRow("gw-1", online=True, state_at=NOW, health_at=NOW - 1000, health=health()),
            ledger.StatusRow("gw-3", online=True, state_at=NOW - 6 * HOUR),
            ledger.StatusRow("gw-4", online=True, state_at=NOW, health_at=NOW, health=health(**full)),
        ],
    )
    away = {"gateway": "gw-1", "from_at": T0 + HOUR, "to_at": T0 + 3 * HOUR}
    connection.execute(sa.insert(GatewayOutage).values(away))
    reading = {"meter": "G-0001", "read_at": NOW - 2 * HOUR, "values": {"volume_standard": 1_011_200_000}}
    rows = [
        ledger.QuarantineRow(
            "gw-2", f"r{reason}", NOW, reason, detail, json.dumps(reading).encode(), meter="G-0001",
            read_at=NOW - 2 * HOUR,
        )
        for reason, detail in (("foreign_meter", "this meter is at another gateway"), ("future", "a day ahead"))
    ]  # fmt: skip
    ledger.add_quarantine(connection, rows)


def _alarms(connection: Connection) -> None:
    base = leak(NOW - HOUR)
    gone = replace(base, key="UP-1:leak:x", withdrawn_at=NOW - 1000, updated_at=NOW - 1000)
    gone = replace(gone, withdrawn_why=LATE_DATA)
    again = replace(base, cleared_at=NOW - 30 * 60_000, updated_at=NOW - 30 * 60_000)
    findings.record(connection, [replace(gone, withdrawn_at=None, withdrawn_why=""), again], now_ms=NOW - 3000)
    findings.record(connection, [gone, replace(again, cleared_at=None, updated_at=NOW - 2000)], now_ms=NOW - 2000)


def _billing(connection: Connection) -> None:
    detail = "155 is more than the 100 above which a period must be read again"
    doubtful = {"state": "doubtful", "cause": "large_use", "detail": detail, "district": "south"}
    rows = [total("UP-2", version=billing.next_version(connection), **doubtful, **ends())]
    rows.append(total("UP-2", period="2026-01", version=billing.next_version(connection), **doubtful, **ends()))
    billing.save_totals(connection, rows, [])


def _jobs(connection: Connection) -> None:
    """Job 2 failed, job 3 runs."""
    for kind, args in (("billing.refresh", {"period": "2026-02"}), ("audit.verify", {})):
        book.submit(connection, console("test"), kind, args, title="2026-02", now_ms=NOW, settings=JobSettings())
    job = sa.update(Job)
    lost = "its process ended with code 3"
    connection.execute(job.where(Job.id == 2).values(state="failed", problem=lost))
    connection.execute(job.where(Job.id == 3).values(state="running", progress=3, progress_text="reading every row"))
