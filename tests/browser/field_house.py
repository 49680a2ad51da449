"""What the pages of administration and of the field network need beside the small utility's present."""

from __future__ import annotations

import json

import msgspec
import sqlalchemy as sa

from metering.clock import SystemClock
from metering.messages import BusHealth, MeterOnBus
from registry import ledger
from registry.database import Database
from registry.models import Quarantine
from registry.models_billing import GatewayOutage
from tests.browser.house import HOUR, index_at

HARMLESS = "<script>alert(1)</script>"


def tell_of_the_field(database: Database) -> None:
    """gw-1 tells of a pair of wires with a meter in trouble, and was away for an hour and a half."""
    now = SystemClock().now_ms()
    bad = MeterOnBus("G-0001", "7", 60.0, 0.4, 300.0, 60, 50, 8, 1, 1, 0, 0, 8, now - HOUR, now - 2 * HOUR)
    good = MeterOnBus("W-0001", "8", 60.0, 0.4, 24.0, 60, 60, 0, 0, 0, 0, 0, 0, 0, now)
    bus = BusHealth("tcp-1", "serial", True, 3600.0, 0.42, 25.2, [bad, good])
    said = {"waiting": 7, "oldest_at": now - 4 * HOUR, "outbox": "ok", "counters": {}, "meters_silent": 1}
    said |= {"at": now - 9000, "heard_at": now, "version": "0.9.0", "plan": "7", "buses_at": now - 60_000}
    said |= {"buses": msgspec.to_builtins([bus])}
    status = ledger.StatusRow("gw-1", online=True, state_at=now - 6 * HOUR, health_at=now, health=said)
    with database.begin() as connection:
        ledger.save_gateway_status(connection, [status])
        away = {"gateway": "gw-1", "from_at": now - 9 * HOUR, "to_at": now - 7 * HOUR - HOUR // 2}
        connection.execute(sa.insert(GatewayOutage).values(away))


def refuse(database: Database, reason: str, age_h: int) -> int:
    """Put a whole reading of G-0001 into quarantine and return its number."""
    when = SystemClock().now_ms() // HOUR * HOUR - age_h * HOUR
    reading = {"meter": "G-0001", "read_at": when, "values": {"volume_standard": index_at(age_h)}}
    row = ledger.QuarantineRow(
        "gw-2", f"{reason}{age_h}", when, reason, HARMLESS, json.dumps(reading).encode(), meter="G-0001", read_at=when
    )
    with database.begin() as connection:
        ledger.add_quarantine(connection, [row])
        return int(connection.execute(sa.select(sa.func.max(Quarantine.id))).scalar_one())
