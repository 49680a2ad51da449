"""`metergate poll --once`: read one meter and show everything that came, with its raw registers."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from gateway.drivers.serial_port import Line
from gateway.links import parse_line
from gateway.once import PolledOnce, poll_once
from gateway.plan import BusFile, PlannedMeter, load_plan, parse_plan
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
    serial: Annotated[str, typer.Option(help="Read without a plan: serial port, for example /dev/ttyUSB0.")] = "",
    tcp: Annotated[str, typer.Option(help="Read without a plan: HOST:PORT of a serial-to-TCP box.")] = "",
    rfc2217: Annotated[bool, typer.Option("--rfc2217", help="The box is told its speed by RFC 2217.")] = False,
    line: Annotated[str, typer.Option(help="Speed and format of the pair of wires, such as 2400-8E1.")] = "9600-8N1",
    baud: Annotated[int, typer.Option(help="Speed, when only that differs.")] = 0,
    protocol: Annotated[str, typer.Option(help="Instead of a model: the one that speaks this protocol.")] = "",
    address: Annotated[str, typer.Option(help="Address where it is no unit: CJ/T 188 14 digits, …")] = "",
    unit: Annotated[int, typer.Option(min=0, max=255, help="Modbus unit.")] = 1,
    profile: Annotated[str, typer.Option(help="Meter model, for example fuxin-corrector.")] = "",
    timeout_s: Annotated[float, typer.Option(min=0.05, max=60, help="Seconds to wait for an answer.")] = 2.0,
) -> None:
    """Read one meter once: every field with value, unit and raw registers, as one JSON object.

    Example: metergate poll --once --host 127.0.0.1 --port 5020 --unit 1 --profile fuxin-corrector

    Example: metergate poll --once --serial /dev/ttyS0 --baud 2400 --profile water-cjt188 --address 00000805000001
    """
    with errors_as_words():
        if not once:
            raise SettingsError("say --once; polling for ever with an outbox is `metergate gateway`")
        profiles = load_profiles()
        wanted = (
            _from_plan(plan, meter, profiles)
            if plan
            else _ad_hoc(
                _bus(host, port, serial, tcp, _line(line, baud), timeout_s, rfc2217=rfc2217),
                unit,
                address,
                _model(profile, protocol, profiles),
                profiles,
            )
        )
        polled = asyncio.run(poll_once(wanted, clock=SystemClock()))
        emit(json.dumps(shown(polled), ensure_ascii=False))
        if polled.reading is None:
            raise typer.Exit(EXIT_FAILED)


def _from_plan(path: Path, meter: str, profiles: dict[str, Profile]) -> PlannedMeter:
    planned = {one.meter: one for one in load_plan(path, profiles).meters}
    if meter not in planned:
        raise SettingsError(f'{path.name}: no meter "{meter}"; {nearest(meter, list(planned))}')
    return planned[meter]


def _ad_hoc(bus: BusFile, unit: int, address: str, profile: Profile, profiles: dict[str, Profile]) -> PlannedMeter:
    where = address or str(unit)
    text = [
        f'gateway = "poll"\n[[bus]]\n{_toml(bus)}\n[[meter]]',
        f'meter = "{f"{bus.place}/{where}"[-64:]}"',
        'bus = "bus"',
    ]
    text += [f'profile = "{profile.id}"', f"unit = {unit}" if profile.is_modbus else f'address = "{address}"']
    return parse_plan("\n".join(text), profiles, name="the command line").meters[0]


def _toml(bus: BusFile) -> str:
    facts = bus.model_dump(exclude_defaults=True)
    return "\n".join(f"{name} = {json.dumps(value)}" for name, value in facts.items())


def _bus(host: str, port: int, serial: str, tcp: str, line: Line, timeout_s: float, *, rfc2217: bool) -> BusFile:
    if sum(map(bool, (host, serial, tcp))) != 1:
        raise SettingsError("name a meter with --plan FILE, or one place: --host (Modbus TCP), --serial or --tcp")
    if host:
        return BusFile(name="bus", host=host, port=port, timeout_s=timeout_s)
    wires: dict[str, Any] = {
        "name": "bus", "baud": line.baud, "parity": line.parity, "data_bits": line.data_bits,
        "stop_bits": line.stop_bits, "timeout_s": timeout_s,
    }  # fmt: skip
    if serial:
        return BusFile.model_validate({**wires, "kind": "serial", "device": serial})
    name, _, number = tcp.rpartition(":")
    if not name or not number.isdecimal() or not 0 < int(number) < 65_536:
        raise SettingsError(f'--tcp "{tcp}": HOST:PORT is needed, such as 10.20.0.9:4001')
    mode = "rfc2217" if rfc2217 else "raw"
    return BusFile.model_validate({**wires, "kind": "serial-tcp", "host": name, "port": int(number), "mode": mode})


def _line(text: str, baud: int) -> Line:
    try:
        line = parse_line(text)
    except ValueError as error:
        raise SettingsError(f"--line {error}") from None
    return replace(line, baud=baud) if baud else line


def _model(profile: str, protocol: str, profiles: dict[str, Profile]) -> Profile:
    """Return the model that is named, or the only one that speaks the protocol."""
    if profile:
        if profile not in profiles:
            raise SettingsError(f'--profile "{profile}": no such meter model; {nearest(profile, list(profiles))}')
        return profiles[profile]
    fitting = [name for name, each in profiles.items() if each.dialect.protocol == protocol]
    if len(fitting) != 1:
        known = f"these speak {protocol}: {', '.join(fitting)}" if fitting else f"models: {', '.join(profiles)}"
        raise SettingsError(f"name the meter model with --profile; {known}")
    return profiles[fitting[0]]


def shown(polled: PolledOnce) -> dict[str, Any]:
    """Return what was read, as it is printed."""
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
