"""The office as a process that may kill itself -9 at a step: CONFIG [STEP] on its command line."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
from pathlib import Path

from metergate.office import run_office
from metergate.settings import load_settings
from metering.clock import SystemClock
from registry.database import Database


def main(config: Path, step: str) -> None:
    """Work for ever, or until the step comes."""
    settings = load_settings(config, {})

    def fault(reached: str) -> None:
        if reached == step:
            os.kill(os.getpid(), signal.SIGKILL)

    async def work() -> None:
        await run_office(
            settings.office,
            broker=settings.broker,
            database=Database(settings.registry.url),
            clock=SystemClock(),
            rng=random.Random(1),
            stop=asyncio.Event(),
            fault=fault,
        )

    asyncio.run(work())


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else "")
