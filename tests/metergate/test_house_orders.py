"""The demo ends one order: dispatched, visited, found true; what it says of it and of the system outside."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa

from api.orders.service import Orders
from api.orders.settings import OrderSettings
from metergate.house import House
from metergate.house_orders import finish, finish_line, hook_facts, hook_line, leak_order, listening
from metering.clock import SystemClock
from metering.errors import MetergateError
from registry import findings
from registry.database import Database
from registry.models_outbound import Webhook
from tests.api import findings_world
from tests.api.process import served


def test_an_order_is_sent_visited_and_its_finding_over(tmp_path: Path) -> None:
    with served(tmp_path) as running:
        clock, house = SystemClock(), House(tmp_path, running.port, 0, (), key=running.key)
        with contextlib.closing(Database(house.registry_url)) as database:
            now = clock.now_ms()
            leak = replace(
                findings_world.leak(now), key="new", started_at=now - 1000, detected_at=now, updated_at=now
            )
            with database.begin() as connection:
                findings.record(connection, [leak], now_ms=now)
            Orders(OrderSettings(inspections="off"), database, clock).turn()

        async def scenario() -> None:
            async with listening(house, clock) as outside:
                with contextlib.closing(Database(house.registry_url)) as database, database.read() as connection:
                    hooks = connection.execute(sa.select(Webhook.url, Webhook.secret)).all()
                assert [tuple(hook) for hook in hooks] == [(outside.url, outside.secret)]
                done = await finish(house, 3, clock)
                # the world's own leak of last March and the new one speak for the same order
                assert (done["state"], done["label"], done["finding_over"]) == ("finished", "true", True)
                assert (done["rule"], done["right"], done["looked"]) == ("burst", 2, 2)
                assert finish_line(done) == (
                    "work order 3: finished, label true; its finding is over; rule burst was right in 2 of 2 visits"
                )
                with pytest.raises(MetergateError, match="cannot dispatch"):
                    await finish(house, 3, clock)
                assert hook_facts(outside) == {"requests": 0, "unsigned": 0, "refused": 0, "again": 0, "effects": []}
                assert "0 deliveries took effect" in hook_line(outside)

        asyncio.run(scenario())


def test_the_leaks_order_is_found_among_what_was_found() -> None:
    rest = {"kind": "zero_use", "order": {"id": 4}}
    assert leak_order([rest, {"kind": "leak", "found": False}]) is None
    assert leak_order([rest, {"kind": "leak", "order": {"id": 7}}]) == 7


def test_an_api_that_is_away_is_an_error_in_words(tmp_path: Path) -> None:
    with pytest.raises(MetergateError, match="/api/v1/work-orders/1/dispatch: "):
        asyncio.run(finish(House(tmp_path, 1, 0, ()), 1, SystemClock()))
