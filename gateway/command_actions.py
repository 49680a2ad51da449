"""What the commands do: read-now and set-clock, one result row for each meter."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from typing import Annotated, Final, TypeVar

import msgspec

from gateway import setting_clocks
from gateway.commands import Action, Outcome
from gateway.meter_poll import cause_of
from gateway.on_demand import read_now
from gateway.plan import PlannedMeter
from gateway.poller import Bus, Poller
from metering.clock import Clock
from metering.errors import MessageError, MetergateError
from metering.messages import Command, told
from metering.quantities import UNITS, from_micro
from metering.reading import Event, MeterId

MOST_READ: Final = 50
MOST_SET: Final = 2000
_DAY_S: Final = 86_400
T = TypeVar("T")


class ReadNow(msgspec.Struct, forbid_unknown_fields=True):
    """Args of read-now."""

    meters: Annotated[list[MeterId], msgspec.Meta(min_length=1, max_length=MOST_READ)]


class SetClock(msgspec.Struct, forbid_unknown_fields=True):
    """Args of set-clock. utc_offset_s: [s] of the meters' local time from UTC; the office knows the zones."""

    meters: Annotated[list[MeterId], msgspec.Meta(min_length=1, max_length=MOST_SET)]
    utc_offset_s: Annotated[int, msgspec.Meta(gt=-_DAY_S, lt=_DAY_S)]


class Actions:
    """Carries commands out on the poller's buses. pushed: ids of the meters that send by themselves."""

    def __init__(self, poller: Poller, clock: Clock, pushed: Callable[[], Iterable[str]]) -> None:
        self._poller = poller
        self._clock = clock
        self._pushed = pushed

    def by_name(self) -> Mapping[str, Action]:
        """Return the commands that this gateway knows."""
        return {"read-now": self.read_now, "set-clock": self.set_clock}

    async def read_now(self, command: Command) -> Outcome:
        """Read each meter before the sweep of its bus; buses work side by side. Raises: MessageError."""
        meters = list(dict.fromkeys(_args(command, ReadNow).meters))
        pushed = frozenset(self._pushed())
        rows = await asyncio.gather(*(self._read(command.nonce, meter, pushed) for meter in meters))
        return _outcome(rows, "read")

    async def set_clock(self, command: Command) -> Outcome:
        """Set clocks, bus by bus side by side, and read each meter's time back. Raises: MessageError."""
        args = _args(command, SetClock)
        rows: list[Event] = []
        pushed = frozenset(self._pushed())
        buses: dict[str, tuple[Bus, list[PlannedMeter]]] = {}
        for meter in dict.fromkeys(args.meters):
            found = self._poller.find(meter)
            if found is None:
                rows.append(self._absent(command.nonce, meter, pushed, "its clock is its platform's"))
            elif not found[1].meter.profile.takes_time:
                model = found[1].meter.profile.id
                rows.append(self._row(command.nonce, meter, "no_set_time", f"model {model} takes no set-time"))
            else:
                buses.setdefault(found[0].file.name, (found[0], []))[1].append(found[1].meter)
        work = (self._set_bus(command.nonce, bus, meters, args.utc_offset_s) for bus, meters in buses.values())
        for done in await asyncio.gather(*work):
            rows += done
        return _outcome(rows, "set")

    async def _read(self, nonce: str, meter: str, pushed: frozenset[str]) -> Event:
        if self._poller.find(meter) is None:
            return self._absent(nonce, meter, pushed, "it cannot be read on demand")
        try:
            reading = await read_now(self._poller, meter)
        except MetergateError as error:
            return self._row(nonce, meter, cause_of(error), error.message)
        values = ", ".join(f"{name} {from_micro(micro)} {UNITS[name]}" for name, micro in reading.values.items())
        return self._row(nonce, meter, "ok", values)

    async def _set_bus(self, nonce: str, bus: Bus, meters: list[PlannedMeter], utc_offset_s: int) -> list[Event]:
        rows = []
        if any(setting_clocks.is_broadcast(meter) for meter in meters):
            try:
                await setting_clocks.broadcast(bus.demand, self._clock, utc_offset_s)
            except MetergateError as error:
                return [self._row(nonce, meter.meter, cause_of(error), error.message) for meter in meters]
        for meter in meters:
            rows.append(await self._set_meter(nonce, bus, meter, utc_offset_s))
        return rows

    async def _set_meter(self, nonce: str, bus: Bus, meter: PlannedMeter, utc_offset_s: int) -> Event:
        try:
            if not setting_clocks.is_broadcast(meter):
                await setting_clocks.set_one(bus.demand, meter, self._clock, utc_offset_s)
            found = await setting_clocks.read_back(bus.demand, meter, self._clock, utc_offset_s)
        except MetergateError as error:
            return self._row(nonce, meter.meter, cause_of(error), error.message)
        return self._row(nonce, meter.meter, "ok" if found.taken else "not_taken", found.sentence)

    def _absent(self, nonce: str, meter: str, pushed: frozenset[str], why: str) -> Event:
        if meter in pushed:
            return self._row(nonce, meter, "sends_by_itself", f"an MQTT meter sends by itself: {why}")
        return self._row(nonce, meter, "unknown_meter", "this gateway's plan has no such meter")

    def _row(self, nonce: str, meter: str, cause: str, sentence: str) -> Event:
        text = told(nonce, sentence).encode("utf-8", "replace").decode()
        return Event(kind="command_result", at=self._clock.now_ms(), meter=meter, cause=cause[:48], text=text)


def _outcome(rows: Iterable[Event], verb: str) -> Outcome:
    found = tuple(rows)
    good = sum(row.cause == "ok" for row in found)
    bad = ", ".join(f"{row.meter} {row.cause}" for row in found if row.cause != "ok")
    sentence = f"{good} of {len(found)} meters {verb}" + (f"; not: {bad}" if bad else "")
    return Outcome(found, "done" if good == len(found) else "failed", sentence)


def _args(command: Command, kind: type[T]) -> T:
    try:
        return msgspec.convert(command.args, kind)
    except msgspec.ValidationError as error:
        raise MessageError(f"args of {command.name}: {error}") from error
