"""`metergate import` and `metergate plan`: the utility's meters into the registry, and a gateway's plan out of it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from gateway.links import parse_line
from gateway.plan import Plan, parse_plan
from gateway.plan_store import refuse_dense
from gateway.profile import Profile
from gateway.profile_mqtt import load_mqtt_profiles
from gateway.profiles import load_profiles
from metergate.console import EXIT_FAILED, emit, errors_as_words, say
from metergate.operators import operator
from metergate.running import ConfigOption
from metergate.settings import load_settings
from metering.clock import SystemClock
from metering.errors import RegistryError, SettingsError
from metering.quantities import Quantity
from metering.settings import nearest
from registry import audit
from registry.books import ImportResult, gateways, import_meters, polled_meters
from registry.database import Database
from registry.ledger import get_state, set_state
from registry.roles import console

_ENCODINGS: Final = ("utf-8-sig", "gbk")
_SHOWN: Final = 20

import_app = typer.Typer(no_args_is_help=True, help="Bring files of the utility into Metergate.")


@import_app.command("meters")
def import_meters_command(
    file: Annotated[Path, typer.Argument(help="CSV of meters, UTF-8 or GBK; columns in docs/gateway.md.")],
    config: ConfigOption = None,
    errors: Annotated[Path | None, typer.Option(help="Write a line for each bad row to this file.")] = None,
) -> None:
    """Import meters with their usage points, gateways and buses; sound rows go in, every bad row is named.

    Example: metergate import meters meters.csv --errors bad.csv
    """
    with errors_as_words():
        settings = load_settings(config)
        result = import_file(settings.registry.url, file)
        lines = [f"{file.name}:{bad.line}: {bad.meter}: {bad.reason}" for bad in result.bad]
        if errors is not None:
            errors.write_text("".join(f"{line}\n" for line in lines), "utf-8")
        for line in lines[:_SHOWN]:
            say(line)
        if len(lines) > _SHOWN:
            where = f"all of them in {errors}" if errors else "write them to a file with --errors FILE"
            say(f"… and {len(lines) - _SHOWN} more; {where}")
        say(f"{result.meters} meters taken, {len(result.bad)} rows refused")
        if result.bad:
            raise typer.Exit(EXIT_FAILED)


def import_file(registry_url: str, file: Path) -> ImportResult:
    """Import one file in one transaction. Raises: SettingsError when it cannot be used at all; RegistryError."""
    billed: dict[str, Quantity] = {
        name: profile.index.quantity for name, profile in load_profiles().items() if profile.index.quantity
    }
    billed |= {name: profile.index for name, profile in load_mqtt_profiles().items()}
    text = _read(file)
    database = Database(registry_url)
    try:
        database.upgrade()
        with database.begin() as connection:
            return import_meters(
                connection, text, billed=billed, actor=console(operator()), now=SystemClock().now_ms()
            )
    except ValueError as error:
        raise SettingsError(f"{file.name}: {error}") from error
    finally:
        database.close()


def _read(file: Path) -> str:
    raw = file.read_bytes()
    for encoding in _ENCODINGS:
        try:
            return raw.decode(encoding)
        except UnicodeDecodeError:
            continue
    raise SettingsError(f"{file.name}: neither UTF-8 nor GBK")


def plan(
    gateway: Annotated[str, typer.Argument(help="Id of the gateway.")],
    config: ConfigOption = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Write to this file instead of stdout.")] = None,
    version: Annotated[int, typer.Option(min=0, help="Version that it carries; 0: one more than published.")] = 0,
    sign: Annotated[bool, typer.Option("--sign", help="Write the signed plan as it goes over the broker.")] = False,
    publish: Annotated[bool, typer.Option("--publish", help="Sign it and hand it to the gateway, retained.")] = False,
) -> None:
    """Make a gateway's plan (buses, meters, profiles, intervals) from the registry.

    Example: metergate plan gw-east --out plan.toml

    Example: metergate plan gw-east --publish
    """
    with errors_as_words():
        settings = load_settings(config)
        version = version or next_version(settings.registry.url, gateway)
        text = make_plan(settings.registry.url, gateway, version)
        if publish:
            from metergate.plan_publishing import publish_plan  # only here: it carries the broker's client

            refuse_dense(_check(text), f"plan of {gateway}", settings.gateway.over_dense)
            publish_plan(settings, gateway, version, text)
            note_version(settings.registry.url, gateway, version)
            say(f"plan {version} of {gateway} is with the broker; the gateway says in its events whether it takes it")
        elif sign:
            from metergate.plan_publishing import signed_plan

            emit(signed_plan(settings, gateway, version, text).decode())
        elif out is None:
            emit(text.rstrip("\n"))
        else:
            out.write_text(text, "utf-8")
            say(f"{out}: plan of {gateway}, version {version}")


def next_version(registry_url: str, gateway: str) -> int:
    """Return one more than the version that was published last, 1 when none was."""
    database = Database(registry_url)
    try:
        database.upgrade()
        with database.read() as connection:
            return int(get_state(connection, f"plan/{gateway}") or 0) + 1
    finally:
        database.close()


def note_version(registry_url: str, gateway: str, version: int) -> None:
    """Remember what was published; audited."""
    database = Database(registry_url)
    try:
        with database.begin() as connection:
            set_state(connection, f"plan/{gateway}", str(version))
            audit.append(
                connection, console(operator()), "plan.publish", "gateway", gateway, at=SystemClock().now_ms(),
                after={"version": version},
            )  # fmt: skip
    finally:
        database.close()


def make_plan(registry_url: str, gateway: str, version: int) -> str:
    """Return the checked plan as TOML. Raises: RegistryError for an unknown gateway; SettingsError."""
    database = Database(registry_url)
    try:
        database.upgrade()
        with database.read() as connection:
            known = gateways(connection)
            if gateway not in known:
                raise RegistryError(f'no gateway "{gateway}" in the registry; {nearest(gateway, known)}')
            buses, meters = polled_meters(connection, gateway)
    finally:
        database.close()
    text = _toml(gateway, version, buses, meters)
    _check(text)
    return text


def _check(text: str) -> Plan:
    return parse_plan(text, load_profiles(), name="plan made from the registry")


def _toml(gateway: str, version: int, buses: list[dict[str, Any]], meters: list[dict[str, Any]]) -> str:
    lines = ["# Made by `metergate plan` from the registry.", f"version = {version}", f"gateway = {_text(gateway)}"]
    profiles = load_profiles()
    pushed = {bus["name"] for bus in buses if bus["kind"] == "mqtt"}
    lines += _mqtt_toml(pushed, meters)
    for bus in buses:
        if bus["name"] in pushed:
            continue
        lines += ["", "[[bus]]", *_bus_toml(bus)]
    for meter in meters:
        if meter["bus"] in pushed:
            continue
        lines += ["", "[[meter]]", f"meter = {_text(meter['id'])}", f"bus = {_text(meter['bus'])}"]
        lines += [_address_toml(meter, profiles), f"profile = {_text(meter['profile'])}"]
        lines += [f"interval_s = {meter['interval_s']}"]
    return "\n".join(lines) + "\n"


def one_meter_toml(gateway: str, bus: dict[str, Any], meter: dict[str, Any], profiles: Mapping[str, Profile]) -> str:
    """Return a plan of one meter as TOML, from rows as the registry has them."""
    lines = [f"gateway = {_text(gateway)}", "[[bus]]", *_bus_toml(bus), "[[meter]]"]
    lines += [f"meter = {_text(meter['id'])}", f"bus = {_text(meter['bus'])}", _address_toml(meter, profiles)]
    lines += [f"profile = {_text(meter['profile'])}", f"interval_s = {meter['interval_s']}"]
    return "\n".join(lines) + "\n"


def _bus_toml(bus: dict[str, Any]) -> list[str]:
    """A serial bus carries its speed in the kind, serial:2400-8E1, and its device where others have the host."""
    kind, _, line_text = bus["kind"].partition(":")
    lines = [f"name = {_text(bus['name'])}", f"kind = {_text(kind)}"]
    lines += [f"{'device' if kind == 'serial' else 'host'} = {_text(bus['host'])}"]
    if bus["port"] and kind != "serial":
        lines.append(f"port = {bus['port']}")
    if line_text:
        try:
            line = parse_line(line_text)
        except ValueError as error:
            raise SettingsError(f"bus {bus['name']}: bus_kind {error}") from None
        lines += [f"baud = {line.baud}", f"parity = {_text(line.parity)}"]
        lines += [f"data_bits = {line.data_bits}", f"stop_bits = {line.stop_bits}"]
    return lines


def _address_toml(meter: dict[str, Any], profiles: Mapping[str, Profile]) -> str:
    profile = profiles.get(meter["profile"])
    if profile is not None and not profile.is_modbus:
        return f"address = {_text(meter['address'])}"
    return f"unit = {meter['address']}"


def _mqtt_toml(buses: set[str], meters: list[dict[str, Any]]) -> list[str]:
    """Meters that send by themselves: their address is the device's name on the field broker."""
    lines: list[str] = []
    for bus in sorted(buses & {meter["bus"] for meter in meters}):
        lines += ["", "[[mqtt_bus]]", f"name = {_text(bus)}"]
    for meter in meters:
        if meter["bus"] in buses:
            lines += ["", "[[mqtt_meter]]", f"meter = {_text(meter['id'])}", f"bus = {_text(meter['bus'])}"]
            lines += [f"device = {_text(meter['address'])}", f"profile = {_text(meter['profile'])}"]
            lines += [f"interval_s = {meter['interval_s']}"]
    return lines


def _text(value: Any) -> str:
    """Spell a TOML value; ids hold no control characters (the import refuses them)."""
    if isinstance(value, int):
        return str(value)
    return '"' + str(value).replace("\\", "\\\\").replace('"', '\\"') + '"'
