"""A Modbus TCP farm: hundreds of simulated meters behind a few ports, in a process of its own.

    python -m simulators.modbus_farm --config farm.toml --log answers.tsv

Its first line on stdout is one JSON object with the real ports; it ends on SIGTERM or SIGINT with the answer log in
its file. Settings, faults and the control line are described in `docs/simulators.md`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import signal
import sys
from collections.abc import Coroutine, Mapping
from pathlib import Path
from typing import Any, Final

from gateway.profile import Profile
from gateway.profiles import load_profiles
from metering.clock import Clock, SystemClock
from metering.errors import SettingsError
from metering.settings import nearest
from simulators.answer_log import AnswerLog, NoAnswerLog
from simulators.consumption import Curve
from simulators.farm_control import FarmControl
from simulators.farm_settings import FarmSettings, MeterSettings, PortSettings, load_farm
from simulators.modbus_server import MeterPort
from simulators.register_image import RegisterImage
from simulators.side_values import side_values
from simulators.simulated_meter import SimulatedMeter

_FLUSH_S: Final = 0.1


class Farm:
    """All meters of one `FarmSettings`. Starting binds the ports; closing twice is harmless."""

    def __init__(
        self,
        settings: FarmSettings,
        clock: Clock,
        *,
        profiles: Mapping[str, Profile] | None = None,
        curves: Mapping[str, Curve] | None = None,
        flush_s: float = _FLUSH_S,
        log: AnswerLog | None = None,
    ) -> None:
        """curves: by meter, instead of what the settings call theirs. flush_s: [s] between two writes of the log.

        log: one that is shared with other simulators, instead of the one in the settings.
        """
        self.settings = settings
        self._curves = curves or {}
        self._flush_s = flush_s
        self._clock = clock
        self._profiles = load_profiles(*settings.profiles) if profiles is None else profiles
        self._check_profiles()
        self._log = log or (AnswerLog(settings.log) if settings.log else NoAnswerLog())
        self.meters: dict[str, SimulatedMeter] = {}
        self._ports = [self._port(port) for port in settings.port]
        self._servers: list[asyncio.Server] = []
        self._flusher: asyncio.Task[None] | None = None
        self.ports: list[int] = []
        self.control_port: int | None = None
        self.control = FarmControl(self.meters, clock, stats=self.stats, flush=self._log.flush)

    async def start(self) -> None:
        """Listen. Raises: OSError naming the port that is taken."""
        loop = asyncio.get_running_loop()
        for port, settings in zip(self._ports, self.settings.port, strict=True):
            server = await loop.create_server(port.connection, self.settings.host, settings.port, backlog=1024)
            self._servers.append(server)
            self.ports.append(server.sockets[0].getsockname()[1])
        if self.settings.control_port is not None:
            server = await asyncio.start_server(self.control.serve, "127.0.0.1", self.settings.control_port)
            self._servers.append(server)
            self.control_port = server.sockets[0].getsockname()[1]
        self._flusher = asyncio.create_task(self._flush_often())

    async def close(self) -> None:
        """Stop listening, drop all clients, and put the log into its file."""
        for server in self._servers:
            server.close()
        for port in self._ports:
            port.close()
        if self._flusher:
            self._flusher.cancel()
        self._log.close()

    def hang_up(self, place: int) -> None:
        """Drop all clients of one port, by its place in the settings, as a link that breaks."""
        self._ports[place].close()

    def delay(self, place: int, seconds: float) -> None:
        """Let requests to one port take so long on their way; 0 ends it."""
        self._ports[place].delay_s = seconds

    def go_deaf(self, place: int, *, newcomers: bool) -> None:
        """Forget the clients of one port without a word: their connections stay, and nobody answers on them.

        newcomers: whether those that connect from now on are not answered either.
        """
        self._ports[place].go_deaf(newcomers=newcomers)

    @property
    def requests(self) -> int:
        """Whole requests that reached the meters since the start, also those that nobody answered."""
        return sum(port.requests for port in self._ports)

    def stats(self) -> dict[str, Any]:
        """Count what a person at the bench wants to know."""
        return {
            "meters": len(self.meters),
            "sick": sum(meter.is_sick for meter in self.meters.values()),
            "connections": sum(len(port.connections) for port in self._ports),
            "refused": sum(port.refused for port in self._ports),
        }

    def greeting(self) -> dict[str, Any]:
        """Say where everything listens; `ports` in the order of the settings."""
        return {
            "event": "listening",
            "host": self.settings.host,
            "ports": self.ports,
            "control_port": self.control_port,
            "meters": len(self.meters),
        }

    def _port(self, settings: PortSettings) -> MeterPort:
        meters: dict[int | None, SimulatedMeter] = {}
        for each in settings.meter:
            meters[None if settings.any_unit else each.unit] = self.meters[each.meter] = self._meter(each)
        return MeterPort(meters, self._clock)

    def _meter(self, settings: MeterSettings) -> SimulatedMeter:
        profile, seed = self._profiles[settings.profile], self.settings.seed
        image = RegisterImage(profile, gaps=settings.gaps)
        beside = side_values(profile.medium, meter=settings.meter, seed=seed)
        meter = SimulatedMeter(
            settings, image, beside, seed=seed, log=self._log, curve=self._curves.get(settings.meter)
        )
        if settings.flow:
            meter.set_flow(settings.flow, self._clock.now_ms())
        return meter

    def _check_profiles(self) -> None:
        wanted = {
            (p, m): each.profile for p, port in enumerate(self.settings.port) for m, each in enumerate(port.meter)
        }
        problems = [
            f"port[{p}].meter[{m}].profile = {name!r}: no such profile; {nearest(name, list(self._profiles))}"
            for (p, m), name in wanted.items()
            if name not in self._profiles
        ]
        if problems:
            raise SettingsError(problems)

    async def _flush_often(self) -> None:
        while True:
            await self._clock.sleep(self._flush_s)
            self._log.flush()


async def run_farm(settings: FarmSettings, clock: Clock) -> None:
    """Serve until SIGTERM or SIGINT."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    farm = Farm(settings, clock)
    try:
        await farm.start()
        print(json.dumps(farm.greeting()), flush=True)
        await stop.wait()
    finally:
        await farm.close()


def main(arguments: list[str] | None = None) -> int:
    """Run a farm from the command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m simulators.modbus_farm", description=__doc__)
    parser.add_argument("--config", type=Path, required=True, help="settings of the farm, .toml or .json")
    parser.add_argument("--log", type=Path, help="answer log; instead of the one in the settings")
    parser.add_argument("--no-log", action="store_true", help="keep no answer log (benchmarks)")
    options = parser.parse_args(arguments)
    try:
        settings = load_farm(options.config)
        changes = {"log": None} if options.no_log else {"log": options.log} if options.log else {}
        _run(run_farm(settings.model_copy(update=changes), SystemClock()))
    except (SettingsError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def _run(work: Coroutine[Any, Any, None]) -> None:
    """Run on uvloop where it exists: it serves about twice as many answers."""
    try:
        from uvloop import run
    except ImportError:
        asyncio.run(work)
    else:
        run(work)


if __name__ == "__main__":
    sys.exit(main())
