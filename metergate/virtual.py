"""The virtual house: simulated meters, gateways, broker, ingest, rules and work orders in one process on one clock.

The services are the ones that run in the field, built from the same settings; only the clock, and where the scenario
says so the broker, are given to them. With `SystemClock` the same house runs in real time.
"""

from __future__ import annotations

import asyncio
import csv
import io
import random
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Final

from anomaly.service import AnomalyService
from anomaly.settings import AnomalySettings
from api.orders.service import Orders
from api.orders.settings import OrderSettings
from gateway.plan import parse_plan
from gateway.profile import Profile
from gateway.profiles import load_profiles
from gateway.service import Gateway
from gateway.settings import GatewaySettings
from ingest.service import IngestService
from ingest.settings import IngestSettings
from ingest.store_sqlite import SqliteStore
from metergate.commands.books import make_plan
from metergate.memory_broker import MemoryBroker
from metergate.virtual_script import Script
from metering.broker_settings import BrokerSettings
from metering.clock import Clock
from metering.errors import MetergateError
from registry.books import import_meters
from registry.database import Database
from registry.roles import service
from simulators.farm_settings import FarmSettings, MeterSettings, PortSettings
from simulators.modbus_farm import Farm
from simulators.scenario import Scenario
from simulators.scenario_events import BUS_KINDS, HOUSE_KINDS, LINE_KINDS, LINK_KINDS
from simulators.scenario_fleet import SimMeter, make_meters

_RARELY_S: Final = 3_600.0
_ORDERS_S: Final = 600.0
_DRAIN_S: Final = 86_400.0
"""Longest virtual time for which the end waits until all that was read is stored."""
_LOOK_S: Final = 5.0


@dataclass(slots=True)
class Frames:
    """What went over the wire. planned: requests that the plan asks for. sent: by gateways. seen: by meters."""

    planned: int = 0
    polls: int = 0
    sent: int = 0
    seen: int = 0


@dataclass
class VirtualHouse:
    """All parts of one run, in `folder`. `run` plays the scenario to its end; what is left are files.

    gateways: by name; one that is switched off by the script is missing meanwhile.
    """

    scenario: Scenario
    folder: Path
    clock: Clock
    meters: list[SimMeter] = field(init=False)
    frames: Frames = field(default_factory=Frames)
    gateways: dict[str, Gateway] = field(default_factory=dict)
    orders_opened: int = 0
    planned: Counter[str] = field(default_factory=Counter)
    """Requests that the plan asks of each meter."""

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        if (self.folder / "registry.db").exists():
            raise MetergateError(f"{self.folder} holds a run already; name another folder")
        self.profiles: dict[str, Profile] = load_profiles()
        digits = {name: profile.index_digits or 8 for name, profile in self.profiles.items()}
        self.meters = make_meters(self.scenario, digits)
        self.memory_broker = MemoryBroker()
        self.broker: BrokerSettings = self.memory_broker.settings
        self.farm = Farm(
            self._farm_settings(), self.clock, profiles=self.profiles, flush_s=_RARELY_S,
            curves={meter.name: meter.curve for meter in self.meters},
        )  # fmt: skip
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._ended: list[Frames] = []
        self._end_s = float("inf")

    @property
    def registry_url(self) -> str:
        """The registry."""
        return f"sqlite:///{self.folder / 'registry.db'}"

    @property
    def store_path(self) -> Path:
        """The reading store."""
        return self.folder / "readings.db"

    @property
    def answers(self) -> Path:
        """What the meters said."""
        return self.folder / "answers.tsv"

    @contextmanager
    def registry(self) -> Iterator[Database]:
        """The registry, opened and closed."""
        with closing(Database(self.registry_url)) as database:
            yield database

    async def run(self, watch: Callable[[VirtualHouse], None] | None = None, watch_s: float = 86_400.0) -> None:
        """Play the whole scenario, then let everything that was read reach the store. watch: called each watch_s."""
        self._end_s = self.clock.monotonic() + (self.scenario.end_ms - self.clock.now_ms()) / 1000
        await self.farm.start()
        self._fill_books()
        with self.registry() as database:
            try:
                self._start("orders", partial(self._clerk, database))
                for part in ("ingest", "anomaly", *self._gateway_names()):
                    self.switch_on(part)
                if watch is not None:
                    self._start("watch", partial(self._watch, watch, watch_s))
                await self._play()
                await self._drain()
            finally:
                await self._end()

    # --- parts that come and go ------------------------------------------------------------------------------------

    def switch_on(self, part: str) -> None:
        """Start "ingest", "anomaly", "broker" or a gateway by name."""
        if part == "broker":
            self.memory_broker.start()
        elif part == "ingest":
            self._start(part, self._ingest)
        elif part == "anomaly":
            self._start(part, self._anomaly)
        else:
            self._start(part, partial(self._gateway, part))

    async def switch_off(self, part: str) -> None:
        """End a part, as SIGTERM does; the broker loses its links."""
        if part == "broker":
            self.memory_broker.stop()
            return
        task = self._tasks.pop(part)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task

    def _start(self, name: str, work: Callable[[], object]) -> None:
        made = work()
        if not asyncio.iscoroutine(made):
            raise TypeError(name)
        self._tasks[name] = asyncio.get_running_loop().create_task(made, name=name)

    async def _ingest(self) -> None:
        settings = IngestSettings(flush_s=max(1.0, self.scenario.gather_s), report_s=_RARELY_S, reload_s=_RARELY_S)
        with self.registry() as database:
            store = SqliteStore(self.store_path, mode="write")
            await IngestService(settings, broker=self.broker, database=database, store=store, clock=self.clock).run()

    async def _anomaly(self) -> None:
        settings = AnomalySettings(
            look_s=_RARELY_S, reload_s=_RARELY_S, report_s=_RARELY_S, heartbeat_s=_RARELY_S, flood_s=600.0,
            lease_s=3 * _RARELY_S, gateway_stale_s=3 * _RARELY_S, settle_s=min(600.0, self.scenario.gather_s + 1),
        )  # fmt: skip
        with self.registry() as database:
            while not self.store_path.exists():
                await self.clock.sleep(_LOOK_S)
            store = SqliteStore(self.store_path, mode="read")
            await AnomalyService(settings, broker=self.broker, database=database, store=store, clock=self.clock).run()

    async def _gateway(self, name: str) -> None:
        scenario, folder = self.scenario, self.folder / name
        folder.mkdir(exist_ok=True)
        plan = parse_plan(make_plan(self.registry_url, name, 1), self.profiles, name="plan")
        settings = GatewaySettings(
            outbox=folder / "outbox.db", commit_interval_s=scenario.gather_s, gather_s=scenario.gather_s,
            health_interval_s=600.0, look_s=60.0,
        )  # fmt: skip
        rng = random.Random(f"{scenario.seed} {name} {self.clock.now_ms()}")
        gateway = Gateway(settings, plan, broker=self.broker, clock=self.clock, rng=rng)
        self.gateways[name] = gateway
        polls = [poll for bus in gateway.poller.buses.values() for poll in bus.polls]
        planned = [(poll.meter.meter, poll.phase, poll.meter.interval_s, len(poll.steps)) for poll in polls]
        try:
            await gateway.run()
        finally:
            del self.gateways[name]
            self._ended.append(self._count(gateway, planned))

    async def _clerk(self, database: Database) -> None:
        """Work orders: the clerk's turns, as the API does them."""
        orders = Orders(OrderSettings(), database, self.clock)
        loop = asyncio.get_running_loop()
        while True:
            await self.clock.sleep(_ORDERS_S)
            turn = await loop.run_in_executor(None, orders.turn)
            self.orders_opened += turn.opened

    async def _watch(self, watch: Callable[[VirtualHouse], None], every_s: float) -> None:
        while True:
            watch(self)
            await self.clock.sleep(every_s)

    # --- the course of a run ---------------------------------------------------------------------------------------

    async def _play(self) -> None:
        """Do the script until the end; a part that fails ends the run."""
        script = asyncio.get_running_loop().create_task(Script(self).run(), name="script")
        self._tasks["script"] = script
        waiting: set[asyncio.Task[None]] = {script}
        while script in waiting:
            await asyncio.wait({script, *self._tasks.values()}, return_when=asyncio.FIRST_COMPLETED)
            for name, task in list(self._tasks.items()):
                if task.done() and name != "script":
                    task.result()
                    raise MetergateError(f"{name} ended by itself")
            if script.done():
                script.result()
                waiting.discard(script)
        del self._tasks["script"]

    async def _drain(self) -> None:
        """No more polls; wait until every row that was read is acknowledged by ingest."""
        for gateway in self.gateways.values():
            gateway.poller.adopt(replace(gateway.plan, meters=(), buses=()))
        until = self.clock.monotonic() + _DRAIN_S
        while any(g.outbox.in_memory or g.outbox.held for g in self.gateways.values()):
            if self.clock.monotonic() > until:
                return  # the report names what did not arrive
            await self.clock.sleep(_LOOK_S)
        await self.clock.sleep(3 * max(_LOOK_S, self.scenario.gather_s))

    async def _end(self) -> None:
        """End all parts in the order of the rows' way; what failed was raised by `_play`."""
        for name in ["script", "watch", *self._gateway_names(), "anomaly", "ingest", "orders"]:
            if (task := self._tasks.pop(name, None)) is not None:
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
        self.frames.seen = self.farm.requests
        for each in self._ended:
            self.frames.polls += each.polls
            self.frames.sent += each.sent
        self.frames.planned = self.planned.total()
        await self.farm.close()

    def _count(self, gateway: Gateway, plan: list[tuple[str, float, float, int]]) -> Frames:
        """plan: name, first moment, interval [s] and requests a poll of each meter."""
        end = min(self.clock.monotonic(), self._end_s)
        for name, first, every, steps in plan:
            if first <= end:
                self.planned[name] += (int((end - first) // every) + 1) * steps
        return Frames(polls=gateway.poller.counters["polls"], sent=gateway.poller.counters["requests"])

    @property
    def disturbed(self) -> bool:
        """True when the script ends parts of the house, so that no meter's polls are those of the plan."""
        return any(event.kind in HOUSE_KINDS for event in self.scenario.event)

    def is_disturbed(self, meter: SimMeter) -> bool:
        """True when the script touches a meter's line."""
        return any(event.kind in LINE_KINDS or event.kind == "spike" for event, _, _ in meter.events) or any(
            event.kind in BUS_KINDS | LINK_KINDS and event.bus == meter.bus for event in self.scenario.event
        )

    # --- files -----------------------------------------------------------------------------------------------------

    def _gateway_names(self) -> list[str]:
        return sorted({group.gateway for group in self.scenario.fleet})

    def _farm_settings(self) -> FarmSettings:
        buses: dict[str, list[MeterSettings]] = {}
        for meter in self.meters:
            settings = MeterSettings(meter=meter.name, unit=meter.unit, profile=meter.group.profile, curve="rest")
            buses.setdefault(meter.bus, []).append(settings)
        self.buses = list(buses)
        ports = tuple(PortSettings(meter=tuple(meters)) for meters in buses.values())
        return FarmSettings(port=ports, seed=self.scenario.seed, log=self.answers)

    def _fill_books(self) -> None:
        """Import the meters, as of the start of the run."""
        billed = {name: p.index.quantity for name, p in self.profiles.items() if p.index.quantity}
        ports = dict(zip(self.buses, self.farm.ports, strict=True))
        with self.registry() as database:
            database.upgrade()
            with database.begin() as connection:
                text = _meters_csv(self.scenario, self.meters, self.profiles, ports)
                result = import_meters(
                    connection, text, billed=billed, actor=service("simulate"), now=self.clock.now_ms()
                )
        if result.bad:
            raise MetergateError(f"the scenario's own meters are refused: {result.bad[0].reason}")


def _meters_csv(
    scenario: Scenario, meters: list[SimMeter], profiles: dict[str, Profile], ports: dict[str, int]
) -> str:
    out = io.StringIO()
    names = (
        "meter_id", "medium", "customer_class", "profile", "gateway", "bus", "bus_kind", "host", "port", "address",
        "interval_s", "install_date", "commission_date", "index_digits", "resolution", "qmax_per_h", "tz", "district",
    )  # fmt: skip
    writer = csv.DictWriter(out, names)
    writer.writeheader()
    for meter in meters:
        digits = profiles[meter.group.profile].index_digits
        writer.writerow(
            {
                "meter_id": meter.name,
                "medium": meter.group.medium,
                "customer_class": meter.group.customer_class,
                "profile": meter.group.profile,
                "gateway": meter.group.gateway,
                "bus": meter.bus,
                "bus_kind": "modbus-tcp",
                "host": "127.0.0.1",
                "port": ports[meter.bus],
                "address": meter.unit,
                "interval_s": meter.group.interval_s,
                "install_date": meter.facts.install_date.isoformat(),
                "commission_date": meter.facts.install_date.isoformat() if meter.facts.commissioned else "",
                "index_digits": digits or "",
                "resolution": "0.01",
                "qmax_per_h": f"{meter.facts.qmax_per_h:g}",
                "tz": scenario.tz,
                "district": meter.group.district,
            }
        )
    return out.getvalue()
