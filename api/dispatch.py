"""Bring commands to their gateways and their results into the books; order the monthly set-clock.

What waits is published once its gateway is connected, and then marked as sent: a crash between publishes it again,
which its nonce makes harmless. Results are events that ingest wrote; they are looked up, never listened to.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final, TypeVar
from zoneinfo import ZoneInfo

import structlog
from sqlalchemy.exc import SQLAlchemyError

from api.command_office import CommandOffice
from metering.clock import Clock
from metering.errors import BrokerError, RegistryError
from metering.messages import topic
from metering.mqtt import MqttSession
from metering.signing import new_nonce
from registry import clock_orders, commands
from registry.database import Database
from registry.roles import service

_PLAN_EVERY_S: Final = 30.0
"""Between two looks at the calendar, and for results of commands that expired."""
_CLOCK_DEADLINE_S: Final = 20 * 3600
"""A gateway without a link gets its monthly set-clock when it returns within this time."""
_ACTOR: Final = service("dispatch")
_log = structlog.get_logger(__name__)
T = TypeVar("T")


class Dispatcher:
    """See the module. `run` until cancelled."""

    def __init__(self, office: CommandOffice, database: Database, clock: Clock) -> None:
        self.counters = dict.fromkeys(("commands_published", "commands_closed", "set_clocks_ordered"), 0)
        self._office = office
        self._database = database
        self._clock = clock
        # two API processes may serve one office: each has a name of its own at the broker
        self._session = MqttSession(office.broker, client_id=f"mg-api-{secrets.token_hex(4)}", clock=clock)
        self._planned_at = -_PLAN_EVERY_S

    async def run(self) -> None:
        """Work until cancelled; a registry or broker that is away is asked again."""
        link = asyncio.ensure_future(self._session.run())
        try:
            while True:
                try:
                    await self.tick()
                except (RegistryError, SQLAlchemyError, BrokerError) as error:
                    _log.warning("commands wait", why=str(error))
                await self._clock.sleep(self._office.settings.dispatch_interval_s)
        finally:
            link.cancel()
            await asyncio.gather(link, return_exceptions=True)

    async def tick(self) -> None:
        """Do what is due now. Raises: RegistryError, SQLAlchemyError, BrokerError."""
        now = self._clock.now_ms()
        late = self._clock.monotonic() - self._planned_at >= _PLAN_EVERY_S
        if late:
            self._planned_at = self._clock.monotonic()
            if self._is_clock_day(now):
                await self._write(lambda c: self.order_set_clocks(c, now))
        changes = await self._read(lambda c: commands.unsettled(c, now, late=late))
        if changes:
            await self._write(lambda c: commands.settle(c, changes))
            self.counters["commands_closed"] += len(changes)
        if self._session.connected:
            await self._publish(now)

    async def _publish(self, now: int) -> None:
        for row in await self._read(lambda c: commands.to_send(c, now)):
            await self._session.publish(topic(row["gateway_id"], "cmd"), row["payload"].encode())
            nonce = row["nonce"]
            await self._write(lambda c, nonce=nonce: commands.sent(c, [nonce]))  # type: ignore[misc]  # its default
            self.counters["commands_published"] += 1

    def order_set_clocks(self, connection: Any, now: int) -> None:
        """Order this month's set-clock for every gateway whose moment has come."""
        settings = self._office.settings
        local = self._local(now)
        month, gateways = local.strftime("%Y-%m"), clock_orders.gateways(connection)
        since_h = local.hour + local.minute / 60 - settings.set_clock_hour
        for place, gateway in enumerate(gateways):
            due = since_h >= settings.set_clock_spread_h * place / len(gateways)
            if not due or clock_orders.was_ordered(connection, gateway, month):
                continue
            for offset, meters in clock_orders.clocks_of(connection, gateway, self._office.takes_time, at=now):
                args = {"meters": meters, "utc_offset_s": offset}
                wanted = commands.Order(gateway, "set-clock", args, new_nonce(), deadline_s=_CLOCK_DEADLINE_S)
                commands.order(connection, _ACTOR, self._office.key, wanted, at=now)
                self.counters["set_clocks_ordered"] += 1
            clock_orders.note_ordered(connection, gateway, month)

    def _is_clock_day(self, now: int) -> bool:
        local = self._local(now)
        return (
            local.day in self._office.settings.set_clock_days and local.hour >= self._office.settings.set_clock_hour
        )

    def _local(self, now: int) -> datetime:
        return datetime.fromtimestamp(now / 1000, UTC).astimezone(ZoneInfo(self._office.settings.set_clock_tz))

    async def _read(self, work: Callable[[Any], T]) -> T:
        def inside() -> T:
            with self._database.read() as connection:
                return work(connection)

        return await asyncio.get_running_loop().run_in_executor(None, inside)

    async def _write(self, work: Callable[[Any], T]) -> T:
        def inside() -> T:
            with self._database.begin() as connection:
                return work(connection)

        return await asyncio.get_running_loop().run_in_executor(None, inside)
