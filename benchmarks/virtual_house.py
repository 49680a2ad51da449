"""Virtual hours per second of the whole chain: simulated meters on sockets to findings and orders, in one process.

    python -m benchmarks.virtual_house [--meters 1000] [--hours 24]

Healthy homes (gas, water, power) read once an hour. Prints one JSON line; CPU is what a busy machine disturbs least.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from pathlib import Path

from metergate.commands.simulate import play
from metergate.logs import LogSettings, configure
from metergate.workplace import workplace
from metering.clock import SystemClock
from metering.settings import parse
from simulators.scenario import Scenario

_GROUP = """
[[fleet]]
name = "{medium}"
count = {count}
medium = "{medium}"
customer_class = "residential"
profile = "{profile}"
gateway = "gw-{medium}"
"""
_PROFILES = {"gas": "fuxin-corrector", "water": "usw-ultrasonic", "electricity": "abb-b23"}


def scenario(meters: int, hours: float) -> Scenario:
    """Return homes of three media, a third each, without any event."""
    head = f"""title = "benchmark"
purpose = "speed"
seed = 1
start = "2026-03-01"
days = {hours / 24}
gather_s = 1800.0
"""
    shares = dict.fromkeys(_PROFILES, meters // 3)
    shares["gas"] += meters - sum(shares.values())
    groups = (_GROUP.format(medium=m, count=n, profile=_PROFILES[m]) for m, n in shares.items())
    return parse(head + "".join(groups), Scenario, name="benchmark")


def main() -> None:
    """Run it once."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--meters", type=int, default=1000)
    parser.add_argument("--hours", type=float, default=24.0)
    options = parser.parse_args()
    configure(LogSettings(level="error"), "benchmark")
    host = SystemClock()
    with tempfile.TemporaryDirectory() as folder, workplace(Path(folder) / "run") as place:
        began, before = host.monotonic(), os.times()
        house = play(scenario(options.meters, options.hours), place)
        took, after = host.monotonic() - began, os.times()
    cpu = after.user - before.user + after.system - before.system
    print(
        json.dumps(
            {
                "meters": options.meters,
                "virtual_hours": options.hours,
                "seconds": round(took, 1),
                "cpu_seconds": round(cpu, 1),
                "virtual_hours_per_second": round(options.hours / took, 2),
                "virtual_hours_per_cpu_second": round(options.hours / cpu, 2),
                "polls": house.frames.polls,
                "jumps": getattr(house.clock, "jumps", 0),
            }
        )
    )


if __name__ == "__main__":
    main()
