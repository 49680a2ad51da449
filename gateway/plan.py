"""The gateway's plan: which buses there are, which meters hang on them, with which profile, how often.

version = 3
gateway = "gw-east"

[[bus]]
name = "boiler-house"
kind = "modbus-tcp"
host = "10.20.0.7"
port = 502

[[meter]]
meter = "G-1001"
bus = "boiler-house"
unit = 1
profile = "fuxin-corrector"
interval_s = 900

[[bus]]
name = "stair-3"
kind = "serial"
device = "/dev/serial/by-id/usb-FTDI_FT232R_A50285BI-if00-port0"
baud = 2400
parity = "even"

[[meter]]
meter = "W-3001"
bus = "stair-3"
address = "00000805000001"
profile = "water-cjt188"
interval_s = 3600
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Literal, cast

from pydantic import Field

from gateway.faults import Fault, sentences
from gateway.items import ItemRequest, make_ask, plan_items
from gateway.plan_mqtt import MqttBus, MqttBusFile, MqttMeterFile, make_mqtt, mqtt_faults
from gateway.profile import Profile
from gateway.profile_file import MAX_REGISTERS
from gateway.profile_mqtt import load_mqtt_profiles
from gateway.requests import Request, plan_requests
from metering.errors import ProtocolError, SettingsError
from metering.settings import SettingsModel, nearest, parse, read_text

MAX_METERS = 20_000


BusKind = Literal["modbus-tcp", "serial", "serial-tcp"]


class BusFile(SettingsModel):
    """One line to meters: a Modbus TCP address, a serial port, or a serial-to-TCP box."""

    name: str = Field(min_length=1, max_length=64, description="What plan, log and events call this bus.")
    kind: BusKind = Field("modbus-tcp", description="How one talks on it.")
    host: str = Field("", max_length=253, description="Host name or address of the meter, converter or box; TCP.")
    port: int = Field(502, ge=1, le=65535, description="TCP port, 1 to 65535.")
    device: str = Field(
        "", max_length=253, description="Serial port, best by stable id (/dev/serial/by-id/...); kind serial."
    )
    mode: Literal["raw", "rfc2217"] = Field(
        "raw", description="What a serial-tcp box is: transparent, or told speed and format by RFC 2217."
    )
    protocol: Literal["", "modbus-rtu", "cjt188", "dlt645-2007", "dlt645-1997", "mbus", "iec62056-21"] = Field(
        "", description="The one protocol of a serial bus; left out, each meter's profile says it."
    )
    baud: int = Field(9600, ge=300, le=921_600, description="Speed of a serial bus [bit/s], 300 to 921600.")
    parity: Literal["none", "even", "odd"] = Field("none", description="Parity of a serial bus.")
    data_bits: Literal[7, 8] = Field(8, description="Data bits of a serial bus.")
    stop_bits: Literal[1, 2] = Field(1, description="Stop bits of a serial bus.")
    echo: Literal["auto", "on", "off"] = Field(
        "auto", description="Whether the adapter hears what it sends; auto takes off what is repeated exactly."
    )
    idle_gap_s: float | None = Field(
        None, ge=0.002, le=5, description="Silence in seconds that ends a broken frame; 0.1, over TCP 0.2."
    )
    turnaround_s: float = Field(
        0.05, ge=0, le=10, description="Seconds that meters usually take to answer; for the bus planner."
    )
    timeout_s: float = Field(2.0, ge=0.05, le=60, description="Seconds to wait for an answer, 0.05 to 60.")
    max_registers: int = Field(
        MAX_REGISTERS, ge=1, le=MAX_REGISTERS, description="Most registers in one request that the converter passes."
    )
    in_flight: int = Field(
        1, ge=1, le=16, description="Requests under way at once on the connection; over 1 only if the device can."
    )

    @property
    def is_serial(self) -> bool:
        """True for a pair of wires on which one talks at a time."""
        return self.kind != "modbus-tcp"

    @property
    def place(self) -> str:
        """What tells this bus from others: device, or host:port."""
        return self.device if self.kind == "serial" else f"{self.host.lower()}:{self.port}"


class OptionsFile(SettingsModel):
    """What one meter needs differently from its bus and profile."""

    timeout_s: float | None = Field(None, ge=0.05, le=60, description="Seconds to wait for its answer.")
    max_registers: int | None = Field(None, ge=1, le=MAX_REGISTERS, description="Most registers in one request.")
    max_gap: int | None = Field(None, ge=0, le=MAX_REGISTERS, description="Unused registers a request may read over.")


class MeterFile(SettingsModel):
    """One meter on a bus."""

    meter: str = Field(min_length=1, max_length=64, pattern=r"^[^\x00-\x1f]+$", description="The meter's id.")
    bus: str = Field(description="Name of the bus it hangs on.")
    unit: int = Field(1, ge=0, le=255, description="Modbus unit (slave address), 0 to 255.")
    address: str = Field(
        "",
        max_length=40,
        description="Address where it is no unit: CJ/T 188 14 digits, DL/T 645 12, M-Bus 0-250 or 8 digits.",
    )
    profile: str = Field(description="Id of its model's profile.")
    interval_s: float = Field(900.0, ge=0.001, le=86_400, description="Seconds between readings, 0.001 to 86400.")
    options: OptionsFile = Field(OptionsFile(), description="What this meter needs differently.")


class PlanFile(SettingsModel):
    """A plan as its file says it."""

    version: int = Field(1, ge=1, description="Counts up with every change of the plan.")
    gateway: str = Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=48, description="Id of the gateway this plan is for."
    )
    bus: list[BusFile] = Field([], description="The buses.")
    meter: list[MeterFile] = Field([], max_length=MAX_METERS, description="The meters.")
    mqtt_bus: list[MqttBusFile] = Field([], description="Groups of topics on the field broker.")
    mqtt_meter: list[MqttMeterFile] = Field([], max_length=MAX_METERS, description="The meters that send there.")


@dataclass(frozen=True, slots=True)
class PlannedMeter:
    """One meter with everything that polling it needs; meters of one model share `profile` and `requests`."""

    meter: str
    bus: BusFile
    unit: int
    profile: Profile
    interval_s: float
    timeout_s: float
    requests: tuple[Request | ItemRequest, ...]
    address: str = ""

    @property
    def bus_address(self) -> str:
        """What the counts of a serial bus call it."""
        if self.profile.is_modbus:
            return f"unit {self.unit}"
        return str(make_ask(cast(ItemRequest, self.requests[0]), self.address).address)


@dataclass(frozen=True, slots=True)
class Plan:
    """A checked plan."""

    gateway: str
    version: int
    buses: tuple[BusFile, ...]
    meters: tuple[PlannedMeter, ...]
    mqtt: tuple[MqttBus, ...] = ()


def load_plan(path: Path, profiles: Mapping[str, Profile]) -> Plan:
    """Read and check a plan file. Raises: SettingsError with one line per problem."""
    return parse_plan(read_text(path), profiles, name=path.name)


def parse_plan(text: str, profiles: Mapping[str, Profile], *, name: str) -> Plan:
    """Check a plan's TOML text. name: what the messages call the file. Raises: SettingsError."""
    file = parse(text, PlanFile, name=name)
    pushed = load_mqtt_profiles() if file.mqtt_bus or file.mqtt_meter else {}
    taken = {meter.meter: i for i, meter in enumerate(file.meter)}
    faults = chain(_faults(file, profiles), mqtt_faults(file.mqtt_bus, file.mqtt_meter, pushed, taken=taken))
    if problems := sentences(faults, text, name):
        raise SettingsError(problems)
    return replace(make_plan(file, profiles), mqtt=make_mqtt(file.mqtt_bus, file.mqtt_meter, pushed))


def make_plan(file: PlanFile, profiles: Mapping[str, Profile]) -> Plan:
    """Return what a plan without faults means."""
    buses = {bus.name: bus for bus in file.bus}
    shared: dict[tuple[str, int, int], tuple[Request | ItemRequest, ...]] = {}
    meters = []
    for meter in file.meter:
        bus, profile, options = buses[meter.bus], profiles[meter.profile], meter.options
        limit = min(options.max_registers or profile.max_registers, bus.max_registers)
        gap = profile.max_gap if options.max_gap is None else options.max_gap
        key = (meter.profile, limit, gap)
        if key not in shared:
            shared[key] = _requests(profile, limit, gap)
        timeout_s = options.timeout_s or bus.timeout_s
        meters.append(
            PlannedMeter(
                meter.meter, bus, meter.unit, profile, meter.interval_s, timeout_s, shared[key], meter.address
            )
        )
    return Plan(file.gateway, file.version, tuple(file.bus), tuple(meters))


def _requests(profile: Profile, limit: int, gap: int) -> tuple[Request | ItemRequest, ...]:
    if profile.is_modbus:
        return plan_requests(profile.fields, max_registers=limit, max_gap=gap)
    return plan_items(profile)


def _faults(file: PlanFile, profiles: Mapping[str, Profile]) -> Iterator[Fault]:
    names: dict[str, int] = {}
    addresses: dict[str, str] = {}
    for i, bus in enumerate(file.bus):
        if names.setdefault(bus.name, i) != i:
            yield ("bus", i, "name"), f'"{bus.name}"', f"stands already at bus[{names[bus.name]}]"
        yield from _bus_faults(bus, i)
        other = addresses.setdefault(bus.place, bus.name)
        if other != bus.name:
            key = "device" if bus.kind == "serial" else "port"
            why = f'{bus.device or f"{bus.host}:{bus.port}"} is already bus "{other}"; one bus per address'
            yield ("bus", i, key), f'"{bus.device}"' if bus.kind == "serial" else str(bus.port), why
    ids: dict[str, int] = {}
    places: dict[tuple[str, int, str, str], str] = {}
    for i, meter in enumerate(file.meter):
        at = ("meter", i)
        if ids.setdefault(meter.meter, i) != i:
            yield (*at, "meter"), f'"{meter.meter}"', f"stands already at meter[{ids[meter.meter]}]"
        if meter.bus not in names:
            yield (*at, "bus"), f'"{meter.bus}"', "no such bus; " + nearest(meter.bus, list(names))
        twin = places.setdefault((meter.bus, meter.unit, meter.address, meter.profile), meter.meter)
        if twin != meter.meter and meter.address:
            yield (*at, "address"), f'"{meter.address}"', f'is already meter "{twin}" of bus "{meter.bus}"'
        elif twin != meter.meter:
            yield (*at, "unit"), str(meter.unit), f'unit {meter.unit} of bus "{meter.bus}" is already meter "{twin}"'
        bus_file = file.bus[names[meter.bus]] if meter.bus in names else None
        yield from _profile_faults(meter, i, bus_file, profiles)


def _profile_faults(
    meter: MeterFile, i: int, bus: BusFile | None, profiles: Mapping[str, Profile]
) -> Iterator[Fault]:
    profile = profiles.get(meter.profile)
    if profile is None:
        yield (
            ("meter", i, "profile"),
            f'"{meter.profile}"',
            "no such profile; " + nearest(meter.profile, list(profiles)),
        )
        return
    if bus is not None:
        yield from _speech_faults(meter, i, bus, profile)
    if not profile.is_modbus:
        return
    limit = min(meter.options.max_registers or MAX_REGISTERS, bus.max_registers if bus else MAX_REGISTERS)
    longest = max(field.stop - field.start for field in profile.fields)
    if longest > limit:
        why = f"{limit} registers a request, but a field of {profile.id} needs {longest} in one"
        yield ("meter", i, "profile"), f'"{meter.profile}"', why


def _bus_faults(bus: BusFile, i: int) -> Iterator[Fault]:
    """Yield what a bus of this kind lacks."""
    if bus.kind == "serial" and not bus.device:
        yield ("bus", i, "device"), '""', "a serial bus needs the path of its port"
    if bus.kind != "serial" and not bus.host:
        yield ("bus", i, "host"), '""', f"a {bus.kind} bus needs a host"
    if bus.kind == "serial-tcp" and "port" not in bus.model_fields_set:
        yield ("bus", i, "port"), "", "a serial-tcp bus needs the TCP port of its box"


def _speech_faults(meter: MeterFile, i: int, bus: BusFile, profile: Profile) -> Iterator[Fault]:
    """Yield where meter, profile and bus do not speak the same, or the address is none."""
    spoken = "modbus-rtu" if profile.is_modbus else profile.dialect.protocol
    if not bus.is_serial and not profile.is_modbus:
        yield ("meter", i, "bus"), f'"{meter.bus}"', f"is {bus.kind}; {profile.id} speaks {spoken}"
    if bus.is_serial and bus.protocol not in ("", spoken):
        yield ("meter", i, "profile"), f'"{meter.profile}"', f'speaks {spoken}, bus "{bus.name}" {bus.protocol}'
    if profile.is_modbus:
        if meter.address:
            yield ("meter", i, "address"), f'"{meter.address}"', "a Modbus meter has a unit, not an address"
        return
    try:
        make_ask(plan_items(profile)[0], meter.address)
    except (ProtocolError, ValueError) as error:
        yield ("meter", i, "address"), f'"{meter.address}"', getattr(error, "message", str(error))
