"""Four findings and a maintenance window for the small utility of `tests.api.world`."""

from __future__ import annotations

from dataclasses import replace

from sqlalchemy.engine import Connection

from registry import findings, maintenance_book
from registry.findings_words import FindingFacts
from registry.roles import console

HOUR = 3_600_000
OUTAGE = "outage:gateway:gw-2:1772402400000"


def leak(now: int) -> FindingFacts:
    """A burst at G-0001 in the north, found two hours ago."""
    then = now - 2 * HOUR
    return FindingFacts(
        "UP-1:leak:burst:1",
        "UP-1",
        "G-0001",
        "leak",
        "burst",
        "1",
        "critical",
        then - HOUR,
        then,
        then,
        None,
        None,
        "",
        0,
        {"held_per_h": 4.25, "held_before_per_h": 0.6, "share_of_qmax": 0.708333},
        "2026-1",
        "gw-1",
        "tcp-1",
        "north",
    )


def fill(connection: Connection, now: int) -> None:
    """1: a leak, UNACK. 2: gw-2 is down, UNACK. 3: its meter, DSUPR. 4: high use in the south, over, RTNUN.

    Window 1: G-0001, from in an hour to in two hours.
    """
    base = leak(now)
    down = replace(
        base,
        key=OUTAGE,
        usage_point="",
        meter="",
        kind="info_outage",
        rule="outage_gateway",
        severity="major",
        gateway="gw-2",
        bus="",
    )
    silent = replace(base, key="UP-3:comms_loss:1", usage_point="UP-3", meter="E-0001", kind="comms_loss")
    silent = replace(silent, rule="comms_loss", severity="major", gateway="gw-2", bus="tcp-2", parent_key=OUTAGE)
    high = replace(base, key="UP-2:high_use:1", usage_point="UP-2", meter="W-0001", kind="high_use", severity="minor")
    high = replace(high, rule="=high_use", district="south", cleared_at=now - HOUR, updated_at=now - HOUR)
    findings.record(connection, [base, down, silent, high], now_ms=now - HOUR)
    maintenance_book.open_window(
        connection,
        console("test"),
        scope="meter",
        target="G-0001",
        from_at=now + HOUR,
        to_at=now + 2 * HOUR,
        reason="new battery",
        now_ms=now,
        longest_h=24,
    )
