"""The served house with a street of households whose last period has exceptions for a clerk; today is the real day.

All of it lies in the district "west": B-1 is billed, B-2 and B-3 used more than 100 m³, B-4 fell silent five days
before its reading day. The period before is closed.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import msgspec
import sqlalchemy as sa

from api.billing.calendars import shift
from api.billing.close import close_period
from api.billing.keep import refresh
from api.billing.load import Scope
from api.billing.settings import BillingSettings
from ingest.store_sqlite import SqliteStore
from metering.clock import SystemClock
from metering.reading import Reading
from registry import office, users
from registry.database import Database
from registry.logins import set_password
from registry.models_books import OfficeRow
from registry.roles import Actor, Rank, Role, console
from registry.settings import AccessSettings
from tests.api.billing.town import add_place, deliver
from tests.api.process import Served
from tests.browser.house import PASSWORD, house

DAY: Final = 86_400_000
M: Final = 1_000_000
WEST: Final = Scope(district="west")
CLERK: Final = Actor("user:somebody", frozenset({Role.BILLING}), areas=None)
HARMLESS: Final = "2 <script>alert(1)</script> Street"


@dataclass(frozen=True)
class Town:
    """running: the API. period: the last one that is over; end: its boundary [ms UTC]. before: the closed one."""

    running: Served
    database: Database
    folder: Path
    period: str
    before: str
    end: int

    def carry(self) -> int:
        """Do what ingest does with readings of the office: store them, note closings, acknowledge. How many."""
        with self.database.read() as connection:
            waiting = office.waiting(connection, 100)
        now = SystemClock().now_ms()
        with closing(SqliteStore(self.folder / "readings.db", mode="write")) as store:
            deliver(
                self.database, store, [msgspec.structs.replace(reading, received_at=now) for _, reading in waiting]
            )
        with self.database.begin() as connection:
            numbers = [number for number, _ in waiting]
            connection.execute(
                sa.update(OfficeRow).where(OfficeRow.id.in_(numbers)).values(state=office.ACKNOWLEDGED)
            )
        return len(waiting)


@contextmanager
def billing_house(folder: Path) -> Iterator[Town]:
    """Serve it with background jobs; besides one user per role there is "lead", an approver who leads a team."""
    with house(folder, jobs=True) as (running, database):
        period, end = last_period(SystemClock().now_ms())
        fill(database, folder, period, end)
        make_lead(database)
        yield Town(running, database, folder, period, shift(period, -1), end)


def last_period(now: int) -> tuple[str, int]:
    """Return the newest period of a household that is over, and its boundary: the 20th, 00:00 UTC."""
    today = datetime.fromtimestamp(now / 1000, UTC)
    month = f"{today:%Y-%m}" if today.day >= 20 else shift(f"{today:%Y-%m}", -1)
    return month, round(datetime.fromisoformat(f"{month}-20T00:00:00+00:00").timestamp() * 1000)


def fill(database: Database, folder: Path, period: str, end: int) -> None:
    """Write a reading a day since two and a half months before; compute both periods and close the first."""
    settings, now = BillingSettings(), SystemClock().now_ms()
    start = round(datetime.fromisoformat(f"{shift(period, -1)}-20T00:00:00+00:00").timestamp() * 1000)
    store = SqliteStore(folder / "readings.db", mode="write")
    for point, a_day, until in (("B-1", 1, end), ("B-2", 5, end), ("B-3", 4, end), ("B-4", 1, end - 5 * DAY)):
        address = HARMLESS if point == "B-2" else f"{point[-1]} West Street"
        add_place(database, point, district="west", tz="UTC", interval_s=86_400, address=address)
        days = range((until - (end - 75 * DAY)) // DAY + 1)
        rows, index = [], 1000 * M
        for at in (end - 75 * DAY + number * DAY for number in days):
            rows.append(Reading(f"M-{point}", at, {"volume": index}, received_at=at + 1000))
            index += (a_day if at >= start else 1) * M
        deliver(database, store, rows)
    before = shift(period, -1)
    close_period(database, store, settings, CLERK, before, WEST, missing=0, doubtful=0, now=now)
    refresh(database, store, settings, period, WEST, now=now)
    store.close()


def make_lead(database: Database) -> None:
    """An approver with a rank."""
    now = SystemClock().now_ms()
    facts = {"display_name": "", "roles": (Role.APPROVER,), "ranks": (Rank.TEAM_LEAD,), "areas": None, "at": now}
    with database.begin() as connection:
        _, once = users.create(connection, console("test"), name="lead", **facts)  # type: ignore[arg-type]  # as above
    himself = Actor("user:lead", frozenset({Role.APPROVER}), areas=None)
    set_password(database, himself, "lead", old=once, new=PASSWORD, at=now, limits=AccessSettings())
