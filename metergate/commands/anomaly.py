"""`metergate anomaly`: the rules follow what is stored and keep the list of findings."""

from __future__ import annotations

from anomaly.service import run_anomaly
from metergate.console import errors_as_words
from metergate.running import ConfigOption, prepare, registry, run
from metergate.stores import make_store
from metering.clock import SystemClock


def anomaly(config: ConfigOption = None) -> None:
    """Judge what ingest stores, at once and each hour, and keep the findings in the registry.

    Example: metergate anomaly --config metergate.toml
    """
    with errors_as_words():
        settings = prepare(config, "anomaly")
        with registry(settings) as database:
            clock = SystemClock()
            store = make_store(settings.store, "read", clock)
            run(
                lambda stop: run_anomaly(
                    settings.anomaly,
                    broker=settings.broker,
                    database=database,
                    store=store,
                    clock=clock,
                    stop=stop,
                    alarms=settings.alarms,
                )
            )
