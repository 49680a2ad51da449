"""`metergate gateway | ingest | api | all`: each service built from the settings file, ended cleanly by SIGTERM."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Annotated, Any

import typer
import uvloop

from api.service import run_api
from gateway.plan import load_plan
from gateway.profiles import load_profiles
from gateway.service import run_gateway
from ingest.service import run_ingest
from metergate.commands.books import ConfigOption
from metergate.console import errors_as_words, say
from metergate.logs import configure
from metergate.settings import Settings, load_settings
from metergate.stores import make_store
from metergate.supervisor import Service, Supervisor, die_with_parent
from metergate.systemd import Notifier
from metering.clock import SystemClock
from registry.database import Database

Work = Callable[[asyncio.Event], Coroutine[Any, Any, None]]


def _run(work: Work, notifier: Notifier | None = None) -> None:
    """Run until the work ends or SIGTERM or Ctrl-C sets its stop event; tell systemd, where it started us.

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
        beating = asyncio.create_task(manager.keep_alive(SystemClock()))
        if notifier is None:
            manager.ready()
        try:
            await work(stop)
        finally:
            beating.cancel()

    die_with_parent()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())


def _prepare(config: Path | None, service: str) -> Settings:
    settings = load_settings(config)
    configure(settings.log, service)
    return settings


def _registry(settings: Settings) -> Database:
    database = Database(settings.registry.url)
    database.upgrade()
    return database


def gateway(
    config: ConfigOption = None,
    plan: Annotated[
        Path | None, typer.Option("--plan", help="Plan file; instead of the one in the settings.")
    ] = None,
) -> None:
    """Read meters by the plan, keep every reading on this disk, and hand it on until ingest has it.

    Example: metergate gateway --config metergate.toml --plan plan.toml
    """
    with errors_as_words():
        settings = _prepare(config, "gateway")
        checked = load_plan(plan or settings.gateway.plan, load_profiles())
        clock = SystemClock()
        _run(
            lambda stop: run_gateway(
                settings.gateway,
                checked,
                broker=settings.broker,
                field_broker=settings.field_broker,
                clock=clock,
                stop=stop,
            )
        )


def ingest(config: ConfigOption = None) -> None:
    """Take readings from the broker, check them, store them once, acknowledge them.

    Example: metergate ingest --config metergate.toml
    """
    with errors_as_words():
        settings = _prepare(config, "ingest")
        with contextlib.closing(_registry(settings)) as database:
            clock = SystemClock()
            store = make_store(settings.store, "write", clock)
            _run(
                lambda stop: run_ingest(
                    settings.ingest, broker=settings.broker, database=database, store=store, clock=clock, stop=stop
                )
            )


def api(config: ConfigOption = None) -> None:
    """Serve what is stored: meters, latest values, ranges, gateways with their ledger, events, quarantine.

    Example: metergate api --config metergate.toml
    """
    with errors_as_words():
        settings = _prepare(config, "api")
        with contextlib.closing(_registry(settings)) as database:
            clock = SystemClock()
            store = make_store(settings.store, "read", clock)
            notifier = Notifier.from_environment()
            _run(
                lambda stop: run_api(
                    settings.api,
                    database=database,
                    store=store,
                    clock=clock,
                    stop=stop,
                    on_ready=lambda _: notifier.ready(),
                ),
                notifier,
            )


def all_services(
    config: ConfigOption = None,
    gateway_too: Annotated[bool, typer.Option("--gateway/--no-gateway", help="Run a gateway as well.")] = True,
    logs: Annotated[Path, typer.Option(help="Folder for the services' logs.")] = Path("var/log"),
) -> None:
    """Run ingest, API and a gateway on this host, each in a process of its own that is started again when it dies.

    Example: metergate all --config metergate.toml
    """
    with errors_as_words():
        load_settings(config)  # say what is wrong before anything starts
        chosen = ("--config", str(config)) if config else ()
        names = ["ingest", "api", *(["gateway"] if gateway_too else [])]
        services = [Service(name, "metergate", (name, *chosen)) for name in names]
        logs.mkdir(parents=True, exist_ok=True)

        async def work(stop: asyncio.Event) -> None:
            supervisor = Supervisor(services, logs, SystemClock())
            await supervisor.start()
            say(f"{', '.join(names)} run; logs in {logs}; Ctrl-C ends them")
            try:
                await stop.wait()
            finally:
                await supervisor.stop()

        _run(work)
