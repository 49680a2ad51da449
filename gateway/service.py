"""The gateway: poll by the plan, keep every reading on this disk, hand it on until ingest has it."""

from __future__ import annotations

import asyncio
import os
import random
import secrets
from collections import defaultdict
from collections.abc import Callable, Mapping
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import structlog

from gateway.bus_report import ReportWriter
from gateway.command_actions import Actions
from gateway.commands import Action, Commands
from gateway.drivers.mqtt_memory import MqttMemory
from gateway.drivers.mqtt_meters import MqttMeters
from gateway.links import LinkMaker, make_link
from gateway.meter_poll import Backoff
from gateway.nonces import Nonces
from gateway.office_report import OfficeReport
from gateway.outbox import Outbox
from gateway.outbox_file import OutboxFile
from gateway.plan import Plan
from gateway.plan_intake import PlanIntake
from gateway.poller import Poller
from gateway.refusals import Refusals
from gateway.send_ledger import SendLedger
from gateway.settings import FieldBrokerSettings, GatewaySettings
from gateway.stamps import MeterStamps
from gateway.tap import ORDER_FILE, Tap
from gateway.tap_command import TapAction
from gateway.uplink import Uplink
from metering.clock import Clock
from metering.messages import VERSION, Health, encode
from metering.mqtt import BrokerSettings
from metering.reading import Event
from metering.signing import load_verifier

_log = structlog.get_logger(__name__)


class Gateway:
    """All parts of one gateway. `run` until cancelled; it ends within two seconds."""

    def __init__(
        self,
        settings: GatewaySettings,
        plan: Plan,
        *,
        broker: BrokerSettings,
        clock: Clock,
        rng: random.Random,
        field_broker: FieldBrokerSettings | None = None,
        link: LinkMaker = make_link,
        outbox_file: Callable[..., OutboxFile] = OutboxFile,
    ) -> None:
        """link, outbox_file: what makes the link behind a bus, and what keeps the rows on disk."""
        self.settings = settings
        self.plan = plan
        self._broker = broker
        self._clock = clock
        self._rng = rng
        self._version = _our_version()
        self._buses = ReportWriter(plan.gateway, settings.outbox.parent / "buses.json", clock)
        self.outbox = Outbox(
            settings.outbox,
            gateway=plan.gateway,
            clock=clock,
            rng=rng,
            memory_rows=settings.memory_rows,
            commit_interval_s=settings.commit_interval_s,
            file=outbox_file,
        )
        self.ledger = SendLedger(
            rng,
            window=settings.window_messages,
            ack_timeout_s=settings.ack_timeout_s,
            backlog_rows_s=settings.backlog_rows_s,
            gather_s=settings.gather_s,
        )
        self.poller = Poller(
            plan,
            clock=clock,
            rng=rng,
            backoff=Backoff(settings.retry_first_s, settings.retry_last_s, settings.silent_share),
            put=self.outbox.put,
            pressure=lambda: self.outbox.pressure,
            look_s=settings.look_s,
            link=link,
        )
        self._field_broker = field_broker or FieldBrokerSettings()
        self.pushed = self._make_pushed() if plan.mqtt else None
        self._pushed_changed = asyncio.Event()
        self.uplink: Uplink | None = None
        self._office = OfficeReport(clock)
        self.refusals = Refusals(clock, self.outbox.put)
        self.tap = Tap(
            settings.tap.model_copy(update={"folder": settings.outbox.parent / settings.tap.folder}),
            plan.gateway, clock=clock, buses=lambda: self.poller.buses.values(),
            pushed=lambda: self.pushed, publish=self._publish_tap, orders=settings.outbox.parent / ORDER_FILE,
            program=f"metergate {self._version}", look_s=max(1.0, settings.look_s),
        )  # fmt: skip
        self.commands, self.intake = self._make_inboxes()

    async def run(self) -> None:
        """Open the outbox, then poll, send and report. Raises: OutboxTaken when the outbox is not ours to use."""
        await self.outbox.open()
        try:
            self.outbox.put(
                Event(kind="gateway_started", at=self._clock.now_ms(), cause="start", text=self._started())
            )
            self.uplink = Uplink(
                self.outbox,
                self.ledger,
                self._broker,
                clock=self._clock,
                version=self._version,
                health=self._told_health,
                health_interval_s=self.settings.health_interval_s,
                on_event=self.outbox.put,
                inboxes={"cmd": self.commands.receive, "plan": self.intake.receive},
            )
            async with asyncio.TaskGroup() as tasks:
                for job in (
                    self.poller.run(), self.commands.run(), self.intake.run(), self.uplink.run(),
                    self._write_health(), self._listen_to_pushed(), self.tap.run(),
                ):  # fmt: skip
                    tasks.create_task(job)
        finally:
            await self.outbox.close()
            self._save(self.health())

    def renew_logins(self) -> None:
        """Look at the brokers' logins again, also at those that a broker refused before."""
        for part in (self.uplink, self.pushed):
            if part is not None:
                part.session.renew_login()

    def health(self) -> Health:
        """Return how this gateway is."""
        outbox = self.outbox
        return Health(
            v=VERSION,
            gateway=self.plan.gateway,
            epoch=outbox.epoch,
            at=self._clock.now_ms(),
            produced=outbox.produced,
            acknowledged=outbox.oldest - 1,
            waiting=outbox.held.count,
            in_memory=outbox.in_memory,
            oldest_at=outbox.oldest_at,
            outbox=outbox.state,
            outbox_reason=outbox.reason,
            meters=self._meters(),
            meters_silent=self.poller.meters_silent + (self.pushed.meters_silent if self.pushed else 0),
            counters=self._counters(),
            version=self._version[:64],
            plan=str(self.plan.version)[:64],
        )

    def _told_health(self) -> Health:
        """The same for the office, now and then with the buses."""
        return self._office.add(self.health(), self.poller.buses.values(), self.plan)

    def _counters(self) -> dict[str, int]:
        link: Mapping[str, int] = {}
        if self.uplink is not None:
            link = {**self.uplink.counters, **{f"mqtt_{k}": n for k, n in self.uplink.session.counters.items()}}
        outbox = {f"outbox_{name}": number for name, number in self.outbox.counters.items()}
        pushed = self.pushed.counters if self.pushed is not None else {}
        asked = {**self.commands.counters, **self.intake.counters, **self.refusals.counters, **self.tap.counters}
        return {**self.poller.counters, **outbox, **self.ledger.counters, **asked, **link, **pushed}

    def adopt(self, plan: Plan) -> None:
        """Go on by another plan of this gateway."""
        pushed_before, self.plan = self.plan.mqtt, plan
        self.poller.adopt(plan)
        if plan.mqtt != pushed_before:
            self._pushed_changed.set()

    async def _listen_to_pushed(self) -> None:
        """Hear the MQTT meters of the plan; a plan that changes them begins a new session."""
        while True:
            self._pushed_changed.clear()
            hearing = asyncio.ensure_future(self.pushed.run()) if self.pushed is not None else None
            changed = asyncio.ensure_future(self._pushed_changed.wait())
            try:
                await asyncio.wait({changed} | ({hearing} if hearing else set()), return_when=asyncio.FIRST_COMPLETED)
                if hearing is not None and hearing.done():
                    await hearing
            finally:
                changed.cancel()
                if hearing is not None:
                    hearing.cancel()
                    await asyncio.gather(hearing, return_exceptions=True)
            self.pushed = self._make_pushed() if self.plan.mqtt else None

    def _make_inboxes(self) -> tuple[Commands, PlanIntake]:
        verifier = load_verifier(self.settings.office_keys)
        if not verifier:
            _log.info("gateway.office_keys is empty: commands and plans by broker are refused")
        actions = Actions(
            self.poller, self._clock, lambda: (meter.meter for bus in self.plan.mqtt for meter in bus.meters.values())
        )
        by_name: dict[str, Action] = {**actions.by_name(), "tap": TapAction(self.tap, self._clock)}
        nonces = Nonces(self.settings.outbox.parent / "commands.db")
        commands = Commands(
            self.plan.gateway, verifier, nonces, clock=self._clock, actions=by_name,
            append=self.outbox.append, refusals=self.refusals, settle_s=max(5.0, self.settings.look_s),
        )  # fmt: skip
        intake = PlanIntake(
            self.settings, verifier, clock=self._clock, current=lambda: self.plan, adopt=self.adopt,
            tell=self.outbox.put, refusals=self.refusals,
        )  # fmt: skip
        return commands, intake

    def _publish_tap(self, lines: bytes) -> bool:
        """Send lines of the tap, QoS 0: what the broker cannot take now is counted by the tap as dropped."""
        if self.uplink is None or not self.uplink.session.connected:
            return False
        self.uplink.send_tap(lines)
        return True

    def _make_pushed(self) -> MqttMeters:
        broker = self._field_broker
        stamps: defaultdict[str, MeterStamps] = defaultdict(MeterStamps)
        return MqttMeters(
            self.plan.mqtt,
            broker,
            client_id=broker.client_id or f"metergate-{self.plan.gateway}",
            receive_maximum=broker.receive_maximum,
            session_expiry_s=broker.session_expiry_s,
            clock=self._clock,
            memory=MqttMemory(self.settings.outbox.parent / "mqtt-memory.db", self._clock),
            stamp=lambda meter, now: stamps[meter].stamp(now)[0],
            keep=self.outbox.append,
            look_s=max(1.0, self.settings.look_s),
        )

    def _meters(self) -> int:
        return len(self.plan.meters) + (self.pushed.meters if self.pushed is not None else 0)

    def _started(self) -> str:
        return f"metergate {self._version}, plan {self.plan.version} with {self._meters()} meters"

    async def _write_health(self) -> None:
        while True:
            self._save(self.health())
            await self._clock.sleep(self.settings.health_interval_s)

    def _save(self, health: Health) -> None:
        """Write health.json beside the outbox in one piece; a disk that refuses is told by the report itself."""
        path = health_path(self.settings)
        fresh = path.with_suffix(".new")
        with suppress(OSError):
            fresh.write_bytes(encode(health))
            os.replace(fresh, path)
        self._buses.save(self.poller.buses.values())


def health_path(settings: GatewaySettings) -> Path:
    """Return where the gateway writes how it is, for operators and for a demo without a broker."""
    return settings.outbox.parent / "health.json"


async def run_gateway(
    settings: GatewaySettings,
    plan: Plan,
    *,
    broker: BrokerSettings,
    clock: Clock,
    stop: asyncio.Event,
    rng: random.Random | None = None,
    field_broker: FieldBrokerSettings | None = None,
    hangup: asyncio.Event | None = None,
) -> None:
    """Run a gateway until `stop` is set. rng: all its chance (back-off, names of epochs); from the system when None.

    field_broker: where MQTT meters send; only needed when the plan has any.
    hangup: set (and cleared here) whenever the brokers' logins are to be looked at again.

    Raises: OutboxTaken.
    """
    chance = rng or random.Random(secrets.randbits(64))
    gateway = Gateway(settings, plan, broker=broker, field_broker=field_broker, clock=clock, rng=chance)
    work = asyncio.ensure_future(gateway.run())
    stopped = asyncio.ensure_future(stop.wait())
    renewing = asyncio.ensure_future(_renew_logins(gateway, hangup or asyncio.Event()))
    try:
        await asyncio.wait({work, stopped}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        stopped.cancel()
        renewing.cancel()
        work.cancel()
        with suppress(asyncio.CancelledError):
            await work
    _log.info("gateway ended", gateway=plan.gateway, waiting=gateway.outbox.held.count)


async def _renew_logins(gateway: Gateway, hangup: asyncio.Event) -> None:
    while True:
        await hangup.wait()
        hangup.clear()
        gateway.renew_logins()


def _our_version() -> str:
    try:
        return version("metergate")
    except PackageNotFoundError:
        return "0"
