"""The sending side of the API: collect, tell, send, watch; one process at a time, none of it ever stops serving."""

from __future__ import annotations

import asyncio
import random
import secrets
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final, TypeVar

import sqlalchemy as sa
import structlog
from sqlalchemy.engine import Connection
from sqlalchemy.exc import SQLAlchemyError

from api.outbound import collect, lease, notify, outbox, watchdog
from api.outbound.addresses import Resolver, resolve
from api.outbound.channels import Channel, channels
from api.outbound.outbox import Outcome
from api.outbound.settings import OutboundSettings
from api.outbound.threads import aside
from metering.clock import Clock
from metering.errors import RegistryError
from registry.database import Database
from registry.ledger import save_counters
from registry.models_outbound import Webhook

T = TypeVar("T")
_PER_LANE: Final = 100
_SWEEP_S: Final = 3600.0
_LOG: Final = structlog.get_logger("outbound")


class Outbound:
    """Everything of one sending process."""

    def __init__(
        self,
        settings: OutboundSettings,
        database: Database,
        clock: Clock,
        *,
        resolver: Resolver = resolve,
        chance: random.Random | None = None,
        ways: dict[str, Channel] | None = None,
    ) -> None:
        """chance: for the jitter of retries. Raises: OSError when tls_ca cannot be read."""
        self._settings, self._database, self._clock = settings, database, clock
        self.holder = f"outbound-{secrets.token_hex(6)}"
        self._chance = chance or random.Random(secrets.randbits(64))
        self._ways = ways or channels(settings, clock, resolver)
        self._collector = collect.Collector()
        self._lanes: dict[tuple[str, int], asyncio.Task[None]] = {}
        self._pool = ThreadPoolExecutor(2, "outbound")
        self._leads = False
        self._silent: list[str] = []
        self._figures: dict[str | tuple[str, str], float] = {}
        self._beat_at = self._sweep_at = clock.monotonic()
        self._outside: asyncio.Task[None] | None = None
        self.counters = dict.fromkeys(("sent", "failed", "dead", "heartbeats", "heartbeats_failed"), 0)

    async def run(self) -> None:
        """Work until cancelled."""
        try:
            while True:
                try:
                    await self.turn()
                except (RegistryError, SQLAlchemyError) as error:
                    self._collector = collect.Collector()
                    _LOG.warning("outbound_waits", error=str(error))
                await self._clock.sleep(self._settings.look_s)
        finally:
            await self.close()

    async def turn(self) -> bool:
        """Collect, tell, and start what is to be sent; False while another process leads."""
        self._leads = await self._write(self._look)
        if not self._leads:
            self._collector = collect.Collector()
            return False
        await self._start_lanes()
        self._heartbeat()
        if self._clock.monotonic() >= self._sweep_at:
            self._sweep_at = self._clock.monotonic() + _SWEEP_S
            await self._write(
                lambda c: outbox.sweep(c, now_ms=self._clock.now_ms(), keep_days=self._settings.keep_days)
            )
        return True

    async def settled(self) -> None:
        """Wait until every attempt under way has ended."""
        await asyncio.gather(*self._lanes.values(), return_exceptions=True)

    async def close(self) -> None:
        """End attempts, give the lease back; harmless twice."""
        tasks = [*self._lanes.values(), *([self._outside] if self._outside else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._leads:
            self._leads = False
            try:
                await asyncio.shield(self._write(lambda c: lease.release(c, self.holder)))
            except (RegistryError, SQLAlchemyError) as error:
                _LOG.warning("lease_not_given_back", error=str(error))
        self._pool.shutdown(wait=False, cancel_futures=True)

    # --- one look, in one transaction ------------------------------------------------------------------------------

    def _look(self, connection: Connection) -> bool:
        now = self._clock.now_ms()
        settings = self._settings
        if not lease.hold(connection, self.holder, now_ms=now, lease_ms=round(settings.lease_s * 1000)):
            return False
        self._collector.look(connection, now)
        events, self._silent = watchdog.look(connection, now_ms=now, stale_s=settings.heartbeat_stale_s)
        collect.keep(connection, events, now_ms=now)
        notify.tell(connection, now_ms=now)
        self._save_figures(connection, now)
        return True

    def _save_figures(self, connection: Connection, now: int) -> None:
        figures: dict[str | tuple[str, str], float] = {
            f"metergate_outbound_{name}_total": float(count) for name, count in self.counters.items()
        }
        figures |= {
            f"metergate_outbound_{state}": float(count) for state, count in outbox.unfinished(connection).items()
        }
        if figures != self._figures:
            save_counters(connection, "outbound", figures, now)
            self._figures = figures

    # --- sending ---------------------------------------------------------------------------------------------------

    async def _start_lanes(self) -> None:
        self._lanes = {lane: task for lane, task in self._lanes.items() if not task.done()}
        waiting, webhooks = await self._read(self._due)
        for lane, deliveries in waiting.items():
            if lane not in self._lanes:  # one receiver, one lane: who is slow keeps only himself waiting
                work = self._serve(lane[0], deliveries, webhooks.get(lane[1]))
                self._lanes[lane] = asyncio.create_task(work)

    def _due(self, connection: Connection) -> tuple[dict[tuple[str, int], list[Any]], dict[int, Any]]:
        waiting = outbox.due(connection, self._clock.now_ms(), per_lane=_PER_LANE)
        numbers = [number for channel, number in waiting if channel == "webhook"]
        rows = connection.execute(sa.select(Webhook).where(Webhook.id.in_(numbers))).all()
        return waiting, {row.id: row for row in rows}

    async def _serve(self, channel: str, deliveries: list[Any], webhook: Any) -> None:
        for delivery in deliveries:
            outcome = await self._attempt(channel, delivery, webhook)
            if not await self._settle(delivery, outcome) or not outcome.ok:
                return  # the rest waits for the next look, which sees whether the webhook is still wanted

    async def _attempt(self, channel: str, delivery: Any, webhook: Any) -> Outcome:
        way = self._ways.get(channel)
        if way is None:
            return Outcome(False, f"there is no way out named {channel}", gone=True)
        try:
            return await way.send(delivery, webhook)
        except Exception as error:  # noqa: BLE001 (one odd delivery must not stop its lane for ever: it is retried, then dead)
            _LOG.error("delivery_failed", delivery=delivery.id, exc_info=error)
            return Outcome(False, f"fault of ours: {type(error).__name__}")

    async def _settle(self, delivery: Any, outcome: Outcome) -> bool:
        def work(connection: Connection) -> str:
            return outbox.settle(
                connection,
                delivery.id,
                outcome,
                now_ms=self._clock.now_ms(),
                settings=self._settings,
                chance=self._chance,
            )

        try:
            state = await self._write(work)
        except (RegistryError, SQLAlchemyError) as error:
            _LOG.warning("outcome_not_kept", delivery=delivery.id, error=str(error))  # it is sent again: same id
            return False
        self.counters["sent" if outcome.ok else "failed"] += 1
        self.counters["dead"] += state == outbox.DEAD
        if not outcome.ok:
            _LOG.warning("not_delivered", delivery=delivery.id, state=state, answer=outcome.answer)
        return True

    # --- the heartbeat ---------------------------------------------------------------------------------------------

    def _heartbeat(self) -> None:
        """Call the address outside while everything works; never two calls at once."""
        now = self._clock.monotonic()
        idle = self._outside is None or self._outside.done()
        if self._settings.heartbeat_url and not self._silent and idle and now >= self._beat_at:
            self._beat_at = now + self._settings.heartbeat_s
            self._outside = asyncio.create_task(self._beat())

    async def _beat(self) -> None:
        try:
            await aside(lambda: watchdog.beat(self._settings.heartbeat_url))
            self.counters["heartbeats"] += 1
        except OSError as error:
            self.counters["heartbeats_failed"] += 1
            _LOG.warning("heartbeat", error=str(error))

    # --- the registry ----------------------------------------------------------------------------------------------

    async def _write(self, work: Callable[[Connection], T]) -> T:
        def inside() -> T:
            with self._database.begin() as connection:
                return work(connection)

        return await asyncio.get_running_loop().run_in_executor(self._pool, inside)

    async def _read(self, work: Callable[[Connection], T]) -> T:
        def inside() -> T:
            with self._database.read() as connection:
                return work(connection)

        return await asyncio.get_running_loop().run_in_executor(self._pool, inside)


async def run_outbound(settings: OutboundSettings, database: Database, clock: Clock) -> None:
    """Send until cancelled; the API's background starts it."""
    if settings.enabled:
        await Outbound(settings, database, clock).run()
