"""`metergate office`: manual, imported and adopted readings go from the registry to ingest."""

from __future__ import annotations

import random

from metergate import __version__
from metergate.console import errors_as_words
from metergate.office import run_office
from metergate.running import ConfigOption, prepare, registry, run
from metering.clock import SystemClock


def office(config: ConfigOption = None) -> None:
    """Send what clerks and files posted to ingest, as gateway `office`, until ingest has it.

    Example: metergate office --config metergate.toml
    """
    with errors_as_words():
        settings = prepare(config, "office")
        with registry(settings) as database:
            run(
                lambda stop: run_office(
                    settings.office,
                    broker=settings.broker,
                    database=database,
                    clock=SystemClock(),
                    rng=random.Random(),
                    version=__version__,
                    stop=stop,
                )
            )
