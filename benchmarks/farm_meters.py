"""How many meters one farm process holds at one poll a second each, with 99 of 100 answers within 20 ms.

    python -m benchmarks.farm_meters [--seconds 10] [--meters 5000 10000 20000 40000]

Each meter is asked for 20 registers once a second, spread evenly over the second, over one connection per 100 meters
(a serial server each). The time of an answer is from the write of its request to its last byte, the load's own delays
included: this process and the farm share the machine. One JSON object per number of meters on stdout.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
import time
from collections import deque
from pathlib import Path
from typing import Final, cast

import psutil
import uvloop

from benchmarks.farm_ceiling import REGISTERS, ROOT, request_of
from simulators.farm_settings import FarmSettings, MeterSettings, spread

PER_PORT: Final = 100
TICK_S: Final = 0.002


class Asker(asyncio.Protocol):
    """One connection; answers come in the order of the requests."""

    def __init__(self, took: list[float]) -> None:
        self._took = took
        self._asked: deque[float] = deque()
        self._part = 0

    @property
    def owed(self) -> int:
        """Requests that are not answered."""
        return len(self._asked)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember where to write."""
        self._transport = cast(asyncio.Transport, transport)

    def ask(self, request: bytes) -> None:
        """Send one request."""
        self._asked.append(time.perf_counter())
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        """Time whole answers."""
        whole, self._part = divmod(self._part + len(data), 9 + 2 * REGISTERS)
        now = time.perf_counter()
        for _ in range(whole):
            self._took.append(now - self._asked.popleft())


async def load(ports: list[int], pid: int, profile: str, meters: int, seconds: float) -> dict[str, float]:
    """Poll all meters once a second and measure after two seconds of warming up."""
    took: list[float] = []
    loop = asyncio.get_running_loop()
    askers = [(await loop.create_connection(lambda: Asker(took), "127.0.0.1", port))[1] for port in ports]
    requests = [request_of(profile, 1 + number % PER_PORT) for number in range(PER_PORT)]
    order = [(askers[n % len(askers)], requests[n // len(askers)]) for n in range(meters)]
    farm, begun, sent, warm = psutil.Process(pid), time.perf_counter(), 0, False
    busy = 0.0
    while (now := time.perf_counter() - begun) < seconds + 2:
        if now >= 2 and not warm:
            took.clear()
            busy, warm = sum(farm.cpu_times()[:2]), True
        while sent < now * meters:
            asker, request = order[sent % meters]
            asker.ask(request)
            sent += 1
        await asyncio.sleep(TICK_S)
    busy = sum(farm.cpu_times()[:2]) - busy
    took.sort()
    return {
        "meters": meters,
        "answers_per_s": round(len(took) / seconds),
        "owed_at_the_end": sum(asker.owed for asker in askers),
        "p50_ms": round(1000 * took[len(took) // 2], 2),
        "p99_ms": round(1000 * took[len(took) * 99 // 100], 2),
        "farm_core_busy": round(busy / seconds, 2),
        "farm_mb": round(farm.memory_info().rss / 1e6),
    }


def measure(profile: str, curve: str, meters: int, seconds: float) -> dict[str, float]:
    """Run one farm and one load."""
    made = [MeterSettings(meter=f"M{n:06}", profile=profile, curve=curve) for n in range(meters)]
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "farm.json"
        config.write_text(FarmSettings(port=spread(made, per_port=PER_PORT)).model_dump_json())
        command = [sys.executable, "-m", "simulators.modbus_farm", "--config", str(config)]
        command += ["--log", str(Path(folder) / "answers.tsv")]
        with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT) as farm:
            try:
                assert farm.stdout
                ports = json.loads(farm.stdout.readline())["ports"]
                return uvloop.run(load(ports, farm.pid, profile, meters, seconds))
            finally:
                farm.terminate()


def main() -> None:
    """Measure each number of meters."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--meters", type=int, nargs="+", default=[5_000, 10_000, 20_000, 40_000])
    parser.add_argument("--profile", default="fuxin-corrector")
    parser.add_argument("--curve", default="household_gas")
    options = parser.parse_args()
    for meters in options.meters:
        print(json.dumps(measure(options.profile, options.curve, meters, options.seconds)), flush=True)


if __name__ == "__main__":
    main()
