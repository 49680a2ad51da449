"""Work orders at work: a task of the API that opens, plans and escalates by itself, in short turns.

Every turn looks at the database first and takes the writing lock only when there is something to do; between two
turns it waits at least ten times as long as the turn took. Several processes may run it: on PostgreSQL one at a time
holds an advisory lock, on SQLite writers queue, and every deed is one that repeats harmlessly.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from functools import partial
from typing import Any, Final, TypeVar
from zoneinfo import ZoneInfo

import sqlalchemy as sa
import structlog
from sqlalchemy.engine import Connection
from sqlalchemy.exc import SQLAlchemyError

from api.orders import escalation, follow_up, inspections, opening
from api.orders.policy import Policy, load_policy
from api.orders.settings import OrderSettings
from metering.clock import Clock
from metering.errors import RegistryError
from registry.database import Database
from registry.ledger import get_state, set_state
from registry.models_work_orders import InspectionPlan

_LOG: Final = structlog.get_logger("orders")
_LOCK: Final = 0x4D474F52  # one process at a time opens and plans; any number that nobody else takes
_PER_TURN: Final = 200
_REST: Final = 10
_CALLS_KEY: Final = "orders.calls_planned"
_YEAR_KEY: Final = "orders.year_planned"
_LONGEST_CATCH_UP: Final = timedelta(days=31)
T = TypeVar("T")


@dataclass(slots=True)
class Turn:
    """What one turn did."""

    opened: int = 0
    joined: int = 0
    cancelled: int = 0
    held_back: int = 0
    escalated: int = 0
    inspections: int = 0
    calls: int = 0
    planned: int = 0

    @property
    def idle(self) -> bool:
        """True when nothing was done; what is held back waits for its hour."""
        return not any((self.opened, self.joined, self.cancelled, self.escalated))


@dataclass
class Orders:
    """The orders' own clerk over one registry."""

    settings: OrderSettings
    database: Database
    clock: Clock
    policy: Policy = field(init=False)

    def __post_init__(self) -> None:
        self.policy = load_policy(self.settings.policy)
        self._calendar = self.settings.calendar()
        self._zone = ZoneInfo(self.settings.tz)

    def today(self) -> date:
        """Return the local day."""
        return datetime.fromtimestamp(self.clock.now_ms() / 1000, UTC).astimezone(self._zone).date()

    def turn(self) -> Turn:
        """Do everything that is to be done now."""
        done = Turn()
        self._open(done)
        self._escalate(done)
        self._days(done)
        return done

    def _open(self, done: Turn) -> None:
        """Look through all findings that wait, some at a time: nobody else waits long for the database."""
        with self.database.read() as connection:
            if not opening.has_work(connection, self.policy):
                return
        after: tuple[int, int] | None = None
        while True:
            seen = self._write(partial(self._look, after=after))
            if seen is None:
                return
            done.opened += len(seen.opened)
            done.joined += seen.joined
            done.cancelled += len(seen.cancelled)
            done.held_back += seen.held_back
            after = seen.last
            if after is None:
                return

    def _look(self, connection: Connection, after: tuple[int, int] | None) -> opening.Look:
        return opening.look(
            connection,
            self.policy,
            now_ms=self.clock.now_ms(),
            calendar=self._calendar,
            max_per_hour=self.settings.max_per_hour,
            most=_PER_TURN,
            after=after,
        )

    def _escalate(self, done: Turn) -> None:
        now, warn = self.clock.now_ms(), int(self.settings.warn_before_h * 3_600_000)
        with self.database.read() as connection:
            if not escalation.waiting(connection, now_ms=now, warn_before_ms=warn):
                return
        told = self._write(partial(escalation.escalate, now_ms=now, warn_before_ms=warn))
        done.escalated += len(told or ())

    # --- once a day ------------------------------------------------------------------------------------------------

    def _days(self, done: Turn) -> None:
        """What a day brings: yesterday's calls are drawn, this year is planned, today's inspections are opened."""
        today = self.today()
        with self.database.read() as connection:
            calls = self._calls_from(connection, today)
            year = self._year_is_planned(connection, today)
            planned_orders = self._has_planned(connection, today)
        if calls <= today - timedelta(days=1):
            done.calls += self._write(lambda c: self._plan_calls(c, calls, today)) or 0
        if self.settings.inspections == "off":
            return
        if not year:
            done.planned += self._plan_year(today)
            planned_orders = True
        if planned_orders:
            done.inspections += self._write(lambda c: self._open_planned(c, today)) or 0

    def _calls_from(self, connection: Connection, today: date) -> date:
        """The first day whose calls are not drawn yet; a house that was down catches up with a month of them."""
        known = get_state(connection, _CALLS_KEY)
        if known is None:
            return today - timedelta(days=1)
        return max(date.fromisoformat(known) + timedelta(days=1), today - _LONGEST_CATCH_UP)

    def _plan_calls(self, connection: Connection, first: date, today: date) -> int:
        drawn, day, now = 0, first, self.clock.now_ms()
        while day < today:
            drawn += len(
                follow_up.plan_day(connection, day, tz=self.settings.tz, share=self.settings.share(), now_ms=now)
            )
            day += timedelta(days=1)
        set_state(connection, _CALLS_KEY, (today - timedelta(days=1)).isoformat())
        return drawn

    def _year_is_planned(self, connection: Connection, today: date) -> bool:
        return get_state(connection, _YEAR_KEY) == _month(today)

    def _plan_year(self, today: date) -> int:
        """Plan what is left of the year, and each month the places that are new; district by district."""
        last, made = date(today.year, 12, 31), 0
        if any(self._calendar.is_worked(today + timedelta(days=n)) for n in range((last - today).days + 1)):
            days = inspections.working_days(self._calendar, today, last)
            with self.database.read() as connection:
                names = inspections.districts(connection)
            for name in names:
                plan = partial(
                    inspections.plan_district, district=name, year=today.year, days=days, cycle=self.settings.cycle()
                )
                planned = self._write(plan)
                if planned is None:
                    return made
                made += planned
        self._write(lambda c: set_state(c, _YEAR_KEY, _month(today)))
        return made

    def _has_planned(self, connection: Connection, today: date) -> bool:
        due = sa.select(InspectionPlan.id).where(
            InspectionPlan.order_id.is_(None), InspectionPlan.day <= today.isoformat()
        )
        return connection.execute(due.limit(1)).first() is not None

    def _open_planned(self, connection: Connection, today: date) -> int:
        return len(
            inspections.open_planned(
                connection,
                today,
                now_ms=self.clock.now_ms(),
                calendar=self._calendar,
                tz=self.settings.tz,
                limit=_PER_TURN,
            )
        )

    def _write(self, work: Callable[[Connection], T]) -> T | None:
        """Run `work` in a writing transaction; None when another process is at it (PostgreSQL)."""
        with self.database.begin() as connection:
            if not self.database.is_sqlite:
                mine: Any = connection.execute(sa.select(sa.func.pg_try_advisory_xact_lock(_LOCK))).scalar()
                if not mine:
                    return None
            return work(connection)


async def run_orders(settings: OrderSettings, database: Database, clock: Clock) -> None:
    """Work until cancelled; what fails is logged and tried again at the next turn.

    Raises: SettingsError for a policy that cannot be used, before anything is done.
    """
    orders = Orders(settings, database, clock)
    while True:
        begun = clock.monotonic()
        try:
            done = await asyncio.to_thread(orders.turn)
        except (RegistryError, SQLAlchemyError, ValueError) as error:
            _LOG.warning("orders_turn_failed", error=str(error))
        else:
            if not done.idle or done.planned or done.calls or done.inspections:
                _LOG.info(
                    "orders", opened=done.opened, joined=done.joined, cancelled=done.cancelled,
                    held_back=done.held_back, escalated=done.escalated, inspections=done.inspections,
                    calls=done.calls, planned=done.planned,
                )  # fmt: skip
        await clock.sleep(max(settings.sweep_interval_s, _REST * (clock.monotonic() - begun)))


def _month(day: date) -> str:
    return f"{day:%Y-%m}"
