"""Poll all meters of a plan: when whom, over which connection, and what becomes of the answers.

Everything hangs on one ticker and the arrival of bytes; there is no task per meter and none per request. A bus sends
its next request the moment an answer is dealt with. A silent meter costs its bus at most `silent_share` of the time,
a sick bus costs the others nothing.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import random
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, Final

import structlog

from gateway.drivers.serial_bus import SerialBus
from gateway.links import LinkMaker, make_link
from gateway.meter_poll import Backoff, MeterPoll, StepMaker, cause_of
from gateway.plan import BusFile, Plan
from gateway.stamps import ClockWatch
from metering.clock import Clock
from metering.errors import ConnectError, FrameError, MetergateError
from metering.reading import Event, Reading, Row

_LEAST_SLEEP_S: Final = 0.001
_IDLE_SLEEP_S: Final = 0.25
_WAITING_SLEEP_S: Final = 0.02
_RETURN_S: Final = 5.0
"""Meters of a bus that came back are asked again within this time [s]."""
_MOST_STRETCH: Final = 20
_log = structlog.get_logger(__name__)


class Bus:
    """One connection and the meters behind it."""

    def __init__(self, poller: Poller, file: BusFile, rng: random.Random) -> None:
        self.file = file
        self.polls: list[MeterPoll] = []
        self.ready: deque[MeterPoll] = deque()
        self.silent = 0
        self._demands: deque[tuple[Any, float, asyncio.Future[bytes]]] = deque()
        self._poller = poller
        self.link = poller.make_link(
            file, clock=poller.clock, rng=rng, counters=poller.counters, on_up=self._up, on_down=self._down
        )

    def pump(self) -> None:
        """Send what may be sent."""
        link, ready = self.link, self.ready
        while ready or self._demands:
            if link.free and self._demands:
                self._ask_demand(*self._demands.popleft())
            elif link.free:
                poll = ready.popleft()
                poll.begin(self._poller.clock.monotonic())
                self._ask(poll)
            elif link.up or link.dial(self.file.timeout_s):
                return
            else:
                self._fail_ready(link.error)

    async def demand(self, ask: Any, timeout_s: float) -> bytes:
        """Ask before all that waits, and return the bytes. Raises: MetergateError."""
        self._poller.counters["demands"] += 1
        if isinstance(self.link, SerialBus):
            try:
                return await self.link.read(ask, timeout_s)
            finally:
                self.pump()
        answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._demands.append((ask, timeout_s, answer))
        self.pump()
        return await answer

    def close(self) -> None:
        """Close the line; whoever waits is told."""
        self.ready.clear()
        self._fail_demands(ConnectError("closed", port=self.link.name))
        self.link.close()

    def _ask_demand(self, ask: Any, timeout_s: float, answer: asyncio.Future[bytes]) -> None:
        def done(result: bytes | MetergateError) -> None:
            if isinstance(result, MetergateError):
                _fail(answer, result)
            elif not answer.done():
                answer.set_result(result)
            self.pump()

        if not answer.done():
            self.link.ask(ask, timeout_s, done)

    def _fail_demands(self, error: MetergateError) -> None:
        failing, self._demands = self._demands, deque()
        for _, _, answer in failing:
            _fail(answer, error)

    def _ask(self, poll: MeterPoll) -> None:
        self._poller.counters["requests"] += 1
        self.link.ask(poll.step.ask, poll.meter.timeout_s, partial(self._done, poll))

    def _done(self, poll: MeterPoll, result: bytes | MetergateError) -> None:
        """An answer or an error came: go on with this meter, or finish it and take the next."""
        poller = self._poller
        error: MetergateError | None = None
        try:
            if isinstance(result, bytes):
                goes_on = poll.answered(result, poller.clock.now_ms())
            else:
                error, goes_on = result, poll.refused(result)
        except FrameError as damage:
            error, goes_on = damage, False
        if goes_on and self.link.free:
            self._ask(poll)
            return
        if goes_on:
            error = self.link.error
            poll.refused(error)
        poller.finish(self, poll, error)
        if self.ready or self._demands:
            self.pump()

    def _fail_ready(self, error: MetergateError) -> None:
        self._fail_demands(error)
        failing = list(self.ready)
        self.ready.clear()  # the same deque, because `pump` is looking at it
        for poll in failing:
            poll.begin(self._poller.clock.monotonic())
            self._poller.finish(self, poll, ConnectError(error.message, port=self.link.name))

    def _up(self) -> None:
        _log.info("bus connected", bus=self.file.name, port=self.link.name)
        self._poller.revive(self)
        self.pump()

    def _down(self, error: MetergateError) -> None:
        _log.warning("bus lost", bus=self.file.name, port=self.link.name, why=error.message)
        self.pump()


class Poller:
    """See the module. `run` until cancelled.

    put: takes a row, False when there is no room. pressure: 0 … 1, how full the outbox's memory is: above 0 polling
    slows down, at 1 it stops.
    """

    def __init__(
        self,
        plan: Plan,
        *,
        clock: Clock,
        rng: random.Random,
        backoff: Backoff,
        put: Callable[[Row], bool],
        pressure: Callable[[], float],
        look_s: float = _IDLE_SLEEP_S,
        link: LinkMaker = make_link,
    ) -> None:
        """look_s: [s] the longest pause between two looks while no meter is due. link: what makes a bus's link."""
        self.clock = clock
        self.make_link = link
        self._look_s = look_s
        self.counters = dict.fromkeys(
            (
                "polls",
                "requests",
                "demands",
                "readings",
                "failed_reads",
                "skipped",
                "not_kept",
                "stopped",
                "clock_steps",
            ),
            0,
        )
        self.meters_silent = 0
        self._rng = rng
        self._backoff = backoff
        self._put = put
        self._pressure = pressure
        self._order = itertools.count()
        self._due: list[tuple[float, int, Bus, MeterPoll]] = []
        self._owed: deque[Event] = deque()
        self._full = False
        self._stretch = 1
        self._closed = False
        self._awake = asyncio.Event()
        self._wake_at = 0.0
        self._watch = ClockWatch(clock.now_ms(), clock.monotonic())
        self._by_meter: dict[str, tuple[Bus, MeterPoll]] = {}
        self.buses = {file.name: Bus(self, file, rng) for file in plan.buses}
        self._place(plan, {})

    async def run(self) -> None:
        """Poll until cancelled, then close all connections."""
        try:
            while True:
                await self._sleep(self.tick())
        finally:
            self._closed = True
            for bus in self.buses.values():
                bus.close()

    async def _sleep(self, seconds: float) -> None:
        """Wait; a poll that becomes due earlier (`_push`) ends it, but not more often than every millisecond."""
        self._awake.clear()
        self._wake_at = self.clock.monotonic() + seconds
        try:
            await self.clock.timeout(self._awake.wait(), seconds)
        except TimeoutError:
            return
        await self.clock.sleep(_LEAST_SLEEP_S)

    def tick(self) -> float:
        """Do what is due now; return the seconds until the next look."""
        now = self.clock.monotonic()
        self._look_at_clock(now)
        for bus in self.buses.values():
            if bus.link.busy:
                bus.link.expire(now)
        self._settle_events()
        if self._stopped():
            return _IDLE_SLEEP_S
        due = self._due
        while due and due[0][0] <= now:
            when, _, bus, poll = heapq.heappop(due)
            if when != poll.due or poll.retired:
                continue
            bus.ready.append(poll)
            bus.pump()
        waiting = any(bus.link.busy for bus in self.buses.values())
        most = _WAITING_SLEEP_S if waiting else _IDLE_SLEEP_S if self._owed else self._look_s
        return max(_LEAST_SLEEP_S, min(most, due[0][0] - self.clock.monotonic())) if due else most

    def finish(self, bus: Bus, poll: MeterPoll, error: MetergateError | None) -> None:
        """Make the rows of a finished poll and say when the meter is asked next."""
        if self._closed:
            return
        if poll.retired:  # the plan changed while it was under way: what came is kept, and nothing follows
            if poll.has_index:
                self.take(poll.reading())
            return
        now, now_ms = self.clock.monotonic(), self.clock.now_ms()
        self.counters["polls"] += 1
        if poll.has_index:
            self._keep(poll, now, now_ms, bus)
            return
        self.counters["failed_reads"] += 1
        cause, text = (cause_of(error), error.message) if error is not None else poll.index_fault()
        if not poll.failures:
            bus.silent += 1
            self.meters_silent += 1
        if (event := poll.note_failure(cause, text, now_ms)) is not None:
            self._tell(event)
        self._push(bus, poll, poll.retry_due(now, self._backoff, bus.silent, self._rng))

    def revive(self, bus: Bus) -> None:
        """A connection came: ask the meters that failed for want of it, soon and spread."""
        now = self.clock.monotonic()
        waiting = [poll for poll in bus.polls if poll.why == "connect" and poll.due > now]
        for place, poll in enumerate(waiting):
            poll.due = now + min(_RETURN_S, poll.meter.interval_s) * place / len(waiting)
            self._push(bus, poll, poll.due)  # the entry of its former due time is passed over, see `tick`

    def take(self, reading: Reading) -> bool:
        """Hand a reading to the outbox and count it; False when there is no room."""
        kept = self._put(reading)
        self.counters["readings" if kept else "not_kept"] += 1
        return kept

    def find(self, meter: str) -> tuple[Bus, MeterPoll] | None:
        """Return where a meter hangs, None when it is not polled here."""
        return self._by_meter.get(meter)

    def soon(self, bus: Bus, poll: MeterPoll) -> None:
        """A silent meter gave a sign of life: ask it at once instead of after its pause."""
        if poll.failures and not poll.retired:
            poll.due = self.clock.monotonic()
            self._push(bus, poll, poll.due)

    def adopt(self, plan: Plan) -> None:
        """Go on by another plan. Buses and meters that stay the same stay as they are, also in mid-read."""
        before = {poll.meter.meter: poll for bus in self.buses.values() for poll in bus.polls}
        kept = {bus.name: self.buses[bus.name] for bus in plan.buses if self._has(bus)}
        gone = [bus for bus in self.buses.values() if bus.file.name not in kept]
        self.buses = {file.name: kept.get(file.name) or Bus(self, file, self._rng) for file in plan.buses}
        self._place(plan, before)
        staying = {id(poll) for bus in self.buses.values() for poll in bus.polls}
        for poll in before.values():
            poll.retired = id(poll) not in staying
        for bus in self.buses.values():
            staying_ready = [poll for poll in bus.ready if not poll.retired]
            bus.ready.clear()  # the same deque, because `pump` may be looking at it
            bus.ready.extend(staying_ready)
            bus.silent = sum(1 for poll in bus.polls if poll.failures)
        self.meters_silent = sum(bus.silent for bus in self.buses.values())
        for bus in gone:
            bus.close()

    def _has(self, file: BusFile) -> bool:
        return file.name in self.buses and self.buses[file.name].file == file

    def _place(self, plan: Plan, before: Mapping[str, MeterPoll]) -> None:
        """Spread the meters of each bus over their interval, the buses against each other; known ones stay."""
        maker, now = StepMaker(), self.clock.monotonic()
        groups: dict[str, list[MeterPoll]] = {name: [] for name in self.buses}
        counts = Counter(meter.bus.name for meter in plan.meters)
        at_home = {id(poll) for bus in self.buses.values() for poll in bus.polls}
        for meter in plan.meters:
            group, known = groups[meter.bus.name], before.get(meter.meter)
            if known is not None and known.meter == meter and id(known) in at_home:
                group.append(known)
                continue
            share = (len(group) + self._rng.random()) / counts[meter.bus.name]
            poll = MeterPoll(meter, maker, phase=now + share * meter.interval_s, before=known)
            if known is not None:
                poll.inherit(known)
            group.append(poll)
            self._push(self.buses[meter.bus.name], poll, poll.due)
        for name, polls in groups.items():
            self.buses[name].polls = polls
        self._by_meter = {p.meter.meter: (bus, p) for bus in self.buses.values() for p in bus.polls}

    def _push(self, bus: Bus, poll: MeterPoll, due: float) -> None:
        if poll.retired:
            return
        heapq.heappush(self._due, (due, next(self._order), bus, poll))
        if due < self._wake_at:
            self._wake_at = due
            self._awake.set()

    def _keep(self, poll: MeterPoll, now: float, now_ms: int, bus: Bus) -> None:
        self.take(poll.reading())
        recovered = bool(poll.failures)
        if recovered:
            bus.silent -= 1
            self.meters_silent -= 1
            if (event := poll.succeeded(now_ms)) is not None:
                self._tell(event)
        before = poll.skipped
        due = poll.next_due(now, stretch=self._stretch, recovered=recovered)
        self.counters["skipped"] += poll.skipped - before
        self._push(bus, poll, due)

    def _stopped(self) -> bool:
        """Reads become rarer while rows pile up, and stop while there is no room for what they bring; said once."""
        pressure = self._pressure()
        full = pressure >= 1
        self._stretch = _MOST_STRETCH if full else min(_MOST_STRETCH, int(1 / (1 - pressure)))
        if full and not self._full:
            text = "memory for rows is full while the disk refuses them: reading stops until there is room"
            _log.error(text)
            self.counters["stopped"] += 1
            self._tell(Event(kind="outbox_full", at=self.clock.now_ms(), cause="outbox_full", text=text))
        elif self._full and not full:
            _log.warning("reading goes on")
        self._full = full
        return full

    def _look_at_clock(self, now: float) -> None:
        now_ms = self.clock.now_ms()
        if step := self._watch.step(now_ms, now):
            self.counters["clock_steps"] += 1
            text = f"the host's clock was set {'forward' if step > 0 else 'back'} by {abs(step) / 1000:.1f} s"
            _log.warning("clock step", step_ms=step)
            self._tell(Event(kind="clock_step", at=now_ms, cause="forward" if step > 0 else "back", text=text))

    def _tell(self, event: Event) -> None:
        self._owed.append(event)
        self._settle_events()

    def _settle_events(self) -> None:
        while self._owed and self._put(self._owed[0]):
            self._owed.popleft()


def _fail(answer: asyncio.Future[bytes], error: MetergateError) -> None:
    if not answer.done():
        answer.set_exception(error)


def silent_meters(buses: Iterable[Bus]) -> list[str]:
    """Return the ids of the meters whose last read failed."""
    return [poll.meter.meter for bus in buses for poll in bus.polls if poll.failures]
