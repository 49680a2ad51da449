"""The timed script of a scenario: what happens at meters, buses, gateways, broker and services while the house runs.

What changes the use of a customer, or what his counter shows of it, is in the meters' curves already
(`simulators.scenario_fleet`); here is the rest.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Final

from metergate.virtual_books import record_exchange
from metering.mqtt import Message
from simulators.farm_settings import FlagName
from simulators.scenario_events import (
    BUS_KINDS,
    FLAG_KINDS,
    HOUSE_KINDS,
    KILLS,
    LINE_KINDS,
    LINK_KINDS,
    Event,
)

if TYPE_CHECKING:
    from metergate.virtual import VirtualHouse

_FLAGS: Final[dict[str, FlagName]] = {
    "low_battery": "LOW_BATTERY",
    "valve_closed": "VALVE_CLOSED",
    "magnet": "MAGNET",
    "cover": "COVER",
}
_PARTS: Final = {
    "broker_off": "broker", "ingest_off": "ingest", "ingest_kill": "ingest", "anomaly_off": "anomaly",
    "anomaly_kill": "anomaly",
}  # fmt: skip
_PATIENCE_S: Final = 7_200.0
"""So long a part that is to be killed in mid-work is waited for to have work."""
_TURNS: Final = 60
Deed = Callable[[], Awaitable[None]]


class Script:
    """Does one scenario's events at their moments; `run` ends when the scenario does. done: events begun, by kind."""

    def __init__(self, house: VirtualHouse) -> None:
        self.done: Counter[str] = Counter()
        self._house = house
        self._faults: dict[str, list[Event]] = {}
        self._flags: dict[str, Counter[FlagName]] = {}
        self._order = itertools.count()
        self._agenda: list[tuple[int, int, Deed]] = []
        self._kills: list[asyncio.Task[None]] = []
        for event, begin, end, meters in self._events():
            self._note(event, begin, end, meters)

    async def run(self) -> None:
        """Play to the end."""
        clock, scenario = self._house.clock, self._house.scenario
        while self._agenda:
            at, _, deed = heapq.heappop(self._agenda)
            await clock.sleep((at - clock.now_ms()) / 1000)
            await deed()
        await clock.sleep((scenario.end_ms - clock.now_ms()) / 1000)
        await asyncio.gather(*self._kills)

    def _events(self) -> Iterable[tuple[Event, int, int, tuple[str, ...]]]:
        scenario = self._house.scenario
        for meter in self._house.meters:
            for event, begin, end in meter.events:
                yield event, begin, end, (meter.name,)
        for event in scenario.event:
            if event.kind in BUS_KINDS | LINK_KINDS | HOUSE_KINDS:
                here = tuple(meter.name for meter in self._house.meters if meter.bus == event.bus)
                yield event, *scenario.span(event), here

    def _note(self, event: Event, begin: int, end: int, meters: tuple[str, ...]) -> None:
        on, off = self._deeds(event, meters, (end - begin) / 1000)
        last = self._house.scenario.end_ms
        if on is None or begin >= last:
            return

        async def first() -> None:
            self.done[event.kind] += 1
            await on()

        heapq.heappush(self._agenda, (begin, next(self._order), first))
        waits = event.kind in HOUSE_KINDS or bool(event.gateway)
        if off is not None and (end < last or waits):  # what waits is to arrive at the end
            heapq.heappush(self._agenda, (end, next(self._order), off))

    def _deeds(self, event: Event, meters: tuple[str, ...], seconds: float) -> tuple[Deed | None, Deed | None]:
        """Return what begins and what ends an event; None where nothing is to be done now."""
        fleet = self._house.fleet
        if event.kind == "spike":
            return self._each(meters, fleet.spike), None
        if event.kind == "exchange":
            return (self._at(lambda: self._exchange(meters)) if event.in_books else None), None
        if event.kind in LINE_KINDS or event.kind == "bus_silent":
            return self._at(lambda: self._set(meters, event)), self._at(lambda: self._unset(meters, event))
        if event.kind == "clock_drift":
            return (
                self._each(meters, lambda name: fleet.drift_clock(name, event.clock_s)),
                self._each(meters, lambda name: fleet.drift_clock(name, 0.0)),
            )
        if event.kind in FLAG_KINDS:
            flag = _FLAGS[event.kind]
            return self._at(lambda: self._flag(meters, flag, 1)), self._at(lambda: self._flag(meters, flag, -1))
        if event.kind == "echo":
            return (
                self._at(lambda: fleet.set_echo(event.bus, on=True)),
                self._at(lambda: fleet.set_echo(event.bus, on=False)),
            )
        if event.kind in LINK_KINDS:
            return self._uplink(event) if event.gateway else self._line(event, meters)
        if event.kind in HOUSE_KINDS:
            return self._house_deeds(event, seconds)
        return None, None

    def _line(self, event: Event, meters: tuple[str, ...]) -> tuple[Deed, Deed]:
        """What happens on the way to a bus."""
        fleet, bus = self._house.fleet, event.bus
        if event.kind == "link_delay":
            return self._at(lambda: fleet.delay(bus, event.seconds)), self._at(lambda: fleet.delay(bus, 0.0))
        if event.kind == "half_open":
            return self._at(lambda: fleet.half_open(bus, on=True)), self._at(lambda: fleet.half_open(bus, on=False))
        if fleet.is_serial(bus):
            return self._at(lambda: fleet.cut(bus)), lambda: fleet.mend(bus)

        def cut() -> None:
            self._set(meters, event)
            fleet.cut(bus)

        return self._at(cut), self._at(lambda: self._unset(meters, event))

    def _uplink(self, event: Event) -> tuple[Deed, Deed]:
        """What happens on a gateway's way to the broker."""
        broker, client = self._house.memory_broker, self._house.clients(event.gateway)[0]
        begin: dict[str, Callable[[], None]] = {
            "link_cut": partial(broker.cut, client),
            "link_delay": partial(broker.delay, client, event.seconds),
            "half_open": partial(broker.half_open, client),
        }
        return self._at(begin[event.kind]), self._at(partial(broker.mend, client))

    def _house_deeds(self, event: Event, seconds: float) -> tuple[Deed, Deed | None]:
        house = self._house
        if event.kind == "store_off":
            why = "the store is away"
            return self._at(partial(house.store_gate.shut, why)), self._at(house.store_gate.open)
        if event.kind == "disk_full":
            disk = house.disks[event.gateway]
            return self._at(partial(disk.shut, "no room")), self._at(disk.open)
        part = _PARTS.get(event.kind, event.gateway)
        if event.kind in KILLS:
            rng = random.Random(f"{house.scenario.seed} {event.kind} {event.day}")
            return self._at(partial(self._kill_soon, part, rng, seconds)), None
        return partial(house.switch_off, part), self._at(partial(house.switch_on, part))

    def _kill_soon(self, part: str, rng: random.Random, seconds: float) -> None:
        self._kills.append(asyncio.get_running_loop().create_task(self._kill(part, rng, seconds)))

    async def _kill(self, part: str, rng: random.Random, seconds: float) -> None:
        """Kill a part, at any moment or in the middle of its work, and start it again."""
        house = self._house
        if rng.random() < 0.5:
            await house.clock.sleep(rng.random() * house.scenario.gather_s)
        else:
            await self._busy(part)
        for _ in range(rng.randrange(_TURNS)):
            await house.clock.sleep(0)
        await house.kill(part)
        await house.clock.sleep(seconds)
        house.switch_on(part)

    async def _busy(self, part: str) -> None:
        """Wait for a message that a part sent or gets; not for ever."""
        house, busy = self._house, asyncio.get_running_loop().create_future()
        leaf = "/notice" if part == "anomaly" else "/up" if part == "ingest" else f"/{part}/up"

        def look(message: Message) -> None:
            if message.topic.endswith(leaf) and not busy.done():
                busy.set_result(None)

        house.watchers.append(look)
        with suppress(TimeoutError):
            await house.clock.timeout(busy, _PATIENCE_S)
        house.watchers.remove(look)

    @staticmethod
    def _at(work: Callable[[], None]) -> Deed:
        async def deed() -> None:
            work()

        return deed

    def _each(self, meters: tuple[str, ...], work: Callable[[str], None]) -> Deed:
        async def deed() -> None:
            for name in meters:
                work(name)

        return deed

    def _exchange(self, meters: tuple[str, ...]) -> None:
        for name in meters:
            meter, now = self._house.by_name[name], self._house.clock.now_ms()
            for swap in meter.curve.exchanges:
                if abs(swap.at - now) < 1000:
                    record_exchange(self._house, meter, swap)

    def _set(self, meters: tuple[str, ...], fault: Event) -> None:
        for name in meters:
            self._faults.setdefault(name, []).append(fault)
            self._house.fleet.set_fault(name, fault)

    def _unset(self, meters: tuple[str, ...], fault: Event) -> None:
        """End a fault; an older one that still lasts comes back."""
        for name in meters:
            lasting = self._faults[name]
            lasting.remove(fault)
            self._house.fleet.set_fault(name, lasting[-1] if lasting else None)

    def _flag(self, meters: tuple[str, ...], flag: FlagName, step: int) -> None:
        for name in meters:
            flags = self._flags.setdefault(name, Counter())
            flags[flag] += step
            self._house.fleet.set_flags(name, [each for each, count in flags.items() if count > 0])
