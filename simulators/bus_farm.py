"""Meters on serial buses, in a process of its own: pseudo-terminals and TCP boxes at the speed of the wire.

    python -m simulators.bus_farm --config buses.toml --log answers.tsv

Its first line on stdout is one JSON object that says where each bus is; it ends on SIGTERM or SIGINT with the answer
log in its file. Settings and faults are described in `docs/simulators.md`.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import signal
import sys
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from gateway.profile import Profile
from gateway.profiles import load_profiles
from gateway.protocols.framing import StreamSplitter
from metering.clock import Clock, SystemClock
from metering.errors import SettingsError
from metering.settings import nearest
from simulators import bus_cjt188, bus_dlt645, bus_iec62056, bus_mbus, bus_modbus
from simulators.answer_log import AnswerLog, NoAnswerLog
from simulators.bus_control import BusControl
from simulators.bus_line import BusLine, Speaker
from simulators.bus_meter import BusMeter, Spoken
from simulators.bus_ports import PtyPort, TcpServerPort
from simulators.bus_settings import BusFarmSettings, BusMeterSettings, SimulatedBusSettings, load_bus_farm
from simulators.consumption import Curve
from simulators.register_image import RegisterImage

_FLUSH_S: Final = 0.1
_LEAST_STEP: Final = 10_000


@dataclass
class Voice:
    """One protocol on one line (`bus_line.Speaker`), put together from functions."""

    meters: list[BusMeter]
    splitter: StreamSplitter
    find_in: Callable[[list[BusMeter], bytes], list[BusMeter]]
    answer_as: Callable[[BusMeter, bytes, int], Spoken | None]
    other: Callable[[bytes], bytes]

    def find(self, raw: bytes) -> list[BusMeter]:
        """Return the meters that feel addressed."""
        return self.find_in(self.meters, raw)

    def answer(self, meter: BusMeter, raw: bytes, now_ms: int) -> Spoken | None:
        """Return a meter's good answer."""
        return self.answer_as(meter, raw, now_ms)

    def other_address(self, raw: bytes) -> bytes:
        """Return an answer as if another meter had given it."""
        return self.other(raw)


class BusFarm:
    """All buses of one `BusFarmSettings`. Starting opens the ports; closing twice is harmless."""

    def __init__(
        self,
        settings: BusFarmSettings,
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
        self.meters: dict[str, BusMeter] = {}
        self.lines: dict[str, BusLine] = {}
        self.ports: dict[str, PtyPort | TcpServerPort] = {}
        self.control_port: int | None = None
        self._clock = clock
        self._profiles = load_profiles(*settings.profiles) if profiles is None else profiles
        self._check_profiles()
        self._curves = curves or {}
        self._flush_s = flush_s
        self._log = log or (AnswerLog(settings.log) if settings.log else NoAnswerLog())
        for bus in settings.bus:
            self._add(bus)
        self.control = BusControl(self.meters, self.ports, clock, stats=self.stats, flush=self._log.flush)
        self._server: asyncio.Server | None = None
        self._flusher: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Open all ports. Raises: OSError naming what is taken."""
        for port in self.ports.values():
            await port.open()
        if self.settings.control_port is not None:
            self._server = await asyncio.start_server(self.control.serve, "127.0.0.1", self.settings.control_port)
            self.control_port = self._server.sockets[0].getsockname()[1]
        self._flusher = asyncio.create_task(self._flush_often())

    async def close(self) -> None:
        """Close all ports and put the log into its file."""
        if self._server is not None:
            self._server.close()
        for line in self.lines.values():
            line.close()
        for port in self.ports.values():
            port.close()
        if self._flusher:
            self._flusher.cancel()
        self._log.close()

    def path(self, bus: str) -> str:
        """Return where a bus is: device path, or host:port."""
        return self.ports[bus].path

    def stats(self) -> dict[str, Any]:
        """Return what each bus measured [s], and how many meters are sick."""
        buses = {
            name: {
                "requests": line.stats.requests,
                "answers": line.stats.answers,
                "elapsed_s": line.stats.ended - line.stats.began,
                "ideal_s": line.stats.ideal,
                "waited_s": line.stats.waited,
                "waits": line.stats.waits,
                "overshoot_s": line.stats.overshoot,
            }
            for name, line in self.lines.items()
        }
        return {
            "meters": len(self.meters),
            "sick": sum(meter.is_sick for meter in self.meters.values()),
            "buses": buses,
        }

    def greeting(self) -> dict[str, Any]:
        """Say where everything is."""
        return {
            "event": "listening",
            "buses": {name: port.path for name, port in self.ports.items()},
            "control_port": self.control_port,
            "meters": len(self.meters),
        }

    def _add(self, bus: SimulatedBusSettings) -> None:
        speakers = self._speakers(bus)
        rng = random.Random(self.settings.seed ^ zlib.crc32(bus.name.encode()))
        line = BusLine(bus, speakers, clock=self._clock, log=self._log, rng=rng)
        port: PtyPort | TcpServerPort
        if bus.kind == "pty":
            port = PtyPort(bus.link, line.received)
        else:
            port = TcpServerPort(self.settings.host, bus.port, line.received, telnet=bus.kind == "rfc2217")
        line.write = port.write
        self.lines[bus.name], self.ports[bus.name] = line, port

    def _speakers(self, bus: SimulatedBusSettings) -> list[Speaker]:
        groups: dict[str, list[BusMeter]] = {}
        images = bus_modbus.Images()
        for settings in bus.meter:
            meter = self.meters[settings.meter] = self._meter(settings, images)
            groups.setdefault(meter.profile.dialect.protocol, []).append(meter)
        return [_voice(protocol, meters, images, bus.baud) for protocol, meters in groups.items()]

    def _meter(self, settings: BusMeterSettings, images: bus_modbus.Images) -> BusMeter:
        profile, curve = self._profiles[settings.profile], self._curves.get(settings.meter)
        if profile.is_modbus:
            image = RegisterImage(profile)
            meter = BusMeter(settings, profile, seed=self.settings.seed, step=image.step, curve=curve)
            images.add(meter, image)
            return meter
        return BusMeter(settings, profile, seed=self.settings.seed, step=_step(profile), curve=curve)

    def _check_profiles(self) -> None:
        problems = [
            f"bus[{b}].meter[{m}].profile = {meter.profile!r}: "
            f"no such profile; {nearest(meter.profile, list(self._profiles))}"
            for b, bus in enumerate(self.settings.bus)
            for m, meter in enumerate(bus.meter)
            if meter.profile not in self._profiles
        ]
        if problems:
            raise SettingsError(problems)

    async def _flush_often(self) -> None:
        while True:
            await self._clock.sleep(self._flush_s)
            self._log.flush()


def _step(profile: Profile) -> int:
    """Return the last digit that a profile's index shows [10⁻⁶ of its house unit]."""
    protocol, item = profile.dialect.protocol, profile.index.item
    if protocol == "mbus":
        return bus_mbus.step_of(profile.index)
    if protocol == "cjt188":
        return bus_cjt188.step_of(item.decimals if item is not None else None)
    return _LEAST_STEP


def _voice(protocol: str, meters: list[BusMeter], images: bus_modbus.Images, baud: int) -> Speaker:
    if protocol == "modbus":
        return Voice(meters, bus_modbus.splitter(), images.find, images.answer, bus_modbus.other_address)
    if protocol == "cjt188":
        return Voice(meters, bus_cjt188.splitter(), bus_cjt188.find, bus_cjt188.answer, bus_cjt188.other_address)
    if protocol == "mbus":
        selection = bus_mbus.Selection()
        return Voice(meters, bus_mbus.splitter(), selection.find, bus_mbus.answer, bus_mbus.other_address)
    if protocol == "iec62056-21":
        talk = bus_iec62056.Talk(baud)
        return Voice(meters, bus_iec62056.splitter(), talk.find, talk.answer, bus_iec62056.other_address)
    return Voice(meters, bus_dlt645.splitter(), bus_dlt645.find, bus_dlt645.answer, bus_dlt645.other_address)


async def run_bus_farm(settings: BusFarmSettings, clock: Clock) -> None:
    """Serve until SIGTERM or SIGINT."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    farm = BusFarm(settings, clock)
    try:
        await farm.start()
        print(json.dumps(farm.greeting()), flush=True)
        await stop.wait()
    finally:
        await farm.close()


def main(arguments: list[str] | None = None) -> int:
    """Run a farm of buses from the command line; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m simulators.bus_farm", description=__doc__)
    parser.add_argument("--config", type=Path, required=True, help="settings of the buses, .toml")
    parser.add_argument("--log", type=Path, help="answer log; instead of the one in the settings")
    options = parser.parse_args(arguments)
    try:
        settings = load_bus_farm(options.config)
        asyncio.run(
            run_bus_farm(settings.model_copy(update={"log": options.log} if options.log else {}), SystemClock())
        )
    except (SettingsError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
