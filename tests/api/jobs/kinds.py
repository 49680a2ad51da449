"""Kinds of jobs for tests of the runner; they run in processes of their own."""

from __future__ import annotations

import os
from threading import Event
from typing import Any

from api.jobs.words import JobError, Work

ALL = {
    f"test.{name}": f"tests.api.jobs.kinds:{name}"
    for name in ("count", "endless", "silent", "refuse", "break_", "die")
}


def count(job: Work) -> dict[str, Any]:
    """Write as many lines as asked for."""
    wanted = int(job.args["lines"])
    with job.result.open("w", encoding="utf-8") as file:
        for number in range(wanted):
            file.write(f"{number}\n")
            job.progress(100 * number // wanted, f"{number} lines")
    job.named = "lines.csv", "text/csv"
    return {"lines": wanted, "for": job.actor.name, "areas": sorted(job.actor.areas or ["*"])}


def endless(job: Work) -> dict[str, Any]:
    """Never end by itself, and say so all the time."""
    while True:
        job.progress(50, f"process {os.getpid()}")
        Event().wait(0.02)


def silent(job: Work) -> dict[str, Any]:
    """Hang without a word."""
    job.progress(1, f"process {os.getpid()}")
    Event().wait(600)
    return {}


def refuse(job: Work) -> dict[str, Any]:
    """Fail with words."""
    raise JobError("there is nothing to count")


def break_(job: Work) -> dict[str, Any]:
    """Fail by a fault of ours, after half a result."""
    job.result.write_text("half", "utf-8")
    return {"never": 1 // int(job.args.get("nothing", 0))}


def die(job: Work) -> dict[str, Any]:
    """Vanish like a process that the kernel killed."""
    os._exit(9)
