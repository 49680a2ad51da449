"""A registry, a clock and a sender: what happens in the house is written by the registry's own functions."""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace
from typing import Any

import sqlalchemy as sa

from api.outbound import book
from api.outbound.service import Outbound
from api.outbound.settings import OutboundSettings
from metering.clock import ManualClock, SystemClock
from registry import findings
from registry.database import Database
from registry.findings_words import FindingFacts
from registry.models_outbound import Notification, WebhookDelivery
from registry.roles import console
from tests.api.findings_world import leak

ACTOR = console("test")
LOOPBACK = OutboundSettings(allow_private=("127.0.0.0/8",), http_hosts=("127.0.0.1",), retry_first_s=1.0)
_RULE = {
    "name": "duty",
    "enabled": True,
    "events": ["finding.opened", "finding.reopened", "house.silent", "house.returned"],
    "kinds": [],
    "order_types": [],
    "districts": [],
    "min_priority": "low",
    "quiet": "",
    "tz": "Asia/Shanghai",
    "bundle_s": 60,
    "digest_above": 5,
}


class Scene:
    """One house."""

    def __init__(self, database: Database, settings: OutboundSettings = LOOPBACK, **more: Any) -> None:
        self.database, self.settings = database, settings
        self.clock = ManualClock(SystemClock().now_ms())  # a receiver refuses signatures of another day
        self.sender = Outbound(settings, database, self.clock, chance=random.Random(7), **more)

    def webhook(self, url: str, name: str = "hook", kinds: list[str] | None = None, **more: Any) -> tuple[int, str]:
        """Make a webhook; return its number and secret."""
        values: dict[str, Any] = {
            "name": name,
            "url": url,
            "kinds": ["*"] if kinds is None else kinds,
            "districts": [],
        }
        values |= {"template": "metergate", "enabled": True, **more}
        with self.database.begin() as c:
            return book.create_webhook(c, ACTOR, values, now_ms=self.clock.now_ms(), most=100)

    def rule(self, *steps: tuple[int, list[str]], **more: Any) -> int:
        """Make a rule; steps: (after minutes, targets)."""
        listed = [{"after_min": minutes, "to": to} for minutes, to in steps]
        with self.database.begin() as c:
            return book.create_rule(c, ACTOR, {**_RULE, "steps": listed, **more}, now_ms=self.clock.now_ms())

    def find(self, number: int = 1, **changes: Any) -> FindingFacts:
        """Let the rules find a leak at usage point UP-`number`; return its facts."""
        facts = replace(leak(self.clock.now_ms()), key=f"UP-{number}:leak", usage_point=f"UP-{number}")
        return self.record(replace(facts, **changes))

    def record(self, facts: FindingFacts) -> FindingFacts:
        """Write what the rules say now."""
        self.record_all([facts])
        return facts

    def record_all(self, facts: list[FindingFacts]) -> None:
        """Write many at once."""
        with self.database.begin() as c:
            findings.record(c, facts, now_ms=self.clock.now_ms())

    async def turn(self) -> None:
        """One look, and all attempts that follow from it."""
        await self.sender.turn()
        await self.sender.settled()

    async def pass_time(self, seconds: float, *, step: float = 1.0) -> None:
        """Let time pass, with a turn each `step` seconds."""
        for _ in range(round(seconds / step)):
            await self.clock.advance(step)
            await self.turn()

    def deliveries(self) -> list[Any]:
        """Every delivery, oldest first."""
        with self.database.read() as c:
            order = (WebhookDelivery.created_at, WebhookDelivery.id)
            return list(c.execute(sa.select(WebhookDelivery).order_by(*order)).all())

    def notifications(self) -> list[Any]:
        """Every notification, oldest first."""
        with self.database.read() as c:
            return list(c.execute(sa.select(Notification).order_by(Notification.id)).all())


def play(scene: Scene, work: Any) -> None:
    """Run a test's coroutine from the first, empty look on, and end the sender."""

    async def whole() -> None:
        try:
            await scene.turn()
            await work()
        finally:
            await scene.sender.close()

    asyncio.run(whole())
