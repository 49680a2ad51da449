"""What the API does beside answering: anchors and swept logins, and that neither stops the serving."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path

import sqlalchemy as sa

from api.background import SWEEP_S, background
from metering.clock import ManualClock
from registry import billing_keys
from registry.models_access import Session
from registry.models_billing import BillingKey
from registry.settings import AuditSettings
from tests.api.world import HOUR, T0, World


async def _until(holds: Callable[[], bool], turns: int = 3000) -> None:
    for _ in range(turns):
        if holds():
            return
        await asyncio.sleep(0.02)
    raise AssertionError("it did not come true")


def _sessions(world: World) -> int:
    with world.database.read() as connection:
        return int(connection.execute(sa.select(sa.func.count()).select_from(Session)).scalar_one())


def test_the_head_is_anchored_and_logins_that_are_over_are_swept_away(world: World) -> None:
    anchors = world.folder / "anchors.jsonl"

    async def scenario() -> None:
        async with background(world.database, AuditSettings(anchors=anchors), world.clock):
            await _until(anchors.exists)
            await _until(lambda: bool(anchors.read_text()))
            await world.clock.advance(SWEEP_S + 1)
            await _until(lambda: _sessions(world) == 1)

    with world.database.begin() as connection:
        for key, at in (("old", T0 - billing_keys.KEPT_MS), ("new", T0)):
            connection.execute(sa.insert(BillingKey).values(key=key, body="", answer="{}", at=at))
        for name, ends in (("over", T0), ("good", T0 + 1000 * HOUR)):
            row = {"id": name, "user_id": 1, "csrf": "", "created_at": T0, "seen_at": T0, "expires_at": ends}
            connection.execute(sa.insert(Session).values(address="", **row))
    asyncio.run(scenario())
    assert json.loads(anchors.read_text().splitlines()[0])["number"] >= 1
    with world.database.read() as connection:
        assert connection.execute(sa.select(BillingKey.key)).scalars().all() == ["new"]


def test_a_registry_and_a_disk_that_are_away_end_nothing(world: World, tmp_path: Path) -> None:
    anchors = tmp_path / "a-file" / "anchors.jsonl"
    anchors.parent.write_text("no folder")

    async def scenario() -> None:
        clock = ManualClock()
        async with background(world.database, AuditSettings(anchors=anchors), clock):
            for _ in range(3):
                await asyncio.sleep(0.05)
                await clock.advance(SWEEP_S + 1)
            anchors.parent.unlink()
            for _ in range(2000):
                await clock.advance(SWEEP_S + 1)
                await asyncio.sleep(0.02)
                if anchors.exists():
                    return
            raise AssertionError("it gave up")

    with world.database.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE user_session RENAME TO away")
    asyncio.run(scenario())
