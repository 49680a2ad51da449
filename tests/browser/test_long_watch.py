"""A night in front of the pages, compressed: the memory of server and page stays flat, with 200 streams at once.

A page renews itself at most about once a second, and in the changes of a busy night every fifth second. The long form
plays the 5,760 renewals of eight hours so; the short one plays as many as a few seconds hold.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from metering.clock import SystemClock
from registry import ledger
from registry.database import Database
from tests.api.process import Served
from tests.browser.house import Browser, browser, house

STREAMS = 200
MIB = 1024 * 1024
FASTER = """
const real = window.setTimeout;
window.setTimeout = (work, ms, ...rest) => real(work, (ms || 0) / 40, ...rest);
window.renewed = 0;
document.addEventListener("htmx:afterSettle", () => { window.renewed += 1; });
"""
"""The page's own waiting, forty times as fast; and a count of its renewals."""
WAIT = """
const [number, done] = arguments;
const look = setInterval(() => { if (window.renewed >= number) { clearInterval(look); done(); } }, 50);
"""


class Watchers:
    """So many open streams, read by one thread; events are counted and thrown away."""

    def __init__(self, running: Served, number: int) -> None:
        self.events = 0
        self.open = 0
        self._running, self._number = running, number
        self._end = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._all()))

    def __enter__(self) -> Watchers:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join(timeout=60)

    async def _all(self) -> None:
        tasks = [asyncio.create_task(self._one()) for _ in range(self._number)]
        while not self._end.is_set():
            await asyncio.sleep(0.05)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _one(self) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._running.port)
        key = f"authorization: Bearer {self._running.key}\r\naccept: text/event-stream\r\n"
        writer.write(f"GET /events HTTP/1.1\r\nhost: 127.0.0.1\r\n{key}\r\n".encode())
        assert b" 200 " in await reader.readline()
        self.open += 1
        try:
            while line := await reader.readline():
                self.events += line.startswith(b"event: change")
        finally:
            self.open -= 1
            writer.close()


@contextmanager
def changes(database: Database) -> Iterator[None]:
    """Something new in the ledger of deliveries, again and again."""
    end = threading.Event()

    def work() -> None:
        number = 0
        while not end.wait(0.1):
            number += 1
            at = SystemClock().now_ms()
            position = ledger.Position(
                "gw-1", "long", 1, [(1, number)], produced=number, stored=number, last_up_at=at
            )
            with database.begin() as connection:
                ledger.save_positions(connection, [position])

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        end.set()
        thread.join(timeout=60)


def heap(window: Browser) -> int:
    """Bytes that the page's JavaScript holds, after a collection; nodes of its documents are in it."""
    window.driver.execute_cdp_cmd("HeapProfiler.collectGarbage", {})
    found = window.driver.execute_cdp_cmd("Runtime.getHeapUsage", {})
    return int(found["usedSize"])


def nodes(window: Browser) -> int:
    """Nodes that the page's documents hold, after a collection."""
    return int(window.driver.execute_cdp_cmd("Memory.getDOMCounters", {})["nodes"])


def renewals(window: Browser) -> int:
    return int(window.driver.execute_script("return window.renewed"))


def renewed(window: Browser, number: int) -> None:
    """Wait inside of the page: each question of the driver leaves some 60 bytes in it."""
    window.driver.set_script_timeout(7200)
    window.driver.execute_async_script(WAIT, number)


def held(running: Served, window: Browser) -> tuple[int, int, int]:
    """Bytes of the server, bytes of the page's JavaScript, nodes of the page."""
    return running.rss(), heap(window), nodes(window)


def watch(folder: Path, *, number: int, warm: int, streams: int, parts: int) -> list[str]:
    """Play `number` renewals; return a line of figures for each of `parts` of them."""
    lines = []
    settings = {"program": "tests.browser.fast_serve", "max_event_streams": streams + 20}
    with (
        house(folder, **settings) as (running, database),
        browser(running.address) as window,
        Watchers(running, streams) as watchers,
    ):
        window.driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": FASTER})
        window.log_in("operator")
        window.open("/")
        window.one("#live")
        window.until(lambda: watchers.open == streams, deadline_s=120)
        with changes(database):
            renewed(window, warm)
            first = held(running, window)
            for part in range(1, parts + 1):
                renewed(window, warm + number * part // parts)
                last = held(running, window)
                lines.append(
                    f"{renewals(window)} renewals: server {last[0] / MIB:.1f} MiB, page {last[1] / MIB:.2f} MiB,"
                    f" {last[2]} nodes, {watchers.events} events to {watchers.open} streams"
                )
                print(lines[-1], flush=True)
        assert watchers.open == streams, "a stream was ended"
        assert watchers.events > streams
    assert last[0] - first[0] < 24 * MIB, lines
    assert last[1] - first[1] < 3 * MIB, lines
    assert last[2] < first[2] * 3, lines  # documents that wait for their collection
    return lines


@pytest.mark.timeout(600)
def test_memory_of_server_and_page_stays_flat_while_two_hundred_watch(tmp_path: Path) -> None:
    watch(tmp_path, number=5, warm=2, streams=STREAMS, parts=1)


@pytest.mark.long
@pytest.mark.timeout(14_400)
def test_memory_stays_flat_over_eight_hours_of_changes(tmp_path: Path) -> None:
    began = time.monotonic()
    watch(tmp_path, number=5760, warm=100, streams=STREAMS, parts=24)
    print(f"{time.monotonic() - began:.0f} s")
