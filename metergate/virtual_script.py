"""The timed script of a scenario: what happens at meters, buses, gateways, broker and services while the house runs.

What changes the use of a customer is in the meters' curves already (`simulators.scenario_fleet`); here is the rest.
"""

from __future__ import annotations

import heapq
import itertools
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING, Final

from simulators.farm_settings import FaultSettings, FlagName
from simulators.scenario_events import BUS_KINDS, FLAG_KINDS, HOUSE_KINDS, LINE_KINDS, LINK_KINDS, Event

if TYPE_CHECKING:
    from metergate.virtual import VirtualHouse

_FLAGS: Final[dict[str, FlagName]] = {
    "low_battery": "LOW_BATTERY",
    "valve_closed": "VALVE_CLOSED",
    "magnet": "MAGNET",
    "cover": "COVER",
}
_PARTS: Final = {"broker_off": "broker", "ingest_off": "ingest", "anomaly_off": "anomaly"}
Deed = Callable[[], Awaitable[None]]


class Script:
    """Does one scenario's events at their moments; `run` ends when the scenario does. done: events begun, by kind."""

    def __init__(self, house: VirtualHouse) -> None:
        self.done: Counter[str] = Counter()
        self._house = house
        self._faults: dict[str, list[FaultSettings]] = {}
        self._flags: dict[str, Counter[FlagName]] = {}
        self._order = itertools.count()
        self._agenda: list[tuple[int, int, Deed]] = []
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
        on, off = self._deeds(event, meters)
        last = self._house.scenario.end_ms
        if on is None or begin >= last:
            return

        async def first() -> None:
            self.done[event.kind] += 1
            await on()

        heapq.heappush(self._agenda, (begin, next(self._order), first))
        if off is not None and (end < last or event.kind in HOUSE_KINDS):  # what waits is to arrive at the end
            heapq.heappush(self._agenda, (end, next(self._order), off))

    def _deeds(self, event: Event, meters: tuple[str, ...]) -> tuple[Deed | None, Deed | None]:
        """Return what begins and what ends an event; None where nothing is to be done now."""
        if event.kind == "spike":
            return self._at(lambda: self._spike(meters)), None
        if event.kind in LINE_KINDS or event.kind == "bus_silent":
            fault = _fault(event)
            return self._at(lambda: self._set(meters, fault)), self._at(lambda: self._unset(meters, fault))
        if event.kind == "link_cut":
            fault = FaultSettings(kind="close")
            return self._at(lambda: self._cut(event.bus, meters, fault)), self._at(lambda: self._unset(meters, fault))
        if event.kind in FLAG_KINDS:
            flag = _FLAGS[event.kind]
            return self._at(lambda: self._flag(meters, flag, 1)), self._at(lambda: self._flag(meters, flag, -1))
        if event.kind in HOUSE_KINDS:
            return self._part(_PARTS.get(event.kind, event.gateway))
        return None, None

    def _part(self, part: str) -> tuple[Deed, Deed]:
        async def off() -> None:
            await self._house.switch_off(part)

        return off, self._at(lambda: self._house.switch_on(part))

    @staticmethod
    def _at(work: Callable[[], None]) -> Deed:
        async def deed() -> None:
            work()

        return deed

    def _spike(self, meters: tuple[str, ...]) -> None:
        for name in meters:
            self._house.farm.meters[name].set_fault(FaultSettings(kind="zero_index", times=1))

    def _set(self, meters: tuple[str, ...], fault: FaultSettings) -> None:
        for name in meters:
            self._faults.setdefault(name, []).append(fault)
            self._house.farm.meters[name].set_fault(fault)

    def _unset(self, meters: tuple[str, ...], fault: FaultSettings) -> None:
        """End a fault; an older one that still lasts comes back."""
        for name in meters:
            lasting = self._faults[name]
            lasting.remove(fault)
            self._house.farm.meters[name].set_fault(lasting[-1] if lasting else None)

    def _cut(self, bus: str, meters: tuple[str, ...], fault: FaultSettings) -> None:
        self._set(meters, fault)
        self._house.farm.hang_up(self._house.buses.index(bus))

    def _flag(self, meters: tuple[str, ...], flag: FlagName, step: int) -> None:
        for name in meters:
            flags = self._flags.setdefault(name, Counter())
            flags[flag] += step
            self._house.farm.meters[name].set_flags([each for each, count in flags.items() if count > 0])


def _fault(event: Event) -> FaultSettings:
    kind = "silent" if event.kind == "bus_silent" else event.kind
    return FaultSettings.model_validate({"kind": kind, "seconds": event.seconds, "code": event.code})
