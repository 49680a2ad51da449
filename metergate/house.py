"""A whole house on one machine: the files, ports and services that `demo` (and the end-to-end tests) run.

Everything goes the way a utility would go: a meters file is imported into the registry, the gateway's plan is made
from it, and each service reads the same settings file.
"""

from __future__ import annotations

import contextlib
import csv
import fcntl
import os
import socket
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

from metergate.commands.books import import_file, make_plan
from metergate.house_mqtt import MQTT_METERS_FILE, mqtt_rows, mqtt_settings
from metergate.house_serial import SERIAL_METERS_FILE, serial_rows, serial_settings
from metergate.supervisor import Service
from metering.clock import SystemClock
from metering.errors import MetergateError
from metering.signing import load_or_make_key, public_path
from registry import keys, users
from registry.database import Database
from registry.roles import Role, console
from simulators.answer_log import Answer, read_answers
from simulators.farm_settings import FarmSettings, MeterSettings, PortSettings

GATEWAY: Final = "gw-demo"
_PER_PORT: Final = 16
_FIRST_INNER_PORT: Final = 20_000
_KEY_MS: Final = 30 * 86_400_000
_CLAIMS: Final[list[int]] = []  # descriptors, open until the process ends


@dataclass(frozen=True, slots=True)
class Kind:
    """One sort of simulated customer."""

    prefix: str
    medium: str
    profile: str
    curve: str
    customer_class: str
    district: str
    qmax_per_h: str = ""
    """[unit/h] of its meters; "" for that of a household connection."""


KINDS: Final = (
    Kind("G-HH", "gas", "fuxin-corrector", "household_gas", "residential", "D1"),
    Kind("G-HB", "gas", "fuxin-corrector", "household_gas_boiler", "residential_heating", "D1"),
    Kind("G-RE", "gas", "fuxin-corrector", "restaurant_gas", "restaurant", "D2", "25"),
    Kind("G-FA", "gas", "fuxin-corrector", "factory_gas", "industrial", "D3", "400"),
    Kind("W-HH", "water", "usw-ultrasonic", "household_water", "residential", "D1"),
    Kind("E-HH", "electricity", "abb-b23", "household_electricity", "residential", "D2"),
)


@dataclass(frozen=True, slots=True)
class House:
    """Where everything of one run is."""

    folder: Path
    api_port: int
    broker_port: int
    farm_ports: tuple[int, ...]
    mqtt_meters: int = 0
    serial_meters: int = 0
    key: str = field(default="", repr=False)
    """Of the API, good for all of it for a month."""
    password: str = field(default="", repr=False)
    """One-time password of the user admin."""
    control_port: int = 0
    """Where the simulated meters take orders (loopback)."""

    @property
    def settings(self) -> Path:
        """The settings file that all services read."""
        return self.folder / "metergate.toml"

    @property
    def office_key(self) -> Path:
        """The private key that signs commands and plans."""
        return self.folder / "office.key"

    @property
    def plan(self) -> Path:
        """The gateway's plan."""
        return self.folder / "plan.toml"

    @property
    def outbox(self) -> Path:
        """The gateway's outbox."""
        return self.folder / "gateway" / "outbox.db"

    @property
    def store(self) -> Path:
        """The embedded reading store."""
        return self.folder / "readings.db"

    @property
    def registry_url(self) -> str:
        """The registry."""
        return f"sqlite:///{self.folder / 'registry.db'}"

    @property
    def answers(self) -> Path:
        """What the simulated meters said."""
        return self.folder / "answers.tsv"

    @property
    def mqtt_answers(self) -> Path:
        """What the simulated MQTT meters said."""
        return self.folder / "answers-mqtt.tsv"

    @property
    def serial_answers(self) -> Path:
        """What the simulated meters on the serial bus said."""
        return self.folder / "answers-serial.tsv"

    def anomaly(self) -> Service:
        """The rules; `demo` starts them when the past of the meters is stored."""
        return Service("anomaly", "metergate", ("anomaly", "--config", str(self.settings)))

    def read_answers(self) -> Iterator[Answer]:
        """Yield what all simulated meters said."""
        for path in (self.answers, self.mqtt_answers, self.serial_answers):
            if path.exists():
                yield from read_answers(path)

    def services(self) -> list[Service]:
        """Everything that runs, in the order of the start."""
        config = ("--config", str(self.settings))
        senders = ("--config", str(self.folder / MQTT_METERS_FILE))
        pushed = [Service("mqtt-meters", "simulators.mqtt_meters", senders)] if self.mqtt_meters else []
        wired = ("--config", str(self.folder / SERIAL_METERS_FILE))
        serial = [Service("serial-meters", "simulators.bus_farm", wired)] if self.serial_meters else []
        return [
            Service("broker", "metergate.broker", ("--port", str(self.broker_port))),
            Service("meters", "simulators.modbus_farm", ("--config", str(self.folder / "farm.json"))),
            *serial,
            Service("ingest", "metergate", ("ingest", *config)),
            Service("office", "metergate", ("office", *config)),
            Service("api", "metergate", ("api", *config)),
            Service("gateway", "metergate", ("gateway", *config)),
            *pushed,
        ]


def build(
    folder: Path,
    *,
    meters: int = 48,
    interval_s: int = 5,
    api_port: int | None = None,
    kinds: Sequence[Kind] = KINDS,
    mqtt_meters: int = 0,
    mqtt_curve: str = "",
    serial_meters: int = 0,
) -> House:
    """Write all files of a house into `folder` and fill its registry.

    api_port: None takes the first free port from 8080. mqtt_meters: how many more send by themselves, see
    `metergate.house_mqtt`. mqtt_curve: "" for what people use. serial_meters: how many hang on a serial bus.
    Raises: MetergateError, naming the port that is taken.
    """
    ports = _free_ports(2 + -(-meters // _PER_PORT))
    if api_port is not None and not _is_free(api_port):
        raise MetergateError(f"port {api_port} is taken; leave --port out to take the first free one from 8080 on")
    house = House(folder, api_port or first_free_port(8080), ports[0], tuple(ports[1:-1]), mqtt_meters, serial_meters)
    house = replace(house, control_port=ports[-1])
    folder.mkdir(parents=True, exist_ok=True)
    rows = list(_rows(house, meters, interval_s, kinds))
    _write_farm(house, rows, kinds)
    if mqtt_meters:
        rows += mqtt_rows(mqtt_meters, GATEWAY, interval_s)
        settings = mqtt_settings(rows, house.broker_port, house.mqtt_answers, f"metergate-{GATEWAY}", mqtt_curve)
        (folder / MQTT_METERS_FILE).write_text(settings, "utf-8")
    if serial_meters:
        wired = serial_rows(serial_meters, GATEWAY, interval_s, folder)
        (folder / SERIAL_METERS_FILE).write_text(serial_settings(wired, house.serial_answers), "utf-8")
        rows += wired
    _write_meters(folder / "meters.csv", rows)
    load_or_make_key(house.office_key)
    house.settings.write_text(_settings(house), "utf-8")
    result = import_file(house.registry_url, folder / "meters.csv")
    if result.bad:
        raise MetergateError(f"the demo's own meters file is refused: {result.bad[0].reason}")
    house.plan.write_text(make_plan(house.registry_url, GATEWAY, 1), "utf-8")
    return _let_in(house)


def _let_in(house: House) -> House:
    """Make the first administrator and a key, as `metergate api` and `metergate key create` would."""
    now = SystemClock().now_ms()
    with contextlib.closing(Database(house.registry_url)) as database:
        made = users.first_admin(database, now)
        with database.begin() as connection:
            key, _ = keys.create(
                connection,
                console("demo"),
                name="demo",
                roles=Role,
                areas=None,
                read_only=False,
                expires_at=now + _KEY_MS,
                at=now,
            )
    return replace(house, key=key, password=made[1] if made else "")


def _rows(house: House, meters: int, interval_s: int, kinds: Sequence[Kind]) -> Iterator[dict[str, str]]:
    for number in range(meters):
        kind = kinds[number % len(kinds)]
        group, unit = divmod(number, _PER_PORT)
        yield {
            "meter_id": f"{kind.prefix}-{number + 1:04}",
            "medium": kind.medium,
            "customer_class": kind.customer_class,
            "profile": kind.profile,
            "gateway": GATEWAY,
            "bus": f"bus-{group + 1}",
            "bus_kind": "modbus-tcp",
            "host": "127.0.0.1",
            "port": str(house.farm_ports[group]),
            "address": str(unit + 1),
            "interval_s": str(interval_s),
            "serial": f"{2026_000_000 + number}",
            "qmax_per_h": kind.qmax_per_h,
            "district": kind.district,
            "tz": "Asia/Shanghai",
        }


def _write_meters(path: Path, rows: list[dict[str, str]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def _write_farm(house: House, rows: list[dict[str, str]], kinds: Sequence[Kind]) -> None:
    curves = {kind.prefix: kind.curve for kind in kinds}
    groups: dict[int, list[MeterSettings]] = {port: [] for port in house.farm_ports}
    for row in rows:
        groups[int(row["port"])].append(
            MeterSettings(
                meter=row["meter_id"],
                profile=row["profile"],
                unit=int(row["address"]),
                curve=curves[row["meter_id"].rsplit("-", 1)[0]],
            )
        )
    farm = FarmSettings(
        port=tuple(PortSettings(port=port, meter=tuple(group)) for port, group in groups.items() if group),
        seed=2026,
        log=house.answers,
        control_port=house.control_port,
    )
    (house.folder / "farm.json").write_text(farm.model_dump_json(indent=1, exclude_none=True), "utf-8")


def _settings(house: House) -> str:
    return f"""# Written by `metergate demo`; the manual of all options is settings.sample.toml.
[broker]
port = {house.broker_port}

[field_broker]
port = {house.broker_port}

[registry]
url = "{house.registry_url}"

[store]
path = "{house.store}"

[gateway]
plan = "{house.plan}"
outbox = "{house.outbox}"
health_interval_s = 1.0
office_keys = ["{public_path(house.office_key)}"]

[commands]
signing_key = "{house.office_key}"

[office]
outbox = "{house.folder / "office" / "outbox.db"}"

[anomaly]
flood_s = 2.0

[orders]
inspections = "off"

[outbound]
allow_private = ["127.0.0.0/8"]
http_hosts = ["127.0.0.1"]
look_s = 0.5
retry_first_s = 0.5

[api]
port = {house.api_port}

[audit]
anchors = "{house.folder / "audit-anchors.jsonl"}"
"""


def first_free_port(start: int) -> int:
    """Return the first port from `start` on that nobody uses, and keep it claimed. Raises: MetergateError."""
    for port in range(start, start + 100):
        if _is_free(port) and _claim(port):
            return port
    raise MetergateError(f"all ports from {start} to {start + 99} are taken")


def _claim(port: int) -> bool:
    """Between two demos that start at once: only one may believe that a port is free. Held until the process ends."""
    path = Path(tempfile.gettempdir()) / f"metergate-port-{port}.{os.getuid()}"
    claim = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
    try:
        fcntl.flock(claim, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(claim)
        return False
    _CLAIMS.append(claim)
    return True


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _free_ports(count: int) -> list[int]:
    """Return free ports of loopback, all claimed, below those that the system hands out to outgoing connections."""
    ports: list[int] = []
    for _ in range(count):
        ports.append(first_free_port(ports[-1] + 1 if ports else _FIRST_INNER_PORT))
    return ports
