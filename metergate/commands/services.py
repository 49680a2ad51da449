"""`metergate ingest | api | all`: the services of the office side, ended cleanly by SIGTERM."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from api.service import run_api
from ingest.service import run_ingest
from metergate.command_office import make_command_office
from metergate.console import errors_as_words, say
from metergate.running import ConfigOption, prepare, registry, run
from metergate.settings import load_settings
from metergate.stores import make_store
from metergate.supervisor import Service, Supervisor
from metergate.systemd import Notifier
from metergate.workshop import make_workshop
from metering.clock import Clock, SystemClock
from registry import users
from registry.database import Database
from registry.settings import AccessSettings


def ingest(config: ConfigOption = None) -> None:
    """Take readings from the broker, check them, store them once, acknowledge them.

    Example: metergate ingest --config metergate.toml
    """
    with errors_as_words():
        settings = prepare(config, "ingest")
        with registry(settings) as database:
            clock = SystemClock()
            store = make_store(settings.store, "write", clock)
            run(
                lambda stop: run_ingest(
                    settings.ingest, broker=settings.broker, database=database, store=store, clock=clock, stop=stop
                )
            )


def api(config: ConfigOption = None) -> None:
    """Serve what is stored: meters, latest values, ranges, gateways with their ledger, events, quarantine.

    Example: metergate api --config metergate.toml
    """
    with errors_as_words():
        settings = prepare(config, "api")
        with registry(settings) as database:
            clock = SystemClock()
            store = make_store(settings.store, "read", clock)
            command_office = make_command_office(settings)
            welcome_first_admin(database, settings.access, clock)
            notifier = Notifier.from_environment()
            run(
                lambda stop: run_api(
                    settings.api,
                    database=database,
                    store=store,
                    clock=clock,
                    stop=stop,
                    on_ready=lambda _: notifier.ready(),
                    access=settings.access,
                    command_office=command_office,
                    alarms=settings.alarms,
                    audit=settings.audit,
                    orders=settings.orders,
                    billing=settings.billing,
                    outbound=settings.outbound,
                    workshop=make_workshop(settings),
                ),
                notifier,
            )


def welcome_first_admin(database: Database, limits: AccessSettings, clock: Clock) -> None:
    """On the very first start, make the administrator and print the one-time password, this once, to stderr."""
    made = users.first_admin(database, clock.now_ms(), limits)
    if made is None:
        return
    name, password = made
    say(f"first start: there is a user {name} with the one-time password {password}")
    say(f"log in within {limits.one_time_h} h at /login and choose your own; until then only this host is served")


def all_services(
    config: ConfigOption = None,
    gateway_too: Annotated[bool, typer.Option("--gateway/--no-gateway", help="Run a gateway as well.")] = True,
    logs: Annotated[Path, typer.Option(help="Folder for the services' logs.")] = Path("var/log"),
) -> None:
    """Run ingest, office, API and a gateway on this host, each a process that is started again when it dies.

    Example: metergate all --config metergate.toml
    """
    with errors_as_words():
        load_settings(config)  # say what is wrong before anything starts
        chosen = ("--config", str(config)) if config else ()
        names = ["ingest", "anomaly", "office", "api", *(["gateway"] if gateway_too else [])]
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

        run(work)
