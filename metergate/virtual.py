"""The virtual house: simulated meters, gateways, broker, ingest, rules and work orders in one process on one clock.

The services are the ones that run in the field, built from the same settings; only the clock, and where the scenario
says so the broker, are given to them. With `SystemClock` the same house runs in real time.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

from anomaly.service import AnomalyService
from anomaly.settings import AnomalySettings
from api.orders.service import Orders
from api.orders.settings import OrderSettings
from gateway.links import make_link
from gateway.plan import parse_plan
from gateway.profile import Profile
from gateway.profile_mqtt import load_mqtt_profiles
from gateway.profiles import load_profiles
from gateway.service import Gateway
from gateway.settings import FieldBrokerSettings, GatewaySettings
from ingest.service import IngestService
from ingest.settings import IngestSettings
from metergate.commands.books import make_plan
from metergate.memory_broker import MemoryBroker
from metergate.virtual_books import fill_books
from metergate.virtual_broker import WireBroker
from metergate.virtual_course import Course
from metergate.virtual_fleet import VirtualFleet
from metergate.virtual_hands import Gate, GatedDatabase, GatedStore, outbox_on
from metergate.virtual_past import keep_calendar, remember
from metergate.virtual_pty import link_maker
from metergate.virtual_script import Script
from metergate.virtual_time import VirtualLoop
from metering.clock import Clock
from metering.errors import MetergateError
from metering.reading import Reading
from registry.database import Database
from simulators.answer_log import Answer
from simulators.modbus_farm import Farm
from simulators.scenario import Scenario
from simulators.scenario_events import BUS_KINDS, HOUSE_KINDS, LINE_KINDS, LINK_KINDS
from simulators.scenario_fleet import SimMeter, make_meters

_RARELY_S: Final = 3_600.0
_ORDERS_S: Final = 600.0
_DRAIN_S: Final = 86_400.0
"""Longest virtual time for which the end waits until all that was read is stored."""
_LOOK_S: Final = 5.0
_HEALTH_S: Final = 150.0
_STATUS_S: Final = 450.0
"""Ingest writes down so often what gateways said of themselves: together under the ten minutes that count as away."""
_UNDER_WAY_MS: Final = 5_000
"""A poll of several requests on a slow wire takes no longer: one that a gateway's end cuts off is no reading."""
_ANOMALY: Final = "virtual-anomaly"
_INGEST: Final = "virtual-ingest"


@dataclass(slots=True)
class Frames:
    """What went over a wire. planned: requests that the plan asks for. sent: by gateways. seen: by meters.

    Of meters that send by themselves: messages that were due, that they made, that reached a gateway.
    """

    planned: int = 0
    polls: int = 0
    sent: int = 0
    seen: int = 0


@dataclass
class VirtualHouse:
    """All parts of one run, in `folder`. `run` plays the scenario to its end; what is left are files.

    gateways: by name; one that is switched off by the script is missing meanwhile. frames: of all that is polled;
    wires: by protocol.
    """

    scenario: Scenario
    folder: Path
    clock: Clock
    control: bool = False
    """Whether its meters take orders from outside while it runs."""
    meters: list[SimMeter] = field(init=False)
    frames: Frames = field(default_factory=Frames)
    wires: defaultdict[str, Frames] = field(default_factory=lambda: defaultdict(Frames))
    gateways: dict[str, Gateway] = field(default_factory=dict)
    orders_opened: int = 0
    planned: Counter[str] = field(default_factory=Counter)
    """Requests that the plan asks of each meter."""

    def __post_init__(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        if (self.folder / "registry.db").exists():
            raise MetergateError(f"{self.folder} holds a run already; name another folder")
        self.profiles: dict[str, Profile] = load_profiles()
        self.digits = {name: profile.index_digits for name, profile in self.profiles.items()}
        self.digits |= {name: profile.index_digits for name, profile in load_mqtt_profiles().items()}
        self.meters = make_meters(self.scenario, {name: count or 8 for name, count in self.digits.items()})
        self.by_name = {meter.name: meter for meter in self.meters}
        self.memory_broker = MemoryBroker()
        self.wire_broker = WireBroker(self.clock) if self.scenario.broker == "wire" else None
        middle = self.wire_broker or self.memory_broker
        self.watchers, self.broker = middle.watchers, middle.settings
        reached = self.broker.model_dump(include={"port", "protocol", "keepalive_s"})
        self.field_broker = FieldBrokerSettings(**reached).carried_by(middle.carry)
        self.fleet = VirtualFleet(
            self.scenario, self.meters, self.clock, profiles=self.profiles, folder=self.folder, log=self.answers,
            control=self.control,
        )  # fmt: skip
        self.store_gate = Gate()
        self.disks: defaultdict[str, Gate] = defaultdict(Gate)
        self._lives: dict[str, Gate] = {}
        self._ends: defaultdict[str, list[int]] = defaultdict(list)
        self._unwritten: set[tuple[str, int]] = set()
        self._courses: dict[str, Course] = {}
        self._clashes = {m.bus for m in self.meters if any(e.kind == "address_clash" for e, _, _ in m.events)}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._end_s = float("inf")

    @property
    def farm(self) -> Farm:
        """The meters on Modbus TCP."""
        return self.fleet.tcp

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
        loop = asyncio.get_running_loop()
        if self.wire_broker is not None:
            if isinstance(loop, VirtualLoop):
                loop.others.append(self.wire_broker)
            await self.wire_broker.start()
        await self.fleet.start(loop.wires if isinstance(loop, VirtualLoop) else None, self.broker)
        fill_books(self)
        keep_calendar(self)
        remember(self)
        with self.registry() as database:
            try:
                self._start("orders", partial(self._clerk, database))
                for part in ("ingest", "anomaly", *self._gateway_names()):
                    self.switch_on(part)
                self.fleet.send()
                if watch is not None:
                    self._start("watch", partial(self._watch, watch, watch_s))
                await self._play()
                await self._drain()
            finally:
                await self._end()

    # --- parts that come and go ------------------------------------------------------------------------------------

    def switch_on(self, part: str) -> None:
        """Start "ingest", "anomaly", "broker" or a gateway by name."""
        if part == "broker" and self.wire_broker is not None:
            self._starting = asyncio.get_running_loop().create_task(self.wire_broker.start())
        elif part == "broker":
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
            await self._kill_broker()
            return
        self._note_end(part, lost=False)
        task = self._tasks.pop(part)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task

    async def _kill_broker(self) -> None:
        if self.wire_broker is None:
            self.memory_broker.stop()
        else:
            await self.wire_broker.stop()

    def _note_end(self, part: str, *, lost: bool = True) -> None:
        """Note what ends with a gateway: polls that are under way, and when it dies, rows in its memory."""
        if (gateway := self.gateways.get(part)) is None:
            return
        self._ends[part].append(self.clock.now_ms())
        rows = gateway.outbox.uncommitted() if lost else ()
        self._unwritten |= {(row.meter, row.read_at) for row in rows if isinstance(row, Reading)}

    def never_produced(self, answer: Answer) -> bool:
        """True for an answer that no gateway had on its disk when it ended: then it never became a reading."""
        if (answer.meter, answer.at_ms) in self._unwritten:
            return True
        meter = self.by_name[answer.meter]
        if meter.group.protocol == "mqtt":
            return self._went_unheard(meter)
        return any(abs(answer.at_ms - end) <= _UNDER_WAY_MS for end in self._ends[meter.group.gateway])

    def _went_unheard(self, meter: SimMeter) -> bool:
        """A broker that was killed knows nobody when it comes back: what meters hand it then reaches no gateway."""
        unheard = (self.wire_broker or self.memory_broker).unheard
        own = next((topic for topic in unheard if self.fleet.device(meter) in topic and unheard[topic]), None)
        if own is None:
            return False
        unheard[own] -= 1
        return True

    async def kill(self, part: str) -> None:
        """End a part as kill -9 does: it writes and says nothing more, and what it had in memory is gone."""
        self._lives[part].shut(f"{part} was killed")
        self._note_end(part)
        for client in self.clients(part):
            (self.wire_broker or self.memory_broker).lose(client)
        task = self._tasks.pop(part)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    def clients(self, part: str) -> tuple[str, ...]:
        """Return the names that a part has at the broker."""
        if part == "ingest":
            return _INGEST, f"{_INGEST}-status"
        return (f"{_ANOMALY}-notices",) if part == "anomaly" else (f"mg-gateway-{part}", f"metergate-{part}")

    def _born(self, part: str) -> Gate:
        self._lives[part] = Gate()
        return self._lives[part]

    def _start(self, name: str, work: Callable[[], object]) -> None:
        made = work()
        if not asyncio.iscoroutine(made):
            raise TypeError(name)
        self._tasks[name] = asyncio.get_running_loop().create_task(made, name=name)

    async def _ingest(self) -> None:
        life = self._born("ingest")
        settings = IngestSettings(
            instance=_INGEST, flush_s=max(1.0, self.scenario.gather_s), report_s=_STATUS_S, reload_s=_RARELY_S
        )
        with closing(GatedDatabase(self.registry_url, life)) as database:
            store = GatedStore(self.store_path, life, self.store_gate, mode="write")
            await IngestService(settings, broker=self.broker, database=database, store=store, clock=self.clock).run()

    async def _anomaly(self) -> None:
        life = self._born("anomaly")
        settings = AnomalySettings(
            instance=_ANOMALY, look_s=_RARELY_S, reload_s=_RARELY_S, report_s=_RARELY_S,
            heartbeat_s=_RARELY_S, flood_s=600.0, lease_s=3 * _RARELY_S,
            gateway_stale_s=3 * _RARELY_S, settle_s=min(600.0, self.scenario.gather_s + 1),
        )  # fmt: skip
        with closing(GatedDatabase(self.registry_url, life)) as database:
            while not self.store_path.exists():
                await self.clock.sleep(_LOOK_S)
            store = GatedStore(self.store_path, life, self.store_gate, mode="read")
            await AnomalyService(settings, broker=self.broker, database=database, store=store, clock=self.clock).run()

    async def _gateway(self, name: str) -> None:
        scenario, folder = self.scenario, self.folder / name
        folder.mkdir(exist_ok=True)
        plan = parse_plan(make_plan(self.registry_url, name, 1), self.profiles, name="plan")
        settings = GatewaySettings(
            outbox=folder / "outbox.db", commit_interval_s=scenario.gather_s, gather_s=scenario.gather_s,
            health_interval_s=_HEALTH_S, look_s=60.0,
        )  # fmt: skip
        rng = random.Random(f"{scenario.seed} {name} {self.clock.now_ms()}")
        loop = asyncio.get_running_loop()
        gateway = Gateway(
            settings, plan, broker=self.broker, clock=self.clock, rng=rng,
            field_broker=self.field_broker,
            link=link_maker(loop.wires) if isinstance(loop, VirtualLoop) else make_link,
            outbox_file=outbox_on(self.disks[name], self._born(name)),
        )  # fmt: skip
        self.gateways[name] = gateway
        self._courses[name] = Course(gateway)
        try:
            await gateway.run()
        finally:
            del self.gateways[name]
            self._count(self._courses.pop(name))

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
                if not script.cancelled():  # else somebody ended the story early
                    script.result()
                waiting.discard(script)
        del self._tasks["script"]

    def end_early(self) -> None:
        """End the story now instead of at its end; what was read still arrives, and the report speaks of so far."""
        days = max(1e-3, (self.clock.now_ms() - self.scenario.start_ms) / 86_400_000)
        self.scenario = self.scenario.model_copy(update={"days": days})
        self._end_s = self.clock.monotonic()
        self._tasks["script"].cancel()

    async def _drain(self) -> None:
        """No more polls; wait until every row that was read is acknowledged by ingest."""
        await self.fleet.stop_sending()
        for course in self._courses.values():
            course.end()
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
        self._count_wires()
        await self.fleet.close()
        await self._kill_broker()

    def _count(self, course: Course) -> None:
        """Add what a gateway's life came to."""
        self.planned.update(course.planned(min(self.clock.monotonic(), self._end_s)))
        for protocol, count in course.sent().items():
            self.wires[protocol].sent += count
        self.frames.polls += course.gateway.poller.counters["polls"]
        self.frames.sent += course.gateway.poller.counters["requests"]
        if received := course.received():
            self.wires["mqtt"].seen += received

    def _count_wires(self) -> None:
        """Put together what went over each wire."""
        seen = self.fleet.requests()
        self.planned.update(self.fleet.messages_due(self._end_s))
        for name, count in self.planned.items():
            self.wires[self.by_name[name].group.protocol].planned += count
        for protocol, count in seen.items():
            if protocol == "mqtt":
                self.wires[protocol].sent = count
            else:
                self.wires[protocol].seen = count
        polled = [frames for protocol, frames in self.wires.items() if protocol != "mqtt"]
        self.frames.seen = sum(frames.seen for frames in polled)
        self.frames.planned = sum(frames.planned for frames in polled)

    @property
    def disturbed(self) -> bool:
        """True when the script ends parts of the house, so that no meter's polls are those of the plan."""
        return any(event.kind in HOUSE_KINDS for event in self.scenario.event)

    def is_disturbed(self, meter: SimMeter) -> bool:
        """True when the script touches a meter's line."""
        if meter.bus in self._clashes:
            return True
        return any(event.kind in LINE_KINDS or event.kind == "spike" for event, _, _ in meter.events) or any(
            event.kind in BUS_KINDS | LINK_KINDS and event.bus == meter.bus for event in self.scenario.event
        )

    # --- files -----------------------------------------------------------------------------------------------------

    def _gateway_names(self) -> list[str]:
        return sorted({group.gateway for group in self.scenario.fleet})
