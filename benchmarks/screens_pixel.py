"""How long from the ledger's commit of a reading to the changed number on an open page, at 1,000 readings a second?

    python -m benchmarks.screens_pixel [--seconds 60]

The API as a process of its own, Chromium in front of the page of one meter. A thread writes newest readings of 1,000
meters each second, in four transactions, as ingest does with `flush_s = 0.25`, and one of the watched meter every two
seconds. The page tells when it had drawn what it was given. What ingest itself takes before its commit (at most
`flush_s`) comes on top.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import threading
import time
from pathlib import Path

from metering.clock import SystemClock
from registry import ledger
from registry.database import Database
from tests.browser.house import browser, house

CLOCK = SystemClock()
WATCH = """
window.drawn = {};
new MutationObserver(() => {
  const seen = document.getElementById("live")?.dataset.seen;
  if (seen && !(seen in window.drawn)) requestAnimationFrame(() => { window.drawn[seen] ??= Date.now(); });
}).observe(document.body, { childList: true, subtree: true });
"""


def row(meter: str, at: int) -> ledger.LatestRow:
    """A newest reading."""
    return ledger.LatestRow(meter, at, at, None, "valid", "", "poll", 0, {"volume_standard": at * 1000})


def write(database: Database, seconds: int, committed: dict[int, int]) -> None:
    """Write for so long; note when each reading of the watched meter was committed."""
    for turn in range(seconds * 4):
        began, at = time.monotonic(), CLOCK.now_ms()
        rows = [row(f"B-{number}", at) for number in range(turn % 4 * 250, turn % 4 * 250 + 250)]
        with database.begin() as connection:
            ledger.save_latest(connection, [*rows, row("G-0001", at)] if turn % 8 == 0 else rows)
        if turn % 8 == 0:
            committed[at] = CLOCK.now_ms()
        time.sleep(max(0.0, 0.25 - (time.monotonic() - began)))


def main() -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--seconds", type=int, default=60)
    options = parser.parse_args()
    committed: dict[int, int] = {}
    with (
        tempfile.TemporaryDirectory() as made,
        house(Path(made)) as (running, database),
        browser(running.address) as window,
    ):
        window.log_in("operator")
        window.open("/meters/G-0001")
        window.one("#charts[data-drawn=true]")
        window.driver.execute_script(WATCH)
        writing = threading.Thread(target=write, args=(database, options.seconds, committed))
        writing.start()
        writing.join()
        time.sleep(3)
        drawn = {int(at): when for at, when in window.driver.execute_script("return window.drawn").items()}
    delays = sorted(drawn[at] - when for at, when in committed.items() if at in drawn)
    p95 = delays[len(delays) * 95 // 100]
    print(
        f"{len(delays)} of {len(committed)} readings drawn; median {delays[len(delays) // 2]} ms, p95 {p95} ms,"
        f" most {delays[-1]} ms; load of the machine {os.getloadavg()[0]:.1f}"
    )


if __name__ == "__main__":
    main()
