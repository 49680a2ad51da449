"""The tap: raw frames of buses and field topics, both ways, with monotonic and wall time. Off until it is wanted.

Switched on by settings (`gateway.tap`), by a file that `metergate record tap` writes beside the outbox, or by the
signed command `tap`; the last two always end by themselves. Off, a bus pays one comparison with None a frame. On, it
pays one append to a bounded queue: what finds no room is counted and written as a line, and no bus ever waits.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, Literal

import msgspec
import structlog

from gateway.drivers.mqtt_meters import MqttMeters
from gateway.drivers.serial_bus import SerialBus
from gateway.poller import Bus
from gateway.tap_files import TapFiles
from gateway.tap_pieces import Piece, Pieces
from gateway.tap_settings import TapSettings
from metering.clock import Clock, rfc3339
from metering.errors import SettingsError
from metering.mqtt import Delivery
from metering.recording import VERSION, Direction, Header, Line, Note, RecordedBus, encode_line
from metering.settings import nearest

ORDER_FILE: Final = "tap.json"
LONGEST_S: Final = 86_400
_TICK_S: Final = 0.1
_LOOK_S: Final = 1.0
_MESSAGE_BYTES: Final = 48 * 1024
_NO_COLONS: Final = str.maketrans("", "", "-:.")
Destination = Literal["file", "broker", "both"]
_log = structlog.get_logger(__name__)


class TapOrder(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True, frozen=True):
    """What is to be recorded. buses, meters: ids of the plan, all when empty. topics: MQTT messages too.

    until: [ms UTC] when it ends by itself, 0 for never (settings only).
    """

    until: int
    buses: tuple[str, ...] = ()
    meters: tuple[str, ...] = ()
    topics: bool = True
    to: Destination = "file"


@dataclass(slots=True)
class _State:
    order: TapOrder
    wanted: frozenset[str]
    header: Callable[[int], bytes]
    files: TapFiles | None
    publishes: bool


class Tap:
    """See the module. `run` until cancelled; `start` and `stop` at any time.

    buses, pushed: the present ones. publish: sends lines to the topic `tap`; False when there is no connection.
    """

    def __init__(
        self,
        settings: TapSettings,
        gateway: str,
        *,
        clock: Clock,
        buses: Callable[[], Iterable[Bus]],
        pushed: Callable[[], MqttMeters | None],
        publish: Callable[[bytes], bool] = lambda lines: False,
        orders: Path | None = None,
        program: str = "",
        look_s: float = _LOOK_S,
    ) -> None:
        self._look_s = look_s
        self.counters = dict.fromkeys(("tap_lines", "tap_dropped", "tap_disk_errors"), 0)
        self._settings = settings
        self._gateway = gateway
        self._clock = clock
        self._buses = buses
        self._pushed = pushed
        self._publish = publish
        self._orders = orders
        self._program = program
        self._queue: deque[Piece] = deque()
        self._pieces = Pieces()
        self._dropped = 0
        self._state: _State | None = None
        self._tapped: dict[int, object] = {}
        self._wake = asyncio.Event()
        self._order_seen = 0
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="tap")

    @property
    def order(self) -> TapOrder | None:
        """What is being recorded; None while it is off."""
        return self._state.order if self._state is not None else None

    def start(self, order: TapOrder) -> str:
        """Record from now on, instead of what was recorded; return a sentence. Raises: SettingsError, no such bus."""
        self._check(order)
        self.stop()
        header, files = partial(self._header, self._recorded_buses()), None
        if order.to != "broker":
            stamp = rfc3339(self._clock.now_ms())[:23].translate(_NO_COLONS)
            files = TapFiles(self._settings, f"tap-{self._gateway}-{stamp}", header)
        self._state = _State(order, frozenset(order.meters), header, files, order.to != "file")
        self.attach()
        self._wake.set()
        return self._sentence(order, files)

    def stop(self) -> None:
        """Stop recording; what was taken still reaches its file. Harmless when nothing is recorded."""
        state, self._state = self._state, None
        if state is None:
            return
        self._detach()
        self._hand_on(self._rest(), state)
        if state.files is not None:
            self._thread.submit(state.files.close)

    def close(self) -> None:
        """Stop, and return when all is in its file."""
        self.stop()
        self._thread.shutdown()

    def attach(self) -> None:
        """Listen to all wanted buses of the present plan."""
        if self._state is None:
            return
        order = self._state.order
        for bus in self._buses():
            if (not order.buses or bus.file.name in order.buses) and bus.link.tap is None:
                bus.link.tap = self._ear(bus)
                self._tapped[id(bus)] = bus
        pushed = self._pushed()
        if pushed is not None and order.topics and pushed.tap is None:
            pushed.tap = self._take_message
            self._tapped[id(pushed)] = pushed

    async def run(self) -> None:
        """Write what is recorded, obey orders and ends, until cancelled."""
        try:
            if self._settings.on:
                self._start_by_settings()
            while True:
                self._obey_file()
                if self._state is None:
                    await self._nap(self._look_s)
                    continue
                await self._clock.sleep(_TICK_S)
                await self._tick()
        finally:
            self.close()

    async def _tick(self) -> None:
        state, now = self._state, self._clock.now_ms()
        if state is None:
            return
        if state.order.until and now >= state.order.until:
            _log.info("the tap ends by itself", gateway=self._gateway)
            self.stop()
            return
        self.attach()
        lines = self._taken()
        if lines and (writing := self._hand_on(lines, state)) is not None:
            await asyncio.wrap_future(writing)  # no more than this and the queue is ever in memory

    async def _nap(self, seconds: float) -> None:
        self._wake.clear()
        try:
            await self._clock.timeout(self._wake.wait(), seconds)
        except TimeoutError:
            return

    def _start_by_settings(self) -> None:
        wanted = self._settings
        try:
            said = self.start(TapOrder(0, wanted.buses, wanted.meters, wanted.topics))
            _log.info("tap by settings", what=said)
        except SettingsError as error:
            _log.error("gateway.tap is not obeyed", why=error.message)

    def _obey_file(self) -> None:
        """Look whether somebody on this host wrote an order."""
        if self._orders is None:
            return
        try:
            seen = self._orders.stat().st_mtime_ns
            if seen == self._order_seen:
                return
            self._order_seen = seen
            order = msgspec.json.decode(self._orders.read_bytes(), type=TapOrder)
            if order.until > self._clock.now_ms():
                _log.info("tap by an order on this host", what=self.start(order))
            elif self._state is not None:
                self.stop()
                _log.info("tap ended by an order on this host")
        except FileNotFoundError:
            return
        except (OSError, msgspec.MsgspecError, SettingsError) as error:
            _log.warning("an order for the tap is not obeyed", file=self._orders.name, why=str(error))

    def _check(self, order: TapOrder) -> None:
        buses = {bus.file.name: bus for bus in self._buses()}
        meters = {poll.meter.meter for bus in buses.values() for poll in bus.polls}
        faults = [f'no bus "{name}"; {nearest(name, list(buses))}' for name in order.buses if name not in buses]
        faults += [
            f'no meter "{name}"; {nearest(name, sorted(meters))}' for name in order.meters if name not in meters
        ]
        if faults:
            raise SettingsError(faults)

    def _ear(self, bus: Bus) -> Callable[[str, bytes], None]:
        """Return what a link calls for all raw bytes; it knows who is being asked."""
        link, name, take = bus.link, bus.file.name, self._take
        if isinstance(link, SerialBus):
            here = link
            at_address = {poll.meter.bus_address: poll.meter.meter for poll in bus.polls}
            return lambda way, data: take(name, at_address.get(here.asking, ""), way, data, True)
        at_unit = {poll.meter.unit: poll.meter.meter for poll in bus.polls}
        return lambda way, data: take(name, at_unit.get(data[6], "") if len(data) > 6 else "", way, data, False)

    def _take(self, bus: str, meter: str, way: str, data: bytes, joins: bool) -> None:
        state = self._state
        if state is None or (state.wanted and meter not in state.wanted):
            return
        if len(self._queue) >= self._settings.queue_lines:
            self._dropped += 1
            return
        direction: Direction = "tx" if way == "tx" else "rx"
        self._queue.append(Piece(self._clock.monotonic(), self._clock.now_ms(), direction, bus, meter, data, joins))

    def _take_message(self, delivery: Delivery) -> None:
        if len(self._queue) >= self._settings.queue_lines:
            self._dropped += 1
            return
        self._queue.append(
            Piece(
                self._clock.monotonic(), self._clock.now_ms(), "rx", "mqtt", "", delivery.payload, False,
                delivery.topic, delivery.qos, delivery.retain,
            )
        )  # fmt: skip

    def _taken(self) -> list[Line]:
        """Return what is ready to be written, and what was dropped."""
        lines: list[Line] = []
        for _ in range(len(self._queue)):
            lines += self._pieces.add(self._queue.popleft())
        lines += self._pieces.settle(self._clock.monotonic())
        if self._dropped:
            dropped, self._dropped = self._dropped, 0
            self.counters["tap_dropped"] += dropped
            text = "no room in the queue; gateway.tap.queue_lines bounds it"
            lines.append(Note(self._clock.monotonic(), self._clock.now_ms(), "dropped", count=dropped, text=text))
        return lines

    def _rest(self) -> list[Line]:
        ended = Note(self._clock.monotonic(), self._clock.now_ms(), "ended")
        return [*self._taken(), *self._pieces.flush(), ended]

    def _hand_on(self, lines: list[Line], state: _State) -> Future[None] | None:
        """Give lines to the broker and to the thread that writes; a disk may take its time there."""
        raw = [encode_line(line) for line in lines]
        self.counters["tap_lines"] += len(raw)
        if state.publishes:
            self._send(raw, state.header(1))
        return self._thread.submit(self._save, raw, state.files) if state.files is not None else None

    def _save(self, raw: list[bytes], files: TapFiles) -> None:
        """In the tap's thread."""
        try:
            files.write(raw)
        except OSError as error:
            self.counters["tap_disk_errors"] += 1
            self._dropped += len(raw)
            if self.counters["tap_disk_errors"] == 1:
                _log.error("the tap cannot write", folder=str(self._settings.folder), why=error.strerror)

    def _send(self, raw: list[bytes], header: bytes) -> None:
        message, size = [header], 0
        for line in raw:
            if size + len(line) > _MESSAGE_BYTES:
                self._send_one(message)
                message, size = [header], 0
            message.append(line)
            size += len(line)
        self._send_one(message)

    def _send_one(self, message: list[bytes]) -> None:
        if len(message) > 1 and not self._publish(b"".join(message)):
            self._dropped += len(message) - 1

    def _recorded_buses(self) -> list[RecordedBus]:
        files = [bus.file for bus in self._buses()]
        pushed = [RecordedBus("mqtt", "mqtt")] if self._pushed() is not None else []
        return [*(RecordedBus(file.name, file.kind, file.baud, file.timeout_s) for file in files), *pushed]

    def _header(self, buses: list[RecordedBus], part: int) -> bytes:
        now, t = self._clock.now_ms(), self._clock.monotonic()
        return encode_line(Header(VERSION, self._gateway, now, t, part, self._program, buses))

    def _detach(self) -> None:
        for each in self._tapped.values():
            if isinstance(each, Bus):
                each.link.tap = None
            elif isinstance(each, MqttMeters):
                each.tap = None
        self._tapped.clear()

    def _sentence(self, order: TapOrder, files: TapFiles | None) -> str:
        what = ", ".join((*order.buses, *order.meters)) or "all buses"
        where = [files.name] if files is not None else []
        where += [f"the topic tap of {self._gateway}"] if order.to != "file" else []
        end = f" until {rfc3339(order.until)}" if order.until else ""
        return f"recording {what}{end} to {' and '.join(where)}"
