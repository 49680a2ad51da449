"""One simulated MQTT meter: its index over time, its clock, what gets lost, and the log of what it said."""

from __future__ import annotations

import random
import zlib
from collections.abc import Awaitable, Callable
from typing import Final, Protocol

from metering.clock import Clock
from metering.errors import BrokerError
from metering.mqtt import MqttSession
from simulators.answer_log import asked_columns
from simulators.consumption import Curve, make_curve
from simulators.meter_clock import MeterClock
from simulators.mqtt_formats import FORMATS, Shown, payload_of
from simulators.mqtt_settings import MqttMeterSettings
from simulators.side_values import side_values
from simulators.simulated_meter import Log

_RETRY_S: Final = 0.2


class FlushedLog(Log, Protocol):
    """Where answers are noted and reach the operating system at once."""

    def flush(self) -> None:
        """Hand over what was noted."""


class MqttMeter:
    """See the module. `sample` shows the next moments, `note` logs them, `Sender` sends them."""

    def __init__(
        self,
        settings: MqttMeterSettings,
        *,
        seed: int,
        log: FlushedLog,
        clock: Clock,
        curve: Curve | None = None,
    ) -> None:
        """curve: instead of the one that the settings name."""
        self.settings = settings
        self.format = FORMATS[settings.format]
        self.counter = -1
        self.clock_error = MeterClock(round(settings.clock_error_s * 1000))
        self.chance = random.Random(zlib.crc32(settings.meter.encode()) ^ seed)
        self._clock = clock
        self._log = log
        self._asked = asked_columns(settings.meter, 0, 0, 0, 0)
        self._curve = curve or make_curve(
            settings.curve,
            seed=seed,
            meter=settings.meter,
            start_index=settings.start_index,
            step=self.format.step,
        )
        self._beside = side_values(self.format.medium, meter=settings.meter, seed=seed)
        self._last_ms = 0

    def sample(self) -> list[tuple[int, Shown]]:
        """Return (true time, what is shown) of the moments of the next message; [] when the clock has not ticked."""
        tick, count = self.format.tick_ms, self.settings.rows
        now = self._clock.now_ms() // tick * tick
        apart = max(tick, round(self.settings.interval_s * 1000 / count) // tick * tick)
        times = [now - apart * back for back in range(count - 1, -1, -1)]
        found = [(at, self._show(at)) for at in times if at > self._last_ms]
        self._last_ms = max(self._last_ms, now)
        return found

    def index_at(self, t_ms: int) -> int:
        """Return the index as its messages say it [10⁻⁶ house units]."""
        return self._curve.index(t_ms) // self.format.step * self.format.step

    def _show(self, at: int) -> Shown:
        index = self.index_at(at)
        values = {**self._beside(index, self._curve.flow(at), at), "volume": index}
        said = self.clock_error.shown_ms(at)
        return Shown(0 if self.settings.clock_dead else max(0, said), values)

    def note(self, rows: list[tuple[int, Shown]], outcome: str) -> None:
        """Log what is said. A format without times says only the last moment, now."""
        for at, shown in rows:
            self._log.add(at if self.format.own_time else self._clock.now_ms(), self._asked, shown.index, outcome)
        self._log.flush()  # before the message leaves: what a killed process has said is in the log


class Sender:
    """Sends a meter's messages over a session until they are accepted."""

    def __init__(self, session: MqttSession, clock: Clock) -> None:
        self._session = session
        self._clock = clock

    async def send_next(self, meter: MqttMeter) -> None:
        """One message of a meter: sampled, logged, sent; or lost on the radio."""
        write = meter.format.write
        rows = meter.sample()
        if not rows or write is None:
            return
        if meter.settings.format in ("wmbusmeters", "json-no-clock"):
            rows = rows[-1:]
        meter.counter += 1
        shown = [row for _, row in rows]
        topic, message = write(meter.settings.device, meter.counter, self._clock.now_ms(), shown)
        if meter.chance.random() < meter.settings.drop:
            meter.note(rows, "dropped")
            return
        if meter.settings.qos == 0 and not self._session.connected:
            meter.note(rows, "unsent")
            return
        meter.note(rows, "ok")
        times = 2 if meter.chance.random() < meter.settings.duplicate else 1
        for _ in range(times):
            await self.deliver(topic, payload_of(message), qos=meter.settings.qos, retain=meter.settings.retain)

    async def deliver(self, topic: str, payload: bytes, *, qos: int, retain: bool = False) -> None:
        """QoS 1: again and again until the broker has it. QoS 0: once."""
        while True:
            try:
                await self._session.publish(topic, payload, qos=qos, retain=retain)
                return
            except BrokerError:
                if qos == 0:
                    return
                await self._clock.sleep(_RETRY_S)


Work = Callable[[], Awaitable[None]]


async def repeat(work: Work, interval_s: float, phase: float, clock: Clock) -> None:
    """Call `work` each interval, for the first time after `phase` of it; what takes longer skips its turn."""
    due = clock.monotonic() + phase * interval_s
    while True:
        await clock.sleep(due - clock.monotonic())
        await work()
        due = max(due + interval_s, clock.monotonic())
