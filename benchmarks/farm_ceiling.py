"""How many polls of 20 registers a simulated farm answers on one core.

    python -m benchmarks.farm_ceiling [--seconds 4] [--profile fuxin-corrector]

The load comes from this process: 100 raw connections over 4 ports, each with `depth` requests under way, that look
at an answer only to count it, so that the farm is the slower side. One JSON object per run on stdout: polls/s, the
farm's CPU µs per poll, and how busy the farm's core was (under 0.95 it was not at its ceiling). For comparison with a
polling client only depth 1 counts: such a client has one request per connection under way.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Final, cast

import psutil
import uvloop

from gateway.profiles import load_profiles
from simulators.farm_settings import FarmSettings, MeterSettings, spread

ROOT: Final = Path(__file__).parents[1]
METERS: Final = 100
PER_PORT: Final = 25
REGISTERS: Final = 20


class Hammer(asyncio.Protocol):
    """One client that sends the next request for each answer it gets."""

    def __init__(self, request: bytes, depth: int) -> None:
        self._request, self._depth = request, depth
        self._part = 0
        self.answers = 0
        self.wrong = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Fill the pipe."""
        self._transport = cast(asyncio.Transport, transport)
        self._transport.write(self._request * self._depth)

    def data_received(self, data: bytes) -> None:
        """Count whole answers by their length; look at the byte count of the last one."""
        whole, self._part = divmod(self._part + len(data), 9 + 2 * REGISTERS)
        self.answers += whole
        if self._part == 0 and data[-2 * REGISTERS - 1] != 2 * REGISTERS:
            self.wrong += 1
        if whole:
            self._transport.write(self._request * whole)


def settings_of(profile: str, curve: str) -> FarmSettings:
    """Return a farm of 100 equal meters on 4 free ports."""
    meters = [MeterSettings(meter=f"M{n:03}", profile=profile, curve=curve) for n in range(METERS)]
    return FarmSettings(port=spread(meters, per_port=PER_PORT))


def request_of(profile: str, unit: int) -> bytes:
    """Return the request for 20 registers that end with the index."""
    index = load_profiles()[profile].index
    start = max(0, index.stop - REGISTERS)
    pdu = bytes([index.function]) + start.to_bytes(2, "big") + REGISTERS.to_bytes(2, "big")
    return b"\x00\x01\x00\x00\x00\x06" + bytes([unit]) + pdu


async def hammer(ports: Sequence[int], pid: int, *, profile: str, depth: int, seconds: float) -> dict[str, float]:
    """Load a running farm and measure it after a second of warming up."""
    loop = asyncio.get_running_loop()
    clients: list[Hammer] = []
    for port in ports:
        for unit in range(1, PER_PORT + 1):
            request = request_of(profile, unit)
            _, client = await loop.create_connection(partial(Hammer, request, depth), "127.0.0.1", port)
            clients.append(client)
    await asyncio.sleep(1)
    farm = psutil.Process(pid)
    polls, busy, began = sum(c.answers for c in clients), sum(farm.cpu_times()[:2]), time.perf_counter()
    await asyncio.sleep(seconds)
    polls = sum(c.answers for c in clients) - polls
    busy, wall = sum(farm.cpu_times()[:2]) - busy, time.perf_counter() - began
    assert not sum(c.wrong for c in clients), "the farm gave answers of the wrong form"
    return {
        "polls_per_s": round(polls / wall),
        "cpu_us_per_poll": round(busy / polls * 1e6, 1),
        "farm_core_busy": round(busy / wall, 2),
    }


def measure(profile: str, curve: str, *, depth: int, seconds: float, log: bool) -> dict[str, object]:
    """Run one farm and one load."""
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "farm.json"
        config.write_text(settings_of(profile, curve).model_dump_json())
        command = [sys.executable, "-m", "simulators.modbus_farm", "--config", str(config)]
        command += ["--log", str(Path(folder) / "answers.tsv")] if log else ["--no-log"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT) as farm:
            try:
                assert farm.stdout
                ports = json.loads(farm.stdout.readline())["ports"]
                found = uvloop.run(hammer(ports, farm.pid, profile=profile, depth=depth, seconds=seconds))
            finally:
                farm.terminate()
    return {"profile": profile, "curve": curve, "depth": depth, "log": log, **found}


def main() -> None:
    """Measure depth 1 and 8, with and without the answer log."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--profile", default="fuxin-corrector")
    parser.add_argument("--curve", default="counting")
    options = parser.parse_args()
    for depth in (1, 8):
        for log in (False, True):
            found = measure(options.profile, options.curve, depth=depth, seconds=options.seconds, log=log)
            print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
