"""Simulated meters that speak MQTT, each in the format of its platform, in a process of its own.

    python -m simulators.mqtt_meters --config meters.toml

Its first line on stdout is one JSON object; it ends on SIGTERM or SIGINT when the broker has taken what was on its
way, with the answer log in its file. Settings: `simulators.mqtt_settings`, formats: `simulators.mqtt_formats`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import sys
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Final

from gateway.protocols import sparkplug_b
from metering.clock import Clock, SystemClock
from metering.errors import FrameError, SettingsError
from metering.mqtt import MqttSession
from simulators.answer_log import AnswerLog, NoAnswerLog
from simulators.consumption import Curve
from simulators.mqtt_sender import MqttMeter, Sender, repeat
from simulators.mqtt_settings import MqttMetersSettings, load_mqtt_meters
from simulators.mqtt_sparkplug import EdgeNodeSimulator

_FLUSH_S: Final = 0.1
_LAST_WORDS_S: Final = 3.0


class MqttMeters:
    """All meters of one `MqttMetersSettings`; `run` until cancelled.

    meters: by name. first_due: [s of the monotonic clock] when each sends for the first time.
    """

    def __init__(
        self,
        settings: MqttMetersSettings,
        clock: Clock,
        *,
        curves: Mapping[str, Curve] | None = None,
        flush_s: float = _FLUSH_S,
        log: AnswerLog | None = None,
        client_id: str = "",
    ) -> None:
        """curves: by meter, instead of what the settings call theirs. flush_s: [s] between two writes of the log.

        log: one that is shared with other simulators, instead of the one in the settings. client_id: our name at the
        broker, made from seed and number of meters when empty.
        """
        self.settings = settings
        self._clock = clock
        self._flush_s = flush_s
        self._log = log or (AnswerLog(settings.log) if settings.log else NoAnswerLog())
        self._shares_log = log is not None
        given = curves or {}
        meters = [
            MqttMeter(each, seed=settings.seed, log=self._log, clock=clock, curve=given.get(each.meter))
            for each in settings.meter
        ]
        self.meters = {meter.settings.meter: meter for meter in meters}
        self.first_due: dict[str, float] = {}
        self._plain = [meter for meter in meters if meter.settings.format != "sparkplug"]
        self._nodes = self._make_nodes([meter for meter in meters if meter.settings.format == "sparkplug"])
        host = settings.wait_for_host
        self._session = MqttSession(
            settings.broker,
            client_id=client_id or f"sim-meters-{settings.seed}-{len(meters)}",
            clock=clock,
            subscriptions=[(f"{sparkplug_b.NAMESPACE}/STATE/{host}", 1)] if host else (),
        )
        self._busy: set[asyncio.Task[None]] = set()

    def _make_nodes(self, meters: list[MqttMeter]) -> list[EdgeNodeSimulator]:
        groups: dict[tuple[str, str], list[MqttMeter]] = {}
        for meter in meters:
            group, edge, _ = meter.settings.device.split("/")
            groups.setdefault((group, edge), []).append(meter)
        return [
            EdgeNodeSimulator(group, edge, mine, self.settings.broker, self._clock)
            for (group, edge), mine in groups.items()
        ]

    async def run(self) -> None:
        """Send until cancelled; then let the broker take what is on its way, and close the log."""
        links = [asyncio.ensure_future(link) for link in self._links()]
        timers: list[asyncio.Task[None]] = [asyncio.ensure_future(self._flush_often())]
        try:
            await self._wait_for_host()
            timers += self._timers()
            # unlike gather, wait leaves the connections up when we are cancelled: last words need them
            ended, _ = await asyncio.wait([*timers, *links], return_when=asyncio.FIRST_COMPLETED)
            for task in ended:
                task.result()
        finally:
            for timer in timers:
                timer.cancel()
            with suppress(TimeoutError):
                if self._busy:
                    await self._clock.timeout(asyncio.wait(self._busy), _LAST_WORDS_S)
            for link in links:
                link.cancel()
            await asyncio.gather(*timers, *links, return_exceptions=True)
            if not self._shares_log:
                self._log.close()

    def _links(self) -> list[Awaitable[None]]:
        found: list[Awaitable[None]] = [self._session.run()]
        for node in self._nodes:
            found += [node.session.run(), node.obey()]
        return found

    def _timers(self) -> list[asyncio.Task[None]]:
        sender = Sender(self._session, self._clock)
        jobs = [(meter, partial(sender.send_next, meter)) for meter in self._plain]
        jobs += [(meter, partial(node.send_next, meter)) for node in self._nodes for meter in node.meters]
        phases = [meter.chance.random() for meter, _ in jobs]
        now = self._clock.monotonic()
        for (meter, _), phase in zip(jobs, phases, strict=True):
            self.first_due[meter.settings.meter] = now + phase * meter.settings.interval_s
        return [
            asyncio.ensure_future(repeat(partial(self._shielded, job), meter.settings.interval_s, phase, self._clock))
            for (meter, job), phase in zip(jobs, phases, strict=True)
        ]

    async def _shielded(self, job: Callable[[], Awaitable[None]]) -> None:
        """What was logged is sent, also when we are told to end in between."""
        task = asyncio.ensure_future(job())
        self._busy.add(task)
        task.add_done_callback(self._busy.discard)
        await asyncio.shield(task)

    async def _wait_for_host(self) -> None:
        online = not self.settings.wait_for_host
        while not online:
            for delivery in await self._session.receive(10):
                delivery.ack()
                with suppress(FrameError):
                    online = sparkplug_b.decode_state(delivery.payload)

    async def _flush_often(self) -> None:
        while True:
            await self._clock.sleep(self._flush_s)
            self._log.flush()


async def run_meters(settings: MqttMetersSettings, clock: Clock) -> None:
    """Send until SIGTERM or SIGINT."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    print(json.dumps({"event": "sending", "meters": len(settings.meter)}), flush=True)
    work = asyncio.ensure_future(MqttMeters(settings, clock).run())
    stopped = asyncio.ensure_future(stop.wait())
    await asyncio.wait({work, stopped}, return_when=asyncio.FIRST_COMPLETED)
    stopped.cancel()
    work.cancel()
    with suppress(asyncio.CancelledError):
        await work


def main(arguments: list[str] | None = None) -> int:
    """Run from the command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m simulators.mqtt_meters", description=__doc__)
    parser.add_argument("--config", type=Path, required=True, help="settings of the meters, .toml or .json")
    parser.add_argument("--log", type=Path, help="answer log; instead of the one in the settings")
    options = parser.parse_args(arguments)
    try:
        settings = load_mqtt_meters(options.config)
        changes = {"log": options.log} if options.log else {}
        asyncio.run(run_meters(settings.model_copy(update=changes), SystemClock()))
    except (SettingsError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
