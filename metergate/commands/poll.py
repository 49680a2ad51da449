"""`metergate poll --once`: read one meter and show everything that came, with its raw registers."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Annotated, Any

import typer

from gateway.once import PolledOnce, poll_once
from gateway.plan import BusFile, MeterFile, Plan, PlanFile, PlannedMeter, load_plan, make_plan
from gateway.profile import Profile
from gateway.profiles import load_profiles
from metergate.console import EXIT_FAILED, emit, errors_as_words
from metering.clock import SystemClock, rfc3339
from metering.errors import SettingsError
from metering.quantities import UNITS, from_micro
from metering.settings import nearest


def poll(
    meter: Annotated[str, typer.Argument(help="Id of the meter in the plan; leave out with --host.")] = "",
    once: Annotated[bool, typer.Option("--once", help="Read once and end (polling for ever is `gateway`).")] = False,
    plan: Annotated[Path | None, typer.Option("--plan", help="Plan file that knows the meter.")] = None,
    host: Annotated[str, typer.Option(help="Read without a plan: host of the Modbus TCP meter.")] = "",
    port: Annotated[int, typer.Option(min=1, max=65535, help="TCP port.")] = 502,
    unit: Annotated[int, typer.Option(min=0, max=255, help="Modbus unit.")] = 1,
    profile: Annotated[str, typer.Option(help="Meter model, for example fuxin-corrector.")] = "",
    timeout_s: Annotated[float, typer.Option(min=0.05, max=60, help="Seconds to wait for an answer.")] = 2.0,
) -> None:
    """Read one meter once: every field with value, unit and raw registers, as one JSON object.

    Example: metergate poll --once --host 127.0.0.1 --port 5020 --unit 1 --profile fuxin-corrector
    """
    with errors_as_words():
        if not once:
            raise SettingsError("say --once; polling for ever with an outbox is `metergate gateway`")
        profiles = load_profiles()
        wanted = (
            _from_plan(plan, meter, profiles) if plan else _ad_hoc(host, port, unit, profile, timeout_s, profiles)
        )
        polled = asyncio.run(poll_once(wanted, clock=SystemClock()))
        emit(json.dumps(_shown(polled), ensure_ascii=False))
        if polled.reading is None:
            raise typer.Exit(EXIT_FAILED)


def _from_plan(path: Path, meter: str, profiles: dict[str, Profile]) -> PlannedMeter:
    planned = {one.meter: one for one in load_plan(path, profiles).meters}
    if meter not in planned:
        raise SettingsError(f'{path.name}: no meter "{meter}"; {nearest(meter, list(planned))}')
    return planned[meter]


def _ad_hoc(
    host: str, port: int, unit: int, profile: str, timeout_s: float, profiles: dict[str, Profile]
) -> PlannedMeter:
    if not host:
        raise SettingsError("name a meter with --plan FILE, or an address with --host and --profile")
    if profile not in profiles:
        raise SettingsError(f'--profile "{profile}": no such meter model; {nearest(profile, list(profiles))}')
    name = f"{host}:{port}/{unit}"
    file = PlanFile(
        gateway="poll",
        bus=[BusFile(name="bus", host=host, port=port, timeout_s=timeout_s)],
        meter=[MeterFile(meter=name, bus="bus", unit=unit, profile=profile)],
    )
    made: Plan = make_plan(file, profiles)
    return made.meters[0]


def _shown(polled: PolledOnce) -> dict[str, Any]:
    reading = polled.reading
    return {
        "meter": polled.meter,
        "port": polled.port,
        "unit": polled.unit,
        "profile": polled.profile,
        "read_at": rfc3339(reading.read_at) if reading else None,
        "quality": reading.quality if reading else None,
        "reason": (reading.reason if reading else polled.why) or None,
        "values": {
            quantity: {"value": from_micro(micro), "unit": UNITS[quantity]}
            for quantity, micro in (reading.values.items() if reading else ())
        },
        "fields": [
            {
                "name": field.name,
                "value": field.value or None,
                "unit": field.unit,
                "function": field.function,
                "register": f"0x{field.register:04X}",
                "raw": field.raw,
                **({"fault": field.fault} if field.fault else {}),
            }
            for field in polled.fields
        ],
        "requests": polled.requests,
        "elapsed_ms": polled.elapsed_ms,
    }
