"""`metergate gateway`: the edge program. Imports nothing of registry, ingest or API: it runs on small machines."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from gateway.plan_store import starting_plan
from gateway.profiles import load_profiles
from gateway.service import run_gateway
from metergate.console import errors_as_words
from metergate.running import ConfigOption, prepare, run
from metering.clock import SystemClock

PlanOption = Annotated[Path | None, typer.Option("--plan", help="Plan file; instead of the one in the settings.")]


def gateway(config: ConfigOption = None, plan: PlanOption = None) -> None:
    """Read meters by the plan, keep every reading on this disk, and hand it on until ingest has it.

    Example: metergate gateway --config metergate.toml --plan plan.toml
    """
    with errors_as_words():
        settings = prepare(config, "gateway")
        hangup = asyncio.Event()
        profiles = load_profiles(*settings.gateway.profiles)
        checked = starting_plan(settings.gateway, plan or settings.gateway.plan, profiles)
        run(
            lambda stop: run_gateway(
                settings.gateway,
                checked,
                broker=settings.broker,
                field_broker=settings.field_broker,
                clock=SystemClock(),
                stop=stop,
                hangup=hangup,
            ),
            hangup=hangup,
        )
