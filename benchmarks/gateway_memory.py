"""Memory of a gateway with 1,000 meters, and how it grows.

    python -m benchmarks.gateway_memory [--minutes 10] [--interval 10] [--command service|metergate]

A farm of 1,000 simulated meters on 40 ports, a broker and a stand-in for ingest that acknowledges run beside it. The
gateway runs in a process of its own: `service` is `gateway.service` alone, `metergate` the command as installed.
One JSON object a line: RSS [MB] every tenth of the time, at the end first, last, peak and growth after the first
tenth (caches fill, connections open), and how many readings went through.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import psutil
import uvloop

from benchmarks.modbus_polls import OTHER_CORE, broker, say, start

METERS: Final = 1000
PER_PORT: Final = 25
PROFILES: Final = ("fuxin-corrector", "usw-ultrasonic", "abb-b23", "sdm630")


def main() -> None:
    """Measure, or be the gateway."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--interval", type=float, default=10.0, help="seconds between readings of a meter")
    parser.add_argument("--command", choices=["service", "metergate"], default="service")
    parser.add_argument("--subject", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--broker", type=int, default=0, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.subject:
        _be_the_gateway(options.subject, options.broker)
    else:
        _measure(options)


def _be_the_gateway(folder: Path, port: int) -> None:
    from gateway.plan import load_plan
    from gateway.profiles import load_profiles
    from gateway.service import run_gateway
    from gateway.settings import GatewaySettings
    from metering.clock import SystemClock
    from metering.mqtt import BrokerSettings

    async def run() -> None:
        plan = load_plan(folder / "plan.toml", load_profiles())
        settings = GatewaySettings(outbox=folder / "outbox.db")
        broker_settings, clock = BrokerSettings(port=port), SystemClock()
        stop = asyncio.Event()
        await run_gateway(settings, plan, broker=broker_settings, clock=clock, stop=stop, rng=random.Random(1))

    uvloop.run(run())


def _measure(options: argparse.Namespace) -> None:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        ports = _farm(stack, folder)
        port = broker(stack, folder)
        command = [sys.executable, "-m", "benchmarks.modbus_polls", "--subject", "acknowledge", "--broker", str(port)]
        start(stack, command, OTHER_CORE)
        _plan(folder, ports, options.interval)
        subject = _subject(stack, options.command, folder, port)
        process = psutil.Process(subject)
        series = []
        step = options.minutes * 6.0
        for turn in range(11):
            time.sleep(min(step, 20.0) if turn == 0 else step)
            series.append(round(process.memory_info().rss / 1e6, 1))
            say(minute=round(turn * options.minutes / 10, 1), rss_mb=series[-1])
        health = json.loads((folder / "health.json").read_text())
        say(
            command=options.command, meters=METERS, first_mb=series[0], last_mb=series[-1], peak_mb=max(series),
            growth_mb=round(series[-1] - series[1], 1), produced=health["produced"], waiting=health["waiting"],
            silent=health["meters_silent"], cpu_share=round(sum(process.cpu_times()[:2]) / (options.minutes * 60), 3),
        )  # fmt: skip


def _farm(stack: ExitStack, folder: Path) -> list[int]:
    meters = [
        {"meter": f"M{n:04}", "profile": PROFILES[n % len(PROFILES)], "unit": n % PER_PORT + 1} for n in range(METERS)
    ]
    groups = [{"meter": meters[n : n + PER_PORT]} for n in range(0, METERS, PER_PORT)]
    config = folder / "farm.json"
    config.write_text(json.dumps({"port": groups}))
    command = [sys.executable, "-m", "simulators.modbus_farm", "--config", str(config), "--no-log"]
    process = start(stack, command, OTHER_CORE)
    assert process.stdout
    ports: list[int] = json.loads(process.stdout.readline())["ports"]
    return ports


def _plan(folder: Path, ports: list[int], interval_s: float) -> None:
    lines = ['gateway = "bench"']
    for number, port in enumerate(ports):
        lines.append(f'[[bus]]\nname = "b{number}"\nhost = "127.0.0.1"\nport = {port}')
    for n in range(METERS):
        lines.append(
            f'[[meter]]\nmeter = "M{n:04}"\nbus = "b{n // PER_PORT}"\nunit = {n % PER_PORT + 1}\n'
            f'profile = "{PROFILES[n % len(PROFILES)]}"\ninterval_s = {interval_s}'
        )
    (folder / "plan.toml").write_text("\n".join(lines))


def _subject(stack: ExitStack, command: str, folder: Path, port: int) -> int:
    if command == "service":
        line = [sys.executable, "-m", "benchmarks.gateway_memory", "--subject", str(folder), "--broker", str(port)]
    else:
        config = folder / "metergate.toml"
        config.write_text(
            f'[broker]\nport = {port}\n[gateway]\nplan = "{folder}/plan.toml"\noutbox = "{folder}/outbox.db"\n'
        )
        line = [sys.executable, "-m", "metergate", "gateway", "--config", str(config)]
    return start(stack, line, min(os.sched_getaffinity(0))).pid


if __name__ == "__main__":
    main()
