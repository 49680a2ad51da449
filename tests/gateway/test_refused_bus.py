"""A bus that refuses connections costs its meters an event each, and the rest of the program nothing."""

from __future__ import annotations

import asyncio
import random
import time

from gateway.meter_poll import Backoff
from gateway.plan import parse_plan
from gateway.poller import Poller
from gateway.profiles import load_profiles
from metering.clock import SystemClock
from metering.reading import Event, Row
from tests.brokers import free_port

METERS = 8


def _plan(port: int) -> str:
    meters = "".join(
        f'[[meter]]\nmeter = "W-{unit}"\nbus = "dead"\nunit = {unit}\nprofile = "usw-ultrasonic"\ninterval_s = 0.1\n'
        for unit in range(1, METERS + 1)
    )
    return f'gateway = "gw"\n[[bus]]\nname = "dead"\nhost = "127.0.0.1"\nport = {port}\n{meters}'


async def _longest_hold(rows: list[Row]) -> float:
    """Poll for 1.5 s, and until every meter failed; return the longest work [s] without serving anybody else.

    It is the work of this thread that is measured: a busy machine may let it wait for as long as it likes.
    """
    poller = Poller(
        parse_plan(_plan(free_port()), load_profiles(), name="plan"),
        clock=SystemClock(),
        rng=random.Random(3),
        backoff=Backoff(0.1, 1.0),
        put=lambda row: rows.append(row) is None,
        pressure=lambda: 0.0,
    )
    task = asyncio.ensure_future(poller.run())
    begun, last, longest = time.monotonic(), time.thread_time(), 0.0
    while (past := time.monotonic() - begun) < 1.5 or (len(_failed(rows)) < METERS and past < 90.0):
        now = time.thread_time()
        longest, last = max(longest, now - last), now
        await asyncio.sleep(0.001)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    return longest


def _failed(rows: list[Row]) -> set[str]:
    return {row.meter for row in rows if isinstance(row, Event) and row.kind == "read_failed"}


def test_refused_connections_do_not_hold_the_loop() -> None:
    rows: list[Row] = []
    assert (
        asyncio.run(_longest_hold(rows)) < 0.4
    )  # the pause between two attempts, 0.5 s and more, was spun away once
    assert _failed(rows) == {f"W-{unit}" for unit in range(1, METERS + 1)}
