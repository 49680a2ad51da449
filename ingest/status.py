"""What gateways say of themselves: birth, last will and health, gathered for the registry's table.

Only gateways that the registry knows are listened to, so that nobody can fill the memory with invented names.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import replace
from typing import Any

import msgspec

from ingest.alarms import Alarms
from metering.errors import MessageError
from metering.messages import Health, decode_health, decode_state, gateway_of
from metering.mqtt import Delivery
from registry.ledger import StatusRow, with_buses


class GatewayWatch:
    """Gathers status rows until `take`; `on_birth(gateway, epoch)` is called when a gateway comes to life."""

    def __init__(
        self,
        known: Callable[[], Collection[str]],
        on_birth: Callable[[str, str], None],
        counters: Counter[tuple[str, str]],
        alarms: Alarms | None = None,
        now_ms: Callable[[], int] = lambda: 0,
    ) -> None:
        """alarms: is told of whoever speaks for another, at `now_ms` [ms UTC]."""
        self._known = known
        self._on_birth = on_birth
        self._counters = counters
        self._alarms = alarms or Alarms(Counter())
        self._now_ms = now_ms
        self._rows: dict[str, StatusRow] = {}

    def hear(self, delivery: Delivery) -> None:
        """Take in one delivery of a `state` or `health` topic; anything else is counted and dropped."""
        try:
            gateway = gateway_of(delivery.topic)
            leaf = delivery.topic.rpartition("/")[2]
            said = self._state(delivery.payload) if leaf == "state" else self._health(delivery.payload)
        except MessageError:
            self._counters["status_total", 'result="broken"'] += 1
            return
        claimed = str(said.pop("gateway"))
        if claimed != gateway or gateway not in self._known():
            self._counters["status_total", 'result="foreign"'] += 1
            self._tell(gateway, claimed, delivery.topic)
            return
        self._counters["status_total", 'result="ok"'] += 1
        epoch = said.pop("epoch")
        before = self._rows.get(gateway) or StatusRow(gateway)
        if "health" in said:
            said["health"] = with_buses(before.health, said["health"])
        self._rows[gateway] = replace(before, **said)
        if said.get("online"):
            self._on_birth(gateway, epoch)

    def take(self) -> list[StatusRow]:
        """Hand out what came since the last call."""
        rows, self._rows = list(self._rows.values()), {}
        return rows

    def put_back(self, rows: list[StatusRow]) -> None:
        """The registry could not take them: keep them, unless something newer came meanwhile."""
        for row in rows:
            since = self._rows.get(row.gateway)
            if since is not None and since.health is not None:
                since = replace(since, health=with_buses(row.health, since.health))
            self._rows[row.gateway] = row if since is None else replace(row, **_said(since))

    def _tell(self, gateway: str, claimed: str, topic: str) -> None:
        now = self._now_ms()
        if claimed != gateway:
            text = f"{topic} says that it is {claimed[:48]!r}"
            self._alarms.hold(gateway, "foreign_gateway", text, now, f"{claimed} {topic}")
        else:
            self._alarms.hold(gateway, "unknown_gateway", "the registry does not know this gateway", now)

    def _state(self, payload: bytes) -> dict[str, Any]:
        state = decode_state(payload)
        return {"gateway": state.gateway, "epoch": state.epoch, "online": state.online, "state_at": state.at}

    def _health(self, payload: bytes) -> dict[str, Any]:
        health = decode_health(payload)
        return {
            "gateway": health.gateway,
            "epoch": health.epoch,
            "health_at": health.at,
            "health": {**msgspec.to_builtins(health), "heard_at": self._now_ms(), **_told_at(health)},
        }


def _told_at(health: Health) -> dict[str, int]:
    return {} if health.buses is None else {"buses_at": health.at}


def _said(row: StatusRow) -> dict[str, Any]:
    return {name: value for name in row.__slots__ if (value := getattr(row, name)) is not None}
