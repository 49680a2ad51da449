"""What every service needs around it: settings, logs, a stop event set by SIGTERM, systemd's notifications."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
import uvloop

from metergate.logs import configure
from metergate.settings import Settings, load_settings
from metergate.systemd import Notifier
from metering.clock import SystemClock

if TYPE_CHECKING:
    from registry.database import Database

ConfigOption = Annotated[Path | None, typer.Option("--config", "-c", help="Settings file; defaults when not given.")]
Work = Callable[[asyncio.Event], Coroutine[Any, Any, None]]


def run(work: Work, notifier: Notifier | None = None, hangup: asyncio.Event | None = None) -> None:
    """Run until the work ends or SIGTERM or Ctrl-C sets its stop event; tell systemd, where it started us.

    hangup: set at each SIGHUP, by which a service is asked to look at its files again; without one SIGHUP ends it.

    notifier: given by a service that says itself when it is ready. The others are ready when they run: they wait for
    broker, store and registry by themselves, and /readyz tells for which.
    """
    manager = notifier or Notifier.from_environment()

    async def main() -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()

        def end() -> None:
            manager.stopping()
            stop.set()

        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, end)
        if hangup is not None:
            loop.add_signal_handler(signal.SIGHUP, hangup.set)
        beating = asyncio.create_task(manager.keep_alive(SystemClock()))
        if notifier is None:
            manager.ready()
        try:
            await work(stop)
        finally:
            beating.cancel()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())


def prepare(config: Path | None, service: str) -> Settings:
    """Read the settings and set up this process's logs. Raises: SettingsError."""
    settings = load_settings(config)
    configure(settings.log, service)
    return settings


@contextlib.contextmanager
def registry(settings: Settings) -> Iterator[Database]:
    """Open the registry, brought up to date, and close it at the end. Raises: RegistryError."""
    from registry.database import Database  # only here: a gateway never needs SQLAlchemy, and it costs 40 MB

    database = Database(settings.registry.url)
    try:
        database.upgrade()
        yield database
    finally:
        database.close()
