"""How tests of work orders call the API, and what they send."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import sqlalchemy as sa

from registry.models_access import AuditRecord
from registry.models_work_orders import Team
from registry.roles import Role
from tests.api.world import HOUR, T0, World, at, client, make_key

NOW = T0 + 24 * HOUR
BASE = "/api/v1/work-orders"


def post(world: World, address: str, body: Any = None, *, key: str | None = None, **headers: str) -> httpx.Response:
    async def once() -> httpx.Response:
        async with client(world.app, key) as caller:
            return await caller.post(address, json=body, headers=headers)

    return asyncio.run(once())


def get(world: World, address: str, key: str) -> httpx.Response:
    async def once() -> httpx.Response:
        async with client(world.app, key) as caller:
            return await caller.get(address)

    return asyncio.run(once())


def step(world: World, number: int, deed: str, body: Any = None, **more: Any) -> httpx.Response:
    return post(world, f"{BASE}/{number}/{deed}", body, **more)


def ids(world: World, query: str = "") -> list[int]:
    return [item["id"] for item in world.get(f"{BASE}?{query}").json()["items"]]


def worker_key(world: World, *teams: str) -> str:
    """A key of the role worker; it is a member of the teams by its own name."""
    key = make_key(world.database, Role.WORKER)
    name = key[:11]
    with world.database.begin() as connection:
        for team in teams:
            row = connection.execute(sa.select(Team).where(Team.id == team)).one()
            connection.execute(sa.update(Team).where(Team.id == team).values(members=[*row.members, name]))
    return key


def audits(world: World) -> list[str]:
    """What was changed; refusals are kept too, they are another sort of row."""
    changes = sa.select(AuditRecord.action).where(AuditRecord.action != "access.refused")
    with world.database.read() as connection:
        return list(connection.execute(changes.order_by(AuditRecord.number)).scalars())


GOOD = {
    "worker": "sun",
    "arrived_at": at(24),
    "started_at": at(24),
    "finished_at": at(24),
    "left_at": at(24),
    "result": "passed",
    "index_seen": {"volume_standard": "1012.5"},
    "materials": [{"name": "gasket 垫圈", "count": 2}],
    "amount": "35.50",
    "label": "true",
}
CALL = {"usage_point": "UP-1", "type": "leak_visit", "priority": "urgent", "reason": "smell of gas on the stairs"}
