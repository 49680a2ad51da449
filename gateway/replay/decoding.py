"""A recording fed straight into the gateway's own drivers and decoders, on virtual time: same bytes, same readings.

Meters are polled in the recorded order at the recorded moments; the drivers' deadlines, debts of late answers and
counts are the real ones. No socket, no port and no waiting: the same recording gives the same outcome, always.
"""

from __future__ import annotations

import asyncio
import random
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from gateway.drivers.modbus_tcp import Ask, ModbusTcpLink
from gateway.drivers.mqtt_memory import MqttMemory
from gateway.drivers.mqtt_rows import Batch, RowMaker
from gateway.drivers.serial_bus import SerialBus
from gateway.drivers.serial_port import Line, Lost, Received
from gateway.links import Link, serial_bus
from gateway.meter_poll import MeterPoll, StepMaker, cause_of
from gateway.plan import BusFile, Plan, PlannedMeter
from gateway.replay.book import Book, Exchange, Said
from gateway.replay.clock import JumpClock
from gateway.replay.line import Pace, ReplayLine
from gateway.stamps import MeterStamps
from metering.errors import FrameError, MetergateError, TransportError
from metering.mqtt import Delivery
from metering.reading import Row
from metering.recording import Frame, Recording

_BEFORE_S: Final = 1.0
"""The line is opened so long before the first frame: it is silent then, as it was."""
_KINDS: Final = ("asked", "answered", "silent", "refused", "late", "foreign", "lost")


@dataclass(slots=True)
class Outcome:
    """What a recording came to. counts: by bus, meter and kind. skipped: exchanges that were not replayed."""

    rows: list[Row] = field(default_factory=list)
    counts: list[dict[str, Any]] = field(default_factory=list)
    skipped: int = 0
    notes: list[str] = field(default_factory=list)


class _MemoryPort:
    """A replayed line as a transport. expected: the exchange with which a poll must begin; any when None."""

    name = "recording"

    def __init__(self, line: ReplayLine) -> None:
        self.expected: Exchange | None = None
        self.differs = False
        self._line = line
        self._received: Received = lambda data: None

    async def open(self, line: Line, received: Received, lost: Lost) -> None:
        """Connect to the recording."""
        self._received = received
        self._line.write = received

    def write(self, data: bytes) -> None:
        """Ask the recording. Raises: TransportError when something else was recorded here."""
        expected, self.expected = self.expected, None
        if expected is not None and self._line.book.key_of(data)[0] != expected.key:
            self.differs = True
            raise TransportError("something else was asked here when it was recorded", port=self.name)
        self._line.play(self._line.book.take(data))

    def set_line(self, line: Line) -> None:
        """Nothing: the recording has its own speed."""

    def close(self) -> None:
        """Hear nothing more."""
        self._line.write = lambda data: None


class _MemoryWire(asyncio.Transport):
    """The same for Modbus TCP."""

    def __init__(self, port: _MemoryPort) -> None:
        super().__init__()
        self._port = port

    def write(self, data: Any) -> None:
        """Ask the recording."""
        self._port.write(bytes(data))

    def abort(self) -> None:
        """Hang up."""
        self._port.close()


def decode_recording(recording: Recording, plan: Plan) -> Outcome:
    """Return rows and counts of all buses of the plan that were recorded, in the plan's order of buses."""
    outcome = Outcome(notes=list(recording.faults))
    if recording.dropped:
        outcome.notes.append(f"{recording.dropped} lines were dropped when this was recorded")
    known = recording.buses
    by_bus: dict[str, list[Frame]] = defaultdict(list)
    for frame in recording.frames:
        by_bus["" if frame.topic else frame.bus].append(frame)
    for file in plan.buses:
        frames = by_bus.pop(file.name, [])
        if frames:
            book = Book(frames, known[file.name])
            asyncio.run(_Bus(file, plan, book, frames[0]).run(outcome))
    messages = by_bus.pop("", [])
    if messages and plan.mqtt:
        _take_messages(messages, plan, outcome)
    outcome.notes += [f'bus "{name}" was recorded and is not in the plan' for name in by_bus]
    return outcome


class _Bus:
    """Polls one bus as it was polled."""

    def __init__(self, file: BusFile, plan: Plan, book: Book, first: Frame) -> None:
        self._file = file
        self._book = book
        self._clock = JumpClock(first.at, first.t, before_s=_BEFORE_S)
        self._line = ReplayLine(book, self._clock, Pace(1.0, 0.0))
        self._port = _MemoryPort(self._line)
        self._counters: dict[str, int] = {}
        maker = StepMaker()
        mine = [meter for meter in plan.meters if meter.bus.name == file.name]
        self._polls = {meter.meter: MeterPoll(meter, maker, phase=0.0) for meter in mine}

    async def run(self, outcome: Outcome) -> None:
        """Poll through the whole recording."""
        await self._clock.work(self._run(outcome))

    async def _run(self, outcome: Outcome) -> None:
        link = self._link()
        link.dial(self._file.timeout_s)
        self._line.play([Said(f.t - self._clock.monotonic(), f.data, tuple(f.pieces)) for f in self._book.before])
        try:
            for exchange in self._book.order:
                if exchange.used:
                    continue
                await self._wait_for(exchange)
                poll = self._polls.get(exchange.meter)
                if poll is None or not _begins(poll, exchange) or not await self._poll(link, poll, exchange, outcome):
                    self._book.skip(exchange)
                    outcome.skipped += 1
            while self._line.busy:
                await self._clock.sleep(0.1)
            self._count(link, outcome)
        finally:
            link.close()
            self._line.close()

    async def _wait_for(self, exchange: Exchange) -> None:
        rest = exchange.t - self._clock.monotonic()
        if rest > 0:
            await self._clock.sleep(rest)

    async def _poll(self, link: Link, poll: MeterPoll, exchange: Exchange, outcome: Outcome) -> bool:
        """Poll once; False when this exchange began no poll of ours."""
        poll.begin(self._clock.monotonic())
        self._port.expected, self._port.differs = exchange, False
        error: MetergateError | None = None
        goes_on = True
        while goes_on:
            try:
                data = await link.read(poll.step.ask, poll.meter.timeout_s)
            except MetergateError as refusal:
                error, goes_on = refusal, poll.refused(refusal)
            else:
                try:
                    goes_on = poll.answered(data, self._clock.now_ms())
                except FrameError as damage:
                    error, goes_on = damage, False
            if self._port.differs:
                return False
        self._finish(poll, error, outcome.rows)
        return True

    def _finish(self, poll: MeterPoll, error: MetergateError | None, rows: list[Row]) -> None:
        now_ms = self._clock.now_ms()
        if poll.has_index:
            rows.append(poll.reading())
            event = poll.succeeded(now_ms)
        else:
            cause, text = (cause_of(error), error.message) if error is not None else poll.index_fault()
            event = poll.note_failure(cause, text, now_ms)
        if event is not None:
            rows.append(event)

    def _link(self) -> Link:
        rng = random.Random(0)
        if self._file.is_serial:
            return serial_bus(self._file, self._port, clock=self._clock, rng=rng, counters=self._counters)

        async def connect(make: Callable[[], asyncio.Protocol]) -> None:
            protocol = make()
            self._line.write = protocol.data_received
            protocol.connection_made(_MemoryWire(self._port))

        return ModbusTcpLink(
            self._file.host, self._file.port, clock=self._clock, rng=rng, counters=self._counters, connect=connect
        )

    def _count(self, link: Link, outcome: Outcome) -> None:
        name = self._file.name
        outcome.counts += [_line(name, "", kind, number) for kind, number in sorted(self._counters.items())]
        if isinstance(link, SerialBus):
            outcome.counts += bus_counts(name, link, [poll.meter for poll in self._polls.values()])


def bus_counts(bus: str, link: SerialBus, meters: Iterable[PlannedMeter]) -> list[dict[str, Any]]:
    """Return what a serial bus counted: one line a meter and kind, those above 0."""
    found = []
    for meter in meters:
        count = link.counts.of(meter.bus_address)
        kinds = {kind: getattr(count, kind) for kind in _KINDS}
        kinds |= {f"damaged_{sort}": number for sort, number in sorted(count.damaged.items())}
        found += [_line(bus, meter.meter, kind, number) for kind, number in kinds.items() if number]
    if link.counts.echoes:
        found.append(_line(bus, "", "echoes", link.counts.echoes))
    return found


def _line(bus: str, meter: str, kind: str, count: int) -> dict[str, Any]:
    return {"bus": bus, "meter": meter, "kind": kind, "count": count}


def _begins(poll: MeterPoll, exchange: Exchange) -> bool:
    """Whether an exchange can be the first of a poll; serial masters may begin with other requests than the ask."""
    ask = poll.steps[0].ask
    return not isinstance(ask, Ask) or ask.tail == exchange.key


def _take_messages(frames: Iterable[Frame], plan: Plan, outcome: Outcome) -> None:
    """Feed recorded MQTT messages into the row maker, each at its recorded time."""
    memory = MqttMemory(Path("unused"), JumpClock(0, 0.0))  # never opened: what it knows stays in memory
    stamps: defaultdict[str, MeterStamps] = defaultdict(MeterStamps)
    maker = RowMaker(plan.mqtt, memory, lambda meter, now: stamps[meter].stamp(now)[0])
    for frame in frames:
        batch = Batch()
        maker.take(Delivery(frame.topic, frame.data, frame.qos, frame.retain), frame.at, batch)
        memory.stamps.update(batch.stamps)
        memory.counters.update(batch.counters)
        outcome.rows += batch.rows
    outcome.counts += [_line("mqtt", "", kind, number) for kind, number in maker.counters.items() if number]
