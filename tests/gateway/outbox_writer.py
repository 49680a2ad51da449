"""A process that appends rows to an outbox and says on stdout which appends returned; a test kills it.

python -m tests.gateway.outbox_writer PATH PREFIX
"""

from __future__ import annotations

import asyncio
import random
import sys
from pathlib import Path

from gateway.outbox import Outbox
from metering.clock import SystemClock
from metering.reading import Reading


async def write(path: Path, prefix: str) -> None:
    clock = SystemClock()
    outbox = Outbox(path, gateway="gw", clock=clock, rng=random.Random(prefix), commit_interval_s=0.0)
    await outbox.open()
    print(f"epoch {outbox.epoch} next {outbox.next}", flush=True)
    number = 0
    while True:
        size = 1 + number % 7
        names = [f"{prefix}-{number + i}" for i in range(size)]
        await outbox.append([Reading(name, clock.now_ms(), {"volume": number}) for name in names])
        print("\n".join(names), flush=True)
        if number % 5 == 0 and outbox.produced > 40:
            outbox.acknowledge([(outbox.oldest, outbox.oldest + 2)])
        number += size


if __name__ == "__main__":
    asyncio.run(write(Path(sys.argv[1]), sys.argv[2]))
