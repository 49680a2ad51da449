"""/admin/storage: how large things are, how they grow, how long the disk lasts, and what is ever deleted."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.responses import Response

from api.here import InHere
from api.jobs.book import FORGET_MS
from api.queries.storage import storage
from api.routes.screen_parts import NoQuery, admin_form_page
from api.screens.admin import require_everywhere
from api.screens.frame import attempt
from api.storage import DAY_MS

router = APIRouter(include_in_schema=False)


@router.get("/admin/storage")
async def storage_page(here: InHere, query: NoQuery) -> Response:
    """For callers for all areas: it speaks of the whole house."""
    require_everywhere(here.caller)
    found, trouble = await attempt(
        here.house.read(lambda c: storage(c, here.house.database, here.house.store, now_ms=here.now))
    )
    return await admin_form_page(
        here, "admin_storage.html", found=found, trouble=trouble, size=size,
        retention={
            "results_h": f"{here.house.workshop.settings.keep_h:g}", "jobs_d": FORGET_MS // DAY_MS,
            "messages_d": here.house.outbound.keep_days, "session_h": here.house.access.session_longest_h,
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
