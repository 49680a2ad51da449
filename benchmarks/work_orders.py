"""A city's work orders: planning a year of safety inspections, and opening 10,000 orders from findings.

    python -m benchmarks.work_orders [--points 1000000] [--findings 10000] [--url postgresql+psycopg://…]

Prints one JSON line each: seconds on the clock, CPU time [s] and largest memory [MB] of this process so far. The
registry is made new in a temporary folder (SQLite, on its disk, every commit synchronous) unless --url names an empty
database.
"""

from __future__ import annotations

import argparse
import json
import resource
from collections.abc import Iterator
from datetime import date
from tempfile import TemporaryDirectory

import sqlalchemy as sa

from api.orders.inspections import Cycle, districts, plan_district, working_days
from api.orders.service import Orders
from api.orders.settings import OrderSettings
from api.orders.working_days import WorkCalendar
from metering.clock import SystemClock
from registry import audit
from registry import findings as registry_findings
from registry.database import Database
from registry.findings_words import FindingFacts
from registry.models import UsagePoint

DISTRICTS = 20
BATCH = 10_000
CLASSES = ("residential",) * 18 + ("restaurant", "industrial")


def places(points: int) -> Iterator[list[dict[str, str]]]:
    """Yield rows of usage points: 90 % homes, in 20 districts of streets."""
    for start in range(0, points, BATCH):
        yield [
            {
                "id": f"UP-{n:07}",
                "medium": "gas",
                "customer_class": CLASSES[n % len(CLASSES)],
                "district": f"d{n % DISTRICTS:02}",
                "tz": "Asia/Shanghai",
                "address": f"{n % 977} Street, house {n // 977}",
                "account_number": "",
            }
            for n in range(start, min(start + BATCH, points))
        ]


def facts(count: int, points: int, now: int) -> list[FindingFacts]:
    """Findings at places all over the city: every second a leak (urgent), the others meters that stand still."""
    base = FindingFacts(
        "", "", "", "leak", "burst", "1", "critical", now - 3_600_000, now, now, None, None, "", 0,
        {"rate_per_h": 2.5, "held_per_h": 2.1}, "1", "gw-1", "bus-1",
    )  # fmt: skip
    found = []
    for n in range(count):
        place = n * (points // count)
        leak = n % 2 == 0
        found.append(
            FindingFacts(
                f"UP-{place:07}|{n}", f"UP-{place:07}", f"M-{place:07}", "leak" if leak else "stuck",
                "burst" if leak else "stuck", "1", "critical" if leak else "minor", base.started_at, now, now, None,
                None, "", 0, dict(base.evidence), "1", "gw-1", "bus-1", f"d{place % DISTRICTS:02}",
            )
        )  # fmt: skip
    return found


def report(what: str, seconds: float, **more: object) -> None:
    """Print one line."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    cpu_s = round(used.ru_utime + used.ru_stime, 1)
    figures = {"what": what, "seconds": round(seconds, 2), "cpu_s_so_far": cpu_s, "peak_mb": used.ru_maxrss // 1024}
    print(json.dumps({**figures, **more}), flush=True)


def plan(database: Database, clock: SystemClock) -> None:
    """Plan 2026 district by district, as the service does."""
    begun, longest, planned = clock.monotonic(), 0.0, 0
    days = working_days(WorkCalendar(), date(2026, 1, 1), date(2026, 12, 31))
    with database.read() as connection:
        names = districts(connection)
    for name in names:
        one = clock.monotonic()
        with database.begin() as connection:
            planned += plan_district(connection, name, 2026, days=days, cycle=Cycle())
        longest = max(longest, clock.monotonic() - one)
    report("plan a year", clock.monotonic() - begun, planned=planned, longest_transaction_s=round(longest, 2))


def opening(database: Database, count: int, points: int, clock: SystemClock) -> None:
    """Open the orders of `count` findings that came at once."""
    with database.begin() as connection:
        registry_findings.record(connection, facts(count, points, clock.now_ms()), now_ms=clock.now_ms())
    settings = OrderSettings(inspections="off", max_per_hour=100_000)
    clerk = Orders(settings, database, clock)
    begun = clock.monotonic()
    done = clerk.turn()
    report("open orders", clock.monotonic() - begun, opened=done.opened)
    begun = clock.monotonic()
    clerk.turn()
    report("look again, nothing to do", clock.monotonic() - begun)
    with database.read() as connection:
        head = audit.head(connection)
    report("audit", 0.0, rows=head.number if head else 0)


def main() -> None:
    """Run both."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--points", type=int, default=1_000_000)
    parser.add_argument("--findings", type=int, default=10_000)
    parser.add_argument("--url", default="")
    chosen = parser.parse_args()
    clock = SystemClock()
    with TemporaryDirectory() as folder:
        database = Database(chosen.url or f"sqlite:///{folder}/registry.db")
        database.upgrade()
        begun = clock.monotonic()
        with database.begin() as connection:
            for rows in places(chosen.points):
                connection.execute(sa.insert(UsagePoint), rows)
        report("fill", clock.monotonic() - begun, points=chosen.points)
        plan(database, clock)
        opening(database, chosen.findings, chosen.points, clock)
        database.close()


if __name__ == "__main__":
    main()
