"""/admin/storage: how large things are, how they grow, how long the disk lasts, and what is ever deleted."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from api.access.caller import InCaller
from api.house import InHouse
from api.jobs.book import FORGET_MS
from api.parameters import Nothing
from api.queries.storage import storage
from api.screens.admin import admin_page, require_everywhere
from api.screens.frame import attempt
from api.storage import DAY_MS

router = APIRouter(include_in_schema=False)


@router.get("/admin/storage")
async def storage_page(
    request: Request, house: InHouse, caller: InCaller, query: Annotated[Nothing, Query()]
) -> Response:
    """For callers for all areas: it speaks of the whole house."""
    require_everywhere(caller)
    now = house.clock.now_ms()
    found, trouble = await attempt(house.read(lambda c: storage(c, house.database, house.store, now_ms=now)))
    return await admin_page(
        house, request, caller, "admin_storage.html", found=found, trouble=trouble, size=size,
        retention={
            "results_h": f"{house.workshop.settings.keep_h:g}", "jobs_d": FORGET_MS // DAY_MS,
            "messages_d": house.outbound.keep_days, "session_h": house.access.session_longest_h,
        },
    )  # fmt: skip


def size(count: float | None) -> str:
    """Return bytes as a person reads them (decimal prefixes, as disks are sold), "–" for what is not known."""
    if count is None:
        return "–"
    value, sign = abs(float(count)), "−" if count < 0 else ""
    for unit in ("B", "kB", "MB", "GB"):
        if value < 999.5:
            return f"{sign}{value:.3g} {unit}"
        value /= 1000
    return f"{sign}{value:.3g} TB"
