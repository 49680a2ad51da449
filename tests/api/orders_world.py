"""Two work orders, a crew and an absence for the small utility of `tests.api.world`."""

from __future__ import annotations

import struct
import zlib

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from api.orders import by_hand, teams
from api.orders.book import step, tell
from api.orders.lifecycle import Deed, Step
from api.orders.photos import add_photo
from api.orders.words import OrderType, Priority
from api.orders.working_days import WorkCalendar
from registry import users
from registry.models_work_orders import FollowUp, WorkOrder
from registry.roles import Role, console

HOUR = 3_600_000
BOSS = console("test")


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(shade: int = 0) -> bytes:
    """A picture of one grey pixel."""
    head = struct.pack(">IIBBBBB", 1, 1, 8, 0, 0, 0, 0)
    body = zlib.compress(bytes([0, shade]))
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", head) + _chunk(b"IDAT", body) + _chunk(b"IEND", b"")


def fill(connection: Connection, now: int) -> None:
    """1: a meter test at UP-1 in the north, accepted, known outside as SR-1001, with a photo and a planned call.

    2: a meter inspection at UP-2 in the south, dispatched to zhao. Workers: zhao; qian and sun (crew-1, north). Qian
    is away tomorrow.
    """
    for name in ("zhao", "qian", "sun"):
        facts = {"name": name, "display_name": "", "ranks": (), "areas": None, "at": now - HOUR}
        users.create(connection, BOSS, roles=(Role.WORKER,), **facts)  # type: ignore[arg-type]  # plain facts
    teams.put_team(
        connection, BOSS, "crew-1", shown="First crew", members=["qian", "sun"], districts=["north"], enabled=True,
        now_ms=now - HOUR,
    )  # fmt: skip
    teams.add_absence(
        connection, BOSS, "qian", begins_at=now + 24 * HOUR, ends_at=now + 48 * HOUR, note="leave", now_ms=now - HOUR
    )
    for point, sort, reason in (
        ("UP-1", OrderType.METER_TEST, "customer asks for a test"),
        ("UP-2", OrderType.METER_INSPECTION, "=seal looks broken"),
    ):
        by_hand.open_order(
            connection,
            BOSS,
            usage_point=point,
            order_type=sort,
            priority=Priority.SOON,
            reason=reason,
            now_ms=now - HOUR,
            calendar=WorkCalendar(),
        )
    step(connection, BOSS, 2, Step(Deed.DISPATCH, assignee="zhao"), now_ms=now - HOUR)
    order = connection.execute(sa.select(WorkOrder).where(WorkOrder.id == 1)).one()
    columns = {"external_id": "SR-1001"}
    tell(connection, BOSS, order, "external_id", now_ms=now - HOUR, data=columns, columns=columns)
    add_photo(connection, BOSS, 1, 1, png(), now_ms=now - HOUR)
    connection.execute(
        sa.insert(FollowUp).values(order_id=1, stratum="always", begins_at=now - HOUR, ends_at=now + 48 * HOUR)
    )
