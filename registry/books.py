"""Bring the utility's list of meters into the registry, and read back what a gateway must poll."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import sqlalchemy as sa
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from sqlalchemy.engine import Connection

from metering.clock import parse_day, parse_rfc3339
from metering.errors import RegistryError
from metering.messages import OFFICE
from metering.quantities import COUNTERS, Quantity, to_micro
from metering.settings import explain_row, nearest
from registry.classes import change_class, known
from registry.installations import exchange
from registry.ledger import upsert
from registry.models import Bus, Gateway, Installation, Meter, UsagePoint
from registry.roles import Actor, service

Medium = Literal["gas", "water", "electricity", "heat"]
CustomerClass = Literal["residential", "residential_heating", "restaurant", "commercial", "public", "industrial"]
MeterState = Literal["registered", "installed", "in_service", "sealed", "removed", "unused"]
NOT_READ: Final[tuple[MeterState, ...]] = ("removed", "unused", "registered")
"""States of meters that no gateway is to read."""

_MANY: Final = 30_000  # values named in one statement
_BILLED: Final[dict[str, Quantity]] = {
    "gas": "volume",
    "water": "volume",
    "electricity": "energy_import",
    "heat": "energy_import",
}


def moment(text: str, zone: str) -> int:
    """Return [ms UTC] of a date (its local midnight) or of a time with offset. Raises: ValueError."""
    return parse_day(text, zone) if len(text) == 10 else parse_rfc3339(text)


def _moment_text(text: str) -> str:
    try:
        moment(text, "UTC")
    except ValueError as error:
        raise ValueError("must be a date such as 2026-03-20 or a time with offset") from error
    return text


def _zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError) as error:
        raise ValueError("no such time zone; write for example Asia/Shanghai") from error
    return name


def _printable(text: str) -> str:
    if not text.isprintable():
        raise ValueError("holds a control character")
    return text


Micro = Annotated[int, BeforeValidator(lambda text: to_micro(text) if isinstance(text, str) else text)]
Moment = Annotated[str, AfterValidator(_moment_text)]
Word = Annotated[str, Field(max_length=64), AfterValidator(_printable)]
Name = Annotated[str, Field(max_length=300), AfterValidator(_printable)]
GatewayWord = Annotated[str, Field(max_length=48, pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]


class MeterRow(BaseModel):
    """One line of a meters file: the columns of the sample fleet, and how the meter is reached."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    meter_id: Annotated[str, Field(min_length=1, max_length=64), AfterValidator(_printable)]
    medium: Medium
    usage_point: Word = ""
    customer_class: CustomerClass | Literal[""] = ""
    unit: Literal["m3", "kWh", ""] = ""
    quantity: Quantity | None = None
    serial: Word = ""
    profile: Word = ""
    gateway: GatewayWord | None = None
    bus: GatewayWord | None = None
    bus_kind: Word = "modbus-tcp"
    host: Annotated[str, Field(max_length=255), AfterValidator(_printable)] = ""
    port: Annotated[int, Field(ge=1, le=65535)] | None = None
    address: Word = ""
    interval_s: Annotated[int, Field(ge=1, le=31 * 86400)] | None = None
    install_date: Moment | None = None
    commission_date: Moment | None = None
    replaced_at: Moment | None = None
    start_index: Micro | None = None
    index_digits: Annotated[int, Field(ge=1, le=12)] | None = None
    resolution: Annotated[Micro, Field(gt=0)] | None = None
    qmax_per_h: Annotated[Micro, Field(gt=0)] | None = None
    inlet: Literal["left", "right", ""] = ""
    state: MeterState = "in_service"
    tz: Annotated[str, AfterValidator(_zone)] = "Asia/Shanghai"
    district: Word = ""
    customer_address: Name = ""
    account_number: Word = ""
    first_ts: str = ""
    last_ts: str = ""


@dataclass(frozen=True, slots=True)
class BadRow:
    """A line that was not taken, and why. line: in the file, the header is 1."""

    line: int
    meter: str
    reason: str


@dataclass(frozen=True, slots=True)
class ImportResult:
    """meters: how many were taken; bad: every line that was not."""

    meters: int
    bad: list[BadRow]


def import_meters(
    connection: Connection,
    text: str,
    *,
    billed: Mapping[str, Quantity] | None = None,
    actor: Actor | None = None,
    now: int | None = None,
) -> ImportResult:
    """Take a CSV of meters; sound rows go in (again: they are updated), each bad row is returned with its reason.

    Rows that name a gateway must name bus, address, profile and interval_s too; gateways and buses are made from
    what the rows say, and two rows that describe one bus differently are an error.
    A row with `replaced_at` records an exchange at its usage point: of the meter that hangs there for the row's, or,
    where the same id goes on (a head-end that names the place), of one device for another under it.
    billed: profile -> the quantity it bills; when given, a profile that is not in it is an error too.
    now: [ms UTC] when this is recorded, the latest exchange of the file when not given.
    Raises: ValueError when the header cannot be used at all.
    """
    rows: list[tuple[int, MeterRow]] = []
    bad: list[BadRow] = []
    seen: dict[str, int] = {}
    buses: dict[tuple[str, str], tuple[Any, ...]] = _known_buses(connection)
    for line, raw in _lines(text):
        meter = raw.get("meter_id", "")
        try:
            row = MeterRow.model_validate(raw)
            _check_together(row, line, seen, buses)
            _check_profile(row, billed)
        except ValidationError as error:
            bad.append(BadRow(line, meter, explain_row(error, raw, MeterRow)))
        except ValueError as error:
            bad.append(BadRow(line, meter, str(error)))
        else:
            rows.append((line, row))
    done, by = {row.meter_id: line for line, row in rows}, actor or service("import")
    swapped = _post(
        connection, [row for _, row in rows], billed or {}, lambda row: _classed(connection, row, by, now)
    )
    bad += _exchanges(connection, swapped, done, by, now)
    return ImportResult(len(rows), sorted(bad, key=lambda row: row.line))


def _lines(text: str) -> Iterator[tuple[int, dict[str, str]]]:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    header = [name.strip().lstrip("\ufeff") for name in next(reader, [])]
    known = list(MeterRow.model_fields)
    for name in header:
        if name not in known:
            raise ValueError(f'line 1: unknown column "{name}"; {nearest(name, known)}')
    for needed in ("meter_id", "medium"):
        if needed not in header:
            raise ValueError(f'line 1: column "{needed}" is missing')
    if len(set(header)) != len(header):
        raise ValueError("line 1: a column stands twice")
    while True:
        start = reader.line_num + 1
        try:
            cells = next(reader, None)
        except csv.Error as error:
            raise ValueError(f"line {start}: not CSV: {error}") from error
        if cells is None:
            return
        if not any(cell.strip() for cell in cells):
            continue
        if len(cells) != len(header):
            # an impossible column makes the row fail its check, so that it is reported like every other bad row
            yield start, {"meter_id": cells[0], f"({len(cells)} cells, the header has {len(header)})": ""}
            continue
        yield start, {name: cell.strip() for name, cell in zip(header, cells, strict=True) if cell.strip()}


def _check_together(
    row: MeterRow, line: int, seen: dict[str, int], buses: dict[tuple[str, str], tuple[Any, ...]]
) -> None:
    """What no single column can tell. Raises: ValueError."""
    if row.meter_id in seen:
        raise ValueError(f"meter_id stands already on line {seen[row.meter_id]}")
    if row.gateway == OFFICE:
        raise ValueError(f'gateway = "{OFFICE}" is ours: manual and imported readings come under this name')
    if row.quantity is not None and row.quantity not in COUNTERS:
        raise ValueError(f"quantity {row.quantity} does not count; allowed: {', '.join(sorted(COUNTERS))}")
    if row.gateway is not None:
        wanted = {"bus": row.bus, "address": row.address, "profile": row.profile, "interval_s": row.interval_s}
        if absent := [name for name, value in wanted.items() if not value]:
            raise ValueError(f"a meter of a gateway needs {', '.join(absent)} too")
        if row.bus_kind.startswith("modbus") and not (row.address.isdecimal() and int(row.address) <= 255):
            raise ValueError(f'address = "{row.address}": a Modbus unit is a number, 0 … 255')
        facts = (row.bus_kind, row.host, row.port)
        before = buses.setdefault((row.gateway, str(row.bus)), facts)
        if before != facts:
            raise ValueError(f"bus {row.bus} of {row.gateway} is {before} elsewhere and {facts} here")
    seen[row.meter_id] = line


def _check_profile(row: MeterRow, billed: Mapping[str, Quantity] | None) -> None:
    if billed is not None and row.profile and row.profile not in billed:
        raise ValueError(f'profile = "{row.profile}": no such meter model; {nearest(row.profile, list(billed))}')


def _known_buses(connection: Connection) -> dict[tuple[str, str], tuple[Any, ...]]:
    rows = connection.execute(sa.select(Bus.gateway_id, Bus.name, Bus.kind, Bus.host, Bus.port))
    return {(row.gateway_id, row.name): (row.kind, row.host, row.port) for row in rows}


def _classed(connection: Connection, row: MeterRow, actor: Actor, now: int | None) -> None:
    """Record that a file names another class than the books: periods before now keep the one that they had."""
    if now is not None:
        note = "class of a meters file"
        change_class(connection, actor, _place(row), customer_class=row.customer_class, at=now, now=now, note=note)


def _post(
    connection: Connection,
    rows: list[MeterRow],
    billed: Mapping[str, Quantity],
    classed: Callable[[MeterRow], None],
) -> list[MeterRow]:
    """Write what the rows say; return those whose exchange is to be recorded. classed: for those of another class."""
    gateways = {row.gateway: row.district for row in rows if row.gateway}
    upsert(
        connection,
        Gateway,
        [{"id": gateway, "name": "", "district": district} for gateway, district in gateways.items()],
        ("id",),
        replace=False,
    )
    buses = {(row.gateway, row.bus): row for row in rows if row.gateway}
    upsert(
        connection,
        Bus,
        [
            {"gateway_id": gateway, "name": bus, "kind": row.bus_kind, "host": row.host, "port": row.port}
            for (gateway, bus), row in buses.items()
        ],
        ("gateway_id", "name"),
        replace=False,
    )
    numbers = {
        (row.gateway_id, row.name): row.id for row in connection.execute(sa.select(Bus.id, Bus.gateway_id, Bus.name))
    }
    points = {_place(row): row for row in rows}
    classes = known(connection, list(points))
    for point, row in points.items():
        if row.customer_class and classes.get(point) and classes[point] != row.customer_class:
            classed(row)
    facts_of = [_usage_point(row) for row in rows]
    for place in facts_of:  # a file that is silent about the class leaves it
        place["customer_class"] = place["customer_class"] or classes.get(place["id"], "")
    upsert(connection, UsagePoint, facts_of, ("id",), replace=True)
    kept = _states_to_keep(connection)
    meters = [_meter(row, numbers, billed) for row in rows]
    for row, facts in zip(rows, meters, strict=True):
        if "state" not in row.model_fields_set:
            facts["state"] = kept.get(row.meter_id, facts["state"])
    upsert(connection, Meter, meters, ("id",), replace=True)
    swapped = [row for row in rows if row.replaced_at]
    taken = _taken(connection, swapped)
    _install(
        connection, [row for row in rows if not (row.replaced_at and taken.get(_place(row), set()) - {row.meter_id})]
    )
    return swapped


def _states_to_keep(connection: Connection) -> dict[str, str]:
    """What the books say of meters out of service: an old file that is silent about states must not revive them."""
    rows = connection.execute(
        sa.select(Meter.id, Meter.state).where(Meter.state.in_(("removed", "sealed", "unused")))
    )
    return {row.id: row.state for row in rows}


def _place(row: MeterRow) -> str:
    return row.usage_point or row.meter_id


def _taken(connection: Connection, rows: list[MeterRow]) -> dict[str, set[str]]:
    """Which meters hang at the usage points of these rows."""
    found: dict[str, set[str]] = {}
    if rows:
        here = sa.select(Installation.usage_point_id, Installation.meter_id).where(Installation.removed_at.is_(None))
        for point, meter in connection.execute(here):
            found.setdefault(point, set()).add(meter)
    return found


def _exchanges(
    connection: Connection, rows: list[MeterRow], lines: Mapping[str, int], actor: Actor, now: int | None
) -> list[BadRow]:
    """Record the exchanges of a meters file; one that is in the books already is left alone."""
    bad = []
    times = {row.meter_id: moment(str(row.replaced_at), row.tz) for row in rows}
    known = {
        tuple(found)
        for found in connection.execute(
            sa.select(Installation.usage_point_id, Installation.meter_id, Installation.installed_at).where(
                Installation.installed_at.in_(sorted(set(times.values()))[:_MANY])
            )
        )
    }
    taken = _taken(connection, rows)
    for row in rows:
        at, point = times[row.meter_id], _place(row)
        if (point, row.meter_id, at) in known:
            continue
        there = taken.get(point, set())
        others = sorted(there - {row.meter_id}) if row.meter_id not in there else []
        try:
            with connection.begin_nested():
                exchange(
                    connection,
                    actor,
                    point,
                    old_meter=others[0] if others else row.meter_id,
                    new_meter=row.meter_id,
                    at=at,
                    final_index=None,
                    start_index=row.start_index if others else None,
                    now=now if now is not None else max(times.values()),
                    note="replaced_at of a meters file",
                )
        except RegistryError as error:
            bad.append(BadRow(lines[row.meter_id], row.meter_id, f"replaced_at: {error.message}"))
    return bad


def _usage_point(row: MeterRow) -> dict[str, Any]:
    return {
        "id": row.usage_point or row.meter_id,
        "medium": row.medium,
        "customer_class": row.customer_class,
        "district": row.district,
        "tz": row.tz,
        "address": row.customer_address,
        "account_number": row.account_number,
    }


def _meter(row: MeterRow, buses: Mapping[tuple[str, str], int], billed: Mapping[str, Quantity]) -> dict[str, Any]:
    return {
        "id": row.meter_id,
        "serial": row.serial,
        "medium": row.medium,
        "profile": row.profile,
        "quantity": row.quantity or billed.get(row.profile) or _BILLED[row.medium],
        "index_digits": row.index_digits,
        "resolution": row.resolution,
        "qmax": row.qmax_per_h,
        "inlet": row.inlet,
        "state": row.state,
        "commissioned_at": moment(row.commission_date, row.tz) if row.commission_date else None,
        "gateway_id": row.gateway,
        "bus_id": buses.get((row.gateway, row.bus or "")) if row.gateway else None,
        "address": row.address,
        "interval_s": row.interval_s,
    }


def _install(connection: Connection, rows: list[MeterRow]) -> None:
    """Give every meter that has none an installation at its usage point."""
    installed = set(connection.execute(sa.select(Installation.meter_id)).scalars())
    new = [
        {
            "meter_id": row.meter_id,
            "usage_point_id": row.usage_point or row.meter_id,
            "installed_at": moment(row.install_date, row.tz) if row.install_date else 0,
            "removed_at": None,
            "start_index": row.start_index,
            "final_index": None,
        }
        for row in rows
        if row.meter_id not in installed
    ]
    if new:
        connection.execute(sa.insert(Installation), new)


def polled_meters(connection: Connection, gateway: str) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Return (buses, meters) of one gateway as plain rows, in a stable order; removed meters are left out."""
    meter, bus = Meter.__table__, Bus.__table__
    buses = connection.execute(
        sa.select(bus.c.name, bus.c.kind, bus.c.host, bus.c.port)
        .where(bus.c.gateway_id == gateway)
        .order_by(bus.c.name)
    ).mappings()
    meters = connection.execute(
        sa.select(meter.c.id, bus.c.name.label("bus"), meter.c.address, meter.c.profile, meter.c.interval_s)
        .join(bus, bus.c.id == meter.c.bus_id)
        .where(meter.c.gateway_id == gateway, meter.c.state.not_in(NOT_READ))
        .order_by(bus.c.name, meter.c.id)
    ).mappings()
    return [dict(row) for row in buses], [dict(row) for row in meters]


def gateways(connection: Connection) -> list[str]:
    """Return the ids of all gateways."""
    return list(connection.execute(sa.select(Gateway.id).order_by(Gateway.id)).scalars())
