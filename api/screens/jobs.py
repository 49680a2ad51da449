"""What pages need of background jobs: to begin one, and to show one in the words of the page."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote

from starlette.responses import RedirectResponse, Response

from api.house import House
from api.jobs import book
from api.schemas_thresholds import JobOut
from registry.roles import Actor

_PLACES: Final = {
    "billing.refresh": "/billing/{period}",
    "billing.close": "/billing/{period}",
    "billing.deltas": "/billing/deltas",
    "billing.verify": "/billing/{period}",
    "billing.export": "/billing/{period}",
    "billing.report": "/billing/{period}",
}


async def begin(house: House, caller: Actor, kind: str, args: Mapping[str, Any], *, title: str) -> Response:
    """Queue a job and lead to its page. Raises: RefusedError when too many of his wait already."""
    now = house.clock.now_ms()
    number = await house.write(
        lambda c: book.submit(c, caller, kind, args, title=title, now_ms=now, settings=house.workshop.settings)
    )
    house.workshop.wake()
    return RedirectResponse(f"/jobs/{number}", 303, headers={"cache-control": "no-store"})


def place_of(row: Mapping[str, Any]) -> str:
    """Return the page that a job's outcome is about, "" without one."""
    outcome = row["outcome"] or {}
    if row["kind"] in ("books.preview", "books.post") and "batch" in outcome:
        return f"/jobs/imports/{outcome['batch']}"
    period = quote(str(row["args"].get("period", "")), safe="")
    return _PLACES.get(row["kind"], "").format(period=period) if period else ""


def facts_of(job: JobOut) -> list[tuple[str, str]]:
    """Return the outcome of a job as pairs of a word and a text."""
    found = []
    for name, value in (job.outcome or {}).items():
        if isinstance(value, list | tuple):
            found += [(name, str(each)) for each in value]
        elif isinstance(value, dict):
            found += [(f"{name} {key}", str(each)) for key, each in value.items()]
        elif value is not None:
            found.append((name, str(value).lower() if isinstance(value, bool) else str(value)))
    return found
