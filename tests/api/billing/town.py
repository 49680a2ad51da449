"""A small town for billing tests: a registry and a store filled the way ingest would, with closings."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import sqlalchemy as sa

from ingest.meters import MeterTable
from metering.clock import parse_rfc3339
from metering.reading import Reading
from metering.store import ReadingStore
from registry import ledger
from registry.database import Database
from registry.ledger import MeterFacts
from registry.models import Gateway, Installation, Meter, UsagePoint

ZONE = "Asia/Shanghai"
HOUR = 3_600_000
DAY = 24 * HOUR
M = 1_000_000


def at(text: str) -> int:
    """[ms UTC] of a local time such as 2026-03-20T00:00."""
    return parse_rfc3339(f"{text}:00+08:00")


def days(first: str, last: str) -> list[int]:
    """[ms UTC] local midnights of dates, both included."""
    begin, end = (datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(ZONE)) for text in (first, last))
    return [round((begin + timedelta(days=n)).timestamp() * 1000) for n in range((end - begin).days + 1)]


def add_place(database: Database, point: str, *, meter: str = "", gateway: str = "gw-1", **more: Any) -> None:
    """A usage point of a household with one G4 gas meter; `more` changes its facts."""
    meter = meter or f"M-{point}"
    facts: dict[str, Any] = {"quantity": "volume", "index_digits": 5, "resolution": 10_000, "qmax": 6 * M}
    facts |= {"state": "in_service", "interval_s": 3600, "medium": "gas"}
    place: dict[str, Any] = {
        "medium": "gas",
        "customer_class": "residential",
        "tz": ZONE,
        "account_number": f"A-{point}",
    }
    stay: dict[str, Any] = {"installed_at": 0, "removed_at": None, "start_index": None, "final_index": None}
    for name, value in more.items():
        next(group for group in (stay, facts, place) if name in group or group is place)[name] = value
    with database.begin() as connection:
        if connection.execute(sa.select(Gateway.id).where(Gateway.id == gateway)).first() is None:
            connection.execute(sa.insert(Gateway).values(id=gateway))
        connection.execute(sa.insert(UsagePoint).values(id=point, **place))
        connection.execute(sa.insert(Meter).values(id=meter, gateway_id=gateway, **facts))
        connection.execute(sa.insert(Installation).values(meter_id=meter, usage_point_id=point, **stay))


def readings(
    meter: str, start: int, indexes: Iterable[int | None], *, step: int = HOUR, **more: Any
) -> list[Reading]:
    """Readings each `step`; None: not read."""
    return [
        Reading(meter, start + n * step, {"volume": index}, received_at=start + n * step, **more)
        for n, index in enumerate(indexes)
        if index is not None
    ]


def deliver(database: Database, store: ReadingStore, rows: Sequence[Reading], batch: int = 1000) -> None:
    """Store readings in the order given and note latest and closings with ingest's own table."""
    with database.read() as connection:
        facts: dict[str, MeterFacts] = ledger.load_meters(connection)
    table = MeterTable()
    for meter in table.set_facts(facts):
        table.add(meter, facts[meter], None)
    for start in range(0, len(rows), batch):
        part = rows[start : start + batch]
        assert not any(store.write(part))
        table.note(part)
        changes = table.take()
        with database.begin() as connection:
            ledger.save_latest(connection, changes.latest)
            ledger.replace_latest(connection, changes.replaced)
            ledger.save_closings(connection, changes.closings)


def household(rng: random.Random, hours: int, start: int = 1000 * M, most: int = 40) -> list[int]:
    """Hourly indexes of a household: up to `most` counts of 0.01 m³ an hour."""
    index, found = start, []
    for _ in range(hours):
        index += rng.randrange(most) * 10_000 if rng.random() < 0.3 else 0
        found.append(index % (100_000 * M))
    return found
