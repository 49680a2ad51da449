"""How long does the server work for each page, and how much does the browser fetch?

    python -m benchmarks.screens [--meters 100000] [--hourly 2000] [--folder FOLDER] [--rounds 60]

A city of gas meters with a year of daily closings and, for some, a year of hourly readings; the API as a process of
its own over the embedded registry and store; one caller who is logged in. Times: from the first byte of the request
to the last of the answer, on one connection, nothing else asked meanwhile; "first" is the very first answer of a
fresh process. CPU is the server's own time for one answer (mean), which other programs on the machine disturb least.
A tenth of the city is measured beside it for comparison. The folder is kept and used again when it is named.
"""

from __future__ import annotations

import argparse
import gzip
import http.client
import itertools
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from urllib.parse import urlencode, urlsplit

import psutil

from benchmarks.screens_city import DISTRICTS, build, name
from tests.browser.house import PASSWORD

PAGES = {
    "overview": ["/"],
    "alarms": ["/alarms", "/alarms?view=all", "/alarms?priority=urgent"],
    "alarm": [f"/alarms/{n}" for n in range(1, 40)],
    "shift": ["/shift"],
    "meters": ["/meters", *(f"/meters?district=district+{n}" for n in range(DISTRICTS))],
    "meters, search rare": [f"/meters?{urlencode({'search': text})}" for text in ("{n}室", "SN0{n}", "up-00{n}")],
    "meters, search common": [f"/meters?{urlencode({'search': text})}" for text in ("幸福路", "0", "g-")],
    "meters, search nothing": [f"/meters?{urlencode({'search': text})}" for text in ("zzzz", "没有")],
    "meter, hourly": ["/meters/{hourly}"],
    "meter's charts": ["/meters/{hourly}/consumption"],
    "meter, daily": ["/meters/{daily}"],
    "meter, why": ["/meters/{hourly}/why"],
    "field": ["/field"],
    "billing": ["/billing"],
    "orders": ["/orders"],
    "admin": ["/admin"],
}


@contextmanager
def serving(folder: Path) -> Iterator[tuple[str, psutil.Process]]:
    """Start the API over a folder; its address and process."""
    (folder / "address").unlink(missing_ok=True)
    settings = json.dumps({"port": 0, "rate_burst": 1_000_000, "rate_per_s": 100_000, "tries_burst": 1000})
    process = subprocess.Popen([sys.executable, "-m", "tests.api.serve", str(folder), settings])
    try:
        while not (folder / "address").exists():
            time.sleep(0.05)
            assert process.poll() is None
        yield (folder / "address").read_text(), psutil.Process(process.pid)
    finally:
        process.kill()
        process.wait()


class Caller:
    """One connection, logged in."""

    def __init__(self, address: str, user: str) -> None:
        where = urlsplit(address)
        self._line = http.client.HTTPConnection(str(where.hostname), where.port, timeout=60)
        self._headers = {"accept": "text/html", "accept-encoding": "gzip", "accept-language": "en"}
        body = json.dumps({"name": user, "password": PASSWORD})
        self._line.request("POST", "/api/v1/session", body, {"content-type": "application/json"})
        answer = self._line.getresponse()
        answer.read()
        assert answer.status in (200, 201), (answer.status, user)
        cookies = [value.partition(";")[0] for key, value in answer.getheaders() if key.lower() == "set-cookie"]
        self._headers["cookie"] = "; ".join(cookies)

    def get(self, path: str) -> tuple[int, float, bytes, bool]:
        """Return (status, seconds, body as sent, whether it was packed)."""
        began = time.perf_counter()
        self._line.request("GET", path, headers=self._headers)
        answer = self._line.getresponse()
        body = answer.read()
        return answer.status, time.perf_counter() - began, body, answer.getheader("content-encoding") == "gzip"


def worked(process: psutil.Process) -> float:
    """CPU time of a process [ms]."""
    times = process.cpu_times()
    return (times.user + times.system) * 1000


def measure(folder: Path, meters: int, hourly: int, rounds: int) -> None:
    """Print a line for each page."""
    for title, paths in PAGES.items():
        with serving(folder) as (address, process):
            caller = Caller(
                address, "billing" if title == "billing" else "admin" if title == "admin" else "supervisor"
            )
            caller.get("/livez")
            turns = itertools.cycle(paths)
            times, size, before = [], 0, 0.0
            for turn in range(rounds + 1):
                number = turn * 7919 % meters
                path = next(turns).format(
                    n=number, hourly=name(turn * 31 % hourly), daily=name(hourly + number % (meters - hourly))
                )
                path = path.replace("%7Bn%7D", str(number))
                status, took, body, packed = caller.get(path)
                if status != 200:
                    print(f"{meters:>8} {title:24} answers {status}")
                    break
                times.append(took)
                if turn == 0:
                    before = worked(process)
                size = len(gzip.decompress(body) if packed else body)
            else:
                ordered = sorted(took * 1000 for took in times[1:])
                half, p95 = ordered[len(ordered) // 2], ordered[len(ordered) * 95 // 100]
                cpu = (worked(process) - before) / rounds
                said = f"CPU {cpu:5.1f} ms  first {times[0] * 1000:6.0f} ms  median {half:6.1f} ms  p95 {p95:6.1f} ms"
                print(f"{meters:>8} {title:24} {said}  {size / 1000:6.1f} kB", flush=True)


def first_view(folder: Path, hourly: int) -> None:
    """Print bytes and requests of a browser that comes for the first time, the heaviest page of all."""
    with serving(folder) as (address, _):
        caller = Caller(address, "supervisor")
        for path in ("/", "/alarms", f"/meters/{name(hourly - 1)}"):
            body = caller.get(path)[2]
            named = re.findall(r'(?:src|href)="(/(?:assets|style|docs/fav)[^"]*)"', body.decode())
            extra = [path + "/consumption"] if "/meters/" in path else []
            parts = [body, *(caller.get(address)[2] for address in named + extra)]
            print(
                f"first view of {path}: {sum(map(len, parts)) / 1000:.0f} kB in {len(parts)} requests and one stream"
            )


def main() -> None:
    """See the module's docstring."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--meters", type=int, default=100_000)
    parser.add_argument("--hourly", type=int, default=2000)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--rounds", type=int, default=60)
    options = parser.parse_args()
    with ExitStack() as stack:
        root = options.folder or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        for share in (10, 1):
            meters, hourly = options.meters // share, options.hourly // share
            folder = root / f"city-{meters}"
            if not (folder / "done").exists():
                folder.mkdir(parents=True)
                build(folder, meters, hourly)
                (folder / "done").touch()
            print(f"{meters} meters; load of the machine {os.getloadavg()[0]:.1f}", flush=True)
            measure(folder, meters, hourly, options.rounds)
            first_view(folder, hourly)


if __name__ == "__main__":
    main()
