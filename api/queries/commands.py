"""Order commands for meters and gateways that the caller may see, and show what became of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from api import paging, words
from api.access.caller import require_area
from api.command_office import CommandOffice
from api.paging import Page
from api.problems import ProblemError, not_found
from api.schemas_commands import CommandDetail, CommandOut, MeterAnswer
from metering.clock import rfc3339
from metering.errors import RegistryError
from metering.signing import NONCE_BYTES
from registry import clock_orders, commands
from registry.models import Gateway, Installation, Meter, UsagePoint
from registry.models_access import CommandRecord
from registry.roles import Actor

_TABLE = CommandRecord.__table__
_DISTRICT = sa.case((_TABLE.c.meter == "", Gateway.district), else_=UsagePoint.district)


def read_meter(
    connection: Connection, actor: Actor, office: CommandOffice, meter: str, *, nonce: str, at: int
) -> CommandOut:
    """Order a read of one meter. Raises: ProblemError 404, 409."""
    gateway = _gateway_of(connection, actor, meter)
    wanted = commands.Order(
        gateway, "read-now", {"meters": [meter]}, nonce, meter, office.settings.command_deadline_s
    )
    return _out(_order(connection, actor, office, wanted, at))


def set_meter_clock(
    connection: Connection, actor: Actor, office: CommandOffice, meter: str, *, nonce: str, at: int
) -> CommandOut:
    """Order one meter's clock to be set. Raises: ProblemError 404, 409."""
    gateway = _gateway_of(connection, actor, meter)
    ((offset, meters),) = clock_orders.clocks_of(connection, gateway, (), at=at, meters=[meter]) or [(0, [meter])]
    args = {"meters": meters, "utc_offset_s": offset}
    wanted = commands.Order(gateway, "set-clock", args, nonce, meter, office.settings.command_deadline_s)
    return _out(_order(connection, actor, office, wanted, at))


def set_gateway_clocks(
    connection: Connection, actor: Actor, office: CommandOffice, gateway: str, *, bus: str, nonce: str, at: int
) -> list[CommandOut]:
    """Order the clocks of a gateway's meters to be set, those that the caller may see. Raises: ProblemError."""
    district = connection.execute(sa.select(Gateway.district).where(Gateway.id == gateway)).scalar_one_or_none()
    if district is None:
        raise not_found("gateway", gateway)
    require_area(actor, district, "gateway", gateway)
    groups = clock_orders.clocks_of(connection, gateway, office.takes_time, at=at, bus=bus, areas=actor.areas)
    if not groups:
        raise ProblemError(409, "nothing-to-set", f"no meter of {gateway}{' on ' + bus if bus else ''} takes a time")
    made = []
    for place, (offset, meters) in enumerate(groups):
        args = {"meters": meters, "utc_offset_s": offset}
        own = f"{(int(nonce, 16) + place) % 2 ** (8 * NONCE_BYTES):0{2 * NONCE_BYTES}x}"
        wanted = commands.Order(gateway, "set-clock", args, own, "", office.settings.command_deadline_s)
        made.append(_out(_order(connection, actor, office, wanted, at)))
    return made


def one_command(connection: Connection, actor: Actor, nonce: str) -> CommandDetail:
    """Return one command with what it did at each meter. Raises: ProblemError 404."""
    found = connection.execute(_visible(actor).where(_TABLE.c.nonce == nonce)).mappings().first()
    if found is None:
        raise not_found("command", nonce)
    row = dict(found)
    said = commands.answers(connection, nonce, row["gateway_id"], row["issued_at"])
    return CommandDetail(
        **dict(_out(row)),
        meters=[MeterAnswer(**(answer | {"at": rfc3339(answer["at"])})) for answer in said],
    )


def list_commands(
    connection: Connection,
    actor: Actor,
    *,
    gateway: str | None,
    meter: str | None,
    state: str | None,
    limit: int,
    cursor: str | None,
) -> Page[CommandOut]:
    """Return one page of commands, newest first."""
    statement = _visible(actor)
    for column, wanted in ((_TABLE.c.gateway_id, gateway), (_TABLE.c.meter, meter), (_TABLE.c.state, state)):
        if wanted is not None:
            statement = statement.where(column == wanted)
    key = sa.func.printf("%015d", _TABLE.c.issued_at) if _is_sqlite(connection) else _padded()
    place = key.concat(_TABLE.c.nonce)
    after = paging.text_key("commands", cursor)
    if after is not None:
        statement = statement.where(place < after)
    rows = [dict(row) for row in connection.execute(statement.order_by(place.desc()).limit(limit + 1)).mappings()]
    page = paging.page_of(rows, limit, "commands", lambda row: f"{row['issued_at']:015d}{row['nonce']}")
    return Page([_out(row) for row in page.items], page.next_cursor)


def _padded() -> Any:
    return sa.func.lpad(sa.cast(_TABLE.c.issued_at, sa.Text()), 15, "0")


def _is_sqlite(connection: Connection) -> bool:
    return connection.dialect.name == "sqlite"


def _visible(actor: Actor) -> Any:
    statement = (
        sa.select(_TABLE)
        .outerjoin(Gateway, Gateway.id == _TABLE.c.gateway_id)
        .outerjoin(Installation, sa.and_(Installation.meter_id == _TABLE.c.meter, Installation.removed_at.is_(None)))
        .outerjoin(UsagePoint, UsagePoint.id == Installation.usage_point_id)
    )
    return statement if actor.areas is None else statement.where(_DISTRICT.in_(actor.areas))


def _gateway_of(connection: Connection, actor: Actor, meter: str) -> str:
    """Raises: ProblemError 404 for a meter that is not there or not to be seen, 409 for one without a gateway."""
    row = connection.execute(
        sa.select(Meter.gateway_id, UsagePoint.district)
        .outerjoin(Installation, sa.and_(Installation.meter_id == Meter.id, Installation.removed_at.is_(None)))
        .outerjoin(UsagePoint, UsagePoint.id == Installation.usage_point_id)
        .where(Meter.id == meter)
    ).first()
    if row is None:
        raise not_found("meter", meter)
    require_area(actor, row.district or "", "meter", meter)
    if row.gateway_id is None:
        raise ProblemError(409, "no-gateway", f"meter {meter} hangs on no gateway")
    return str(row.gateway_id)


def _order(
    connection: Connection, actor: Actor, office: CommandOffice, wanted: commands.Order, at: int
) -> Mapping[str, Any]:
    try:
        return commands.order(connection, actor, office.key, wanted, at=at)
    except RegistryError as error:
        raise ProblemError(409, "conflict", error.message) from error


def _out(row: Mapping[str, Any]) -> CommandOut:
    return CommandOut(
        nonce=row["nonce"],
        gateway=row["gateway_id"],
        meter=row["meter"] or None,
        name=row["name"],
        state=row["state"],
        issued_by=row["issued_by"],
        issued_at=rfc3339(row["issued_at"]),
        deadline=rfc3339(row["deadline"]),
        finished_at=words.moment(row["finished_at"]),
        result=row["result"],
    )
