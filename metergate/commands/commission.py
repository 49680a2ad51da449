"""`metergate commission`: a meter into the books in one go: trial read, start index accepted, installed, audited.

Nothing is written before the meter answered and its index was accepted; then everything is, in one transaction.
"""

from __future__ import annotations

import asyncio
import json
from typing import Annotated, Any

import sqlalchemy as sa
import typer

from gateway.once import PolledOnce, poll_once
from gateway.plan import PlannedMeter, parse_plan
from gateway.profile import Profile
from gateway.profiles import load_profiles
from metergate.commands.books import one_meter_toml
from metergate.commands.poll import shown
from metergate.console import EXIT_FAILED, emit, errors_as_words, say
from metergate.operators import operator
from metergate.running import ConfigOption, registry
from metergate.settings import load_settings
from metering.clock import SystemClock
from metering.errors import RegistryError, SettingsError
from metering.quantities import UNITS, from_micro, to_micro
from metering.settings import nearest
from registry import installations
from registry.books import gateways
from registry.models import Bus, Meter
from registry.roles import console


def commission(
    meter: Annotated[str, typer.Option(help="Id of the meter; new, or in the books and not installed.")],
    usage_point: Annotated[str, typer.Option("--usage-point", help="Where it is installed; known in the books.")],
    gateway: Annotated[str, typer.Option(help="Id of the gateway that will read it.")],
    bus: Annotated[str, typer.Option(help="Name of the bus of that gateway.")],
    address: Annotated[str, typer.Option(help="Address on the bus: Modbus unit, CJ/T 188 14 digits, …")],
    profile: Annotated[str, typer.Option(help="Meter model, for example water-cjt188.")],
    serial: Annotated[str, typer.Option(help="Number on the meter's plate.")] = "",
    interval_s: Annotated[int, typer.Option(min=1, max=86_400, help="Seconds between readings.")] = 3600,
    start_index: Annotated[str, typer.Option(help="What the dial shows; the reading must agree with it.")] = "",
    tolerance: Annotated[str, typer.Option(help="By how much reading and dial may differ [house unit].")] = "0.1",
    accept: Annotated[bool, typer.Option("--accept", help="Take the index that was read without asking.")] = False,
    beside: Annotated[bool, typer.Option("--beside", help="Other meters stay at the usage point too.")] = False,
    config: ConfigOption = None,
) -> None:
    """Read a new meter from this host, accept its index as the start index, and put it into service.

    Example: metergate commission --meter W-3009 --usage-point UP-3009 --gateway gw-east --bus stair-3 --address 00000805000009 --profile water-cjt188
    """  # noqa: E501 (an example is one line)
    with errors_as_words():
        settings, clock = load_settings(config), SystemClock()
        model = _model(profile, load_profiles(*settings.gateway.profiles))
        dial = _micro("--start-index", start_index) if start_index else None
        allowed = _micro("--tolerance", tolerance)
        with registry(settings) as database:
            with database.read() as connection:
                line = _line(connection, gateway, bus)
                _check_free(connection, meter)
            facts = {"id": meter, "bus": bus, "address": address, "profile": profile, "interval_s": interval_s}
            polled = asyncio.run(poll_once(_planned(gateway, line, facts, {profile: model}), clock=clock))
            emit(json.dumps(shown(polled), ensure_ascii=False))
            index = _accepted(polled, model, dial, allowed, accept=accept)
            now = clock.now_ms()
            with database.begin() as connection:
                _enter(connection, facts, model, gateway, line["id"], serial)
                installations.install(
                    connection, console(operator()), usage_point, meter, at=now, start_index=index, now=now,
                    beside=beside, note="commissioned with a trial read",
                )  # fmt: skip
        say(f"{meter} is in service at {usage_point} with start index {from_micro(index)}; now make the plan")


def _accepted(polled: PolledOnce, model: Profile, dial: int | None, allowed: int, *, accept: bool) -> int:
    """Return the start index. Raises: SettingsError when it does not agree with the dial; Exit when it is refused."""
    quantity = model.index.quantity
    if polled.reading is None or quantity is None:
        say(f"nothing is written: {polled.why}")
        raise typer.Exit(EXIT_FAILED)
    if polled.reading.quality != "valid":
        say(f"nothing is written: the reading is {polled.reading.quality} ({polled.reading.reason})")
        raise typer.Exit(EXIT_FAILED)
    read = polled.reading.values[quantity]
    text = f"{from_micro(read)} {UNITS[quantity]}"
    if dial is not None and abs(read - dial) > allowed:
        raise SettingsError(
            f"the meter says {text}, the dial {from_micro(dial)}: another meter, address or scale? nothing is written"
        )
    if (
        dial is None
        and not accept
        and not typer.confirm(f"start index {text}: is that what the dial shows?", err=True)
    ):
        say("nothing is written")
        raise typer.Exit(EXIT_FAILED)
    return read


def _enter(connection: Any, facts: dict[str, Any], model: Profile, gateway: str, bus: int, serial: str) -> None:
    """Make the meter, or wire one that is registered."""
    wiring = {
        "profile": facts["profile"], "gateway_id": gateway, "bus_id": bus, "address": facts["address"],
        "interval_s": facts["interval_s"],
    }  # fmt: skip
    known = connection.execute(sa.select(Meter.id).where(Meter.id == facts["id"])).first()
    if known is not None:
        named = {"serial": serial} if serial else {}
        connection.execute(sa.update(Meter).where(Meter.id == facts["id"]).values({**wiring, **named}))
        return
    new = {
        "id": facts["id"], "serial": serial, "medium": model.medium, "quantity": model.index.quantity,
        "index_digits": model.index_digits, "state": "registered", **wiring,
    }  # fmt: skip
    connection.execute(sa.insert(Meter).values(new))


def _line(connection: Any, gateway: str, bus: str) -> dict[str, Any]:
    known = gateways(connection)
    if gateway not in known:
        raise RegistryError(f'no gateway "{gateway}" in the registry; {nearest(gateway, known)}')
    rows = connection.execute(sa.select(Bus.__table__).where(Bus.gateway_id == gateway)).mappings()
    buses = {row["name"]: dict(row) for row in rows}
    if bus not in buses:
        raise RegistryError(f'gateway {gateway} has no bus "{bus}"; {nearest(bus, list(buses))}')
    return buses[bus]


def _check_free(connection: Any, meter: str) -> None:
    """A meter that is installed already is exchanged or moved, not commissioned again."""
    state = connection.execute(sa.select(Meter.state).where(Meter.id == meter)).scalar_one_or_none()
    if state not in (None, "registered", "removed", "unused"):
        raise RegistryError(f"meter {meter} is {state} already", meter=meter)


def _planned(gateway: str, line: dict[str, Any], facts: dict[str, Any], profiles: dict[str, Profile]) -> PlannedMeter:
    text = one_meter_toml(gateway, line, facts, profiles)
    return parse_plan(text, profiles, name="the trial read").meters[0]


def _model(name: str, profiles: dict[str, Profile]) -> Profile:
    if name not in profiles:
        raise SettingsError(f'--profile "{name}": no such meter model; {nearest(name, list(profiles))}')
    return profiles[name]


def _micro(option: str, text: str) -> int:
    try:
        return to_micro(text)
    except ValueError as error:
        raise SettingsError(f'{option} "{text}": {error}') from None
