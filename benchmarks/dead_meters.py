"""What three dead meters of 32 cost the others: Modbus RTU at 9600 baud, an hour of virtual time.

    python -m benchmarks.dead_meters [--hours 1.0] [--timeout 0.5]

The gateway's own poller and drivers against simulated meters in memory, paced to the baud rate, on a clock that jumps
from one event to the next. Every meter is always due, so that the sweep time is the bus's own: time over readings of
the healthy 29, with and without the three dead ones on the bus.
"""

from __future__ import annotations

import argparse
import asyncio
import random
from typing import Any

import structlog

from gateway.links import serial_bus
from gateway.meter_poll import Backoff
from gateway.poller import Poller
from metering.reading import Reading, Row
from tests.gateway.drivers.buses import JumpClock, MemoryPort, farm_of, plan_of

METERS = 32
DEAD = 3


async def sweep_s(clock: JumpClock, *, dead: int, hours: float, timeout_s: float) -> tuple[float, int]:
    """Return [s] a sweep of the healthy meters takes, and how often dead ones were asked."""
    numbers = [n for n in range(1, METERS + 1) if n > DEAD or n <= dead]
    meters: list[dict[str, Any]] = [
        {"meter": f"G-{n}", "profile": "fuxin-corrector", "unit": n, "curve": "rest"}
        | ({"fault": {"kind": "silent"}} if n <= dead else {})
        for n in numbers
    ]
    farm = farm_of(clock, {"name": "b", "baud": 9600, "turnaround_s": 0.01, "meter": meters})
    bus = {"name": "b", "kind": "serial", "device": "m", "timeout_s": timeout_s}
    wanted = [{"meter": f"G-{n}", "profile": "fuxin-corrector", "unit": n, "bus": "b"} for n in numbers]
    plan = plan_of(bus, meters=[{**each, "interval_s": 0.05} for each in wanted])
    rows: list[int] = []

    def put(row: Row) -> bool:
        if isinstance(row, Reading):
            rows.append(row.read_at)
        return True

    poller = Poller(plan, clock=clock, rng=random.Random(5), backoff=Backoff(), put=put, pressure=lambda: 0.0)
    for each in poller.buses.values():
        port = MemoryPort(farm.lines["b"])
        each.link = serial_bus(
            each.file, port, clock=clock, rng=random.Random(1), counters=poller.counters,
            on_up=each._up, on_down=each._down,
        )  # fmt: skip
    task = asyncio.ensure_future(poller.run())
    await clock.sleep(hours * 3600)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    return hours * 3600 / (len(rows) / (METERS - DEAD)), poller.counters.get("timeout", 0)


def main() -> None:
    """Measure without and with the dead meters."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hours", type=float, default=1.0, help="virtual time of each run")
    parser.add_argument("--timeout", type=float, default=0.5, help="seconds an answer is waited for")
    options = parser.parse_args()
    structlog.configure(logger_factory=structlog.ReturnLoggerFactory())

    async def both() -> tuple[tuple[float, int], tuple[float, int]]:
        without, clock = JumpClock(), JumpClock()
        work = {"hours": options.hours, "timeout_s": options.timeout}
        alone = await without.work(sweep_s(without, dead=0, **work))
        return alone, await clock.work(sweep_s(clock, dead=DEAD, **work))

    (alone, _), (beside, asked) = asyncio.run(both())
    print(
        f"sweep of {METERS - DEAD} healthy meters: {alone:.3f} s alone, {beside:.3f} s beside {DEAD} dead ones "
        f"({beside / alone:.3f} x; the dead were asked {asked} times in {options.hours:g} h)"
    )


if __name__ == "__main__":
    main()
