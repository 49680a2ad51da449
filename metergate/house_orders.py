"""How the demo's house ends one work order, and the system outside that is told of all of them.

The leak's pipe is mended, its order is sent to a worker, and he finds that the rule was right: the finding is over
and the rule's precision knows it. Everything goes over the API, as a dispatcher's and a worker's programs would go.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

from api.outbound.book import create_webhook
from metergate.house import House
from metering.clock import Clock, rfc3339
from metering.errors import MetergateError, TransportError
from registry import users
from registry.database import Database
from registry.roles import Role, console
from simulators.control_client import order as tell_meters
from simulators.webhook_receiver import WebhookReceiver

WORKER: Final = "wang"
_ANSWER_S: Final = 10.0
_TELL_S: Final = 8.0
_LOOK_S: Final = 0.1


@asynccontextmanager
async def listening(house: House, clock: Clock) -> AsyncIterator[WebhookReceiver]:
    """Run a receiver and register it for everything that happens to work orders; hire a worker."""
    receiver = WebhookReceiver(clock)
    await receiver.start()
    values = {
        "name": "demo",
        "url": receiver.url,
        "kinds": ["work_order.*"],
        "districts": [],
        "template": "metergate",
        "enabled": True,
    }
    try:
        now, boss = clock.now_ms(), console("demo")
        with contextlib.closing(Database(house.registry_url)) as database, database.begin() as connection:
            _, receiver.secret = create_webhook(connection, boss, values, now_ms=now, most=100)
            users.create(
                connection, boss, name=WORKER, display_name="", roles=(Role.WORKER,), ranks=(), areas=None, at=now
            )
        yield receiver
    finally:
        await receiver.stop()


def leak_order(lines: Sequence[Mapping[str, Any]]) -> int | None:
    """Return the number of the order that the injected leak opened, of `house_findings.found_lines`; None yet."""
    found = [line["order"]["id"] for line in lines if line["kind"] == "leak" and "order" in line]
    return int(found[0]) if found else None


async def finish(house: House, number: int, clock: Clock) -> dict[str, Any]:
    """Send a worker to an order, let the receipt say that the finding was right; return what became of all of it.

    Raises: MetergateError when the API refuses a step.
    """
    arrived = rfc3339(clock.now_ms())
    path = f"/api/v1/work-orders/{number}"
    await _ask(house, f"{path}/dispatch", {"assignee": WORKER})
    await _ask(house, f"{path}/arrive", {})
    receipt = {"worker": WORKER, "arrived_at": arrived, "result": "passed", "label": "true", "note": "joint was open"}
    done = await _ask(house, f"{path}/receipts", receipt)
    seen = (await _ask(house, path))["evidence"]["findings"][0]
    finding = await _ask(house, f"/api/v1/findings/{seen['finding']}")
    scores = await _ask(house, f"/api/v1/rules/precision?rule={seen['rule']}")
    return {
        "order": number,
        "state": done["state"],
        "label": done["label"],
        "rule": seen["rule"],
        "finding_over": finding["cleared_at"] is not None,
        "right": sum(line["true"] for line in scores["items"]),
        "looked": sum(line["true"] + line["false"] + line["other_cause"] for line in scores["items"]),
    }


async def mend(house: House, meters: Sequence[str], clock: Clock) -> None:
    """Close the leaks of these simulated meters; harmless when the farm is gone."""
    with contextlib.suppress(TransportError):
        for meter in meters:
            await tell_meters(house.control_port, {"meter": meter, "flow": None}, clock=clock)


async def told(receiver: WebhookReceiver, kind: str, clock: Clock) -> None:
    """Wait a moment for an event to arrive outside."""
    end = clock.monotonic() + _TELL_S
    while clock.monotonic() < end and kind not in receiver.kinds.values():
        await clock.sleep(_LOOK_S)


async def _ask(house: House, path: str, body: Mapping[str, Any] | None = None) -> Any:
    return await asyncio.to_thread(_ask_now, house, path, body)


def _ask_now(house: House, path: str, body: Mapping[str, Any] | None) -> Any:
    request = urllib.request.Request(
        f"http://127.0.0.1:{house.api_port}{path}",
        data=None if body is None else json.dumps(body).encode(),
        headers={"authorization": f"Bearer {house.key}", "content-type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=_ANSWER_S) as answer:
            return json.load(answer)
    except urllib.error.HTTPError as error:
        raise MetergateError(f"{path}: {error.read(2000).decode('utf-8', 'replace')}") from None
    except OSError as error:
        raise MetergateError(f"{path}: {error}") from None


def finish_line(done: Mapping[str, Any]) -> str:
    """Return what became of the order, in one line."""
    over = "its finding is over" if done["finding_over"] else "its finding still holds"
    return (
        f"work order {done['order']}: {done['state']}, label {done['label']}; {over}; "
        f"rule {done['rule']} was right in {done['right']} of {done['looked']} visits"
    )


def hook_line(receiver: WebhookReceiver) -> str:
    """Return what the system outside saw, in one line."""
    return (
        f"webhook: {receiver.requests} requests, {receiver.unsigned} with a wrong signature, {receiver.refused} "
        f"answered with 500 and {receiver.again} sent again; {len(receiver.kinds)} deliveries took effect, each once"
    )


def hook_facts(receiver: WebhookReceiver) -> dict[str, Any]:
    """Return the same for programs."""
    names = ("requests", "unsigned", "refused", "again")
    return {name: getattr(receiver, name) for name in names} | {"effects": sorted(receiver.kinds.values())}
