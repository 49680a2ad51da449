"""/admin/audit: who did what, by filter, and whether the record is sound. For callers for all areas."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from pydantic import AfterValidator, Field
from sqlalchemy.engine import Connection
from starlette.responses import Response

from api.access.forms import checked_fields
from api.audit_job import KIND, last_anchor
from api.here import InHere
from api.jobs import book
from api.parameters import Cursor, Strict, Word, clean
from api.queries import admin_audit
from api.queries.admin_audit import Filters
from api.routes.screen_parts import NoQuery, admin_form_page
from api.screens.admin import ROWS, back_to, require_everywhere
from api.screens.frame import attempt

router = APIRouter(include_in_schema=False)
Who = Annotated[str, Field(max_length=80), AfterValidator(clean)]
LocalTime = Annotated[str, Field(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d(:\d\d)?$")]


class AuditPageQuery(Strict):
    """Filters of the list; an empty field of the form narrows nothing."""

    actor: Who = ""
    action: Word | Literal[""] = ""
    object_kind: Word | Literal[""] = ""
    object_id: Annotated[str, Field(max_length=128), AfterValidator(clean)] = ""
    since: LocalTime | Literal[""] = ""
    until: LocalTime | Literal[""] = ""
    cursor: Cursor | None = None

    def filters(self) -> Filters:
        """The same for the query."""
        return Filters(self.actor, self.action, self.object_kind, self.object_id, self.since, self.until)


@router.get("/admin/audit")
async def audit_page(here: InHere, query: Annotated[AuditPageQuery, Query()]) -> Response:
    """Newest first, with the newest anchor and the last check of the chain."""
    require_everywhere(here.caller)

    def look(connection: Connection) -> Any:
        rows = admin_audit.rows(connection, query.filters(), limit=ROWS, cursor=query.cursor)
        return rows, admin_audit.newest_check(connection)

    found, trouble = await attempt(here.house.read(look))
    materials = here.house.workshop.materials
    path = None if materials is None else materials.anchors
    anchor, no_anchor = await here.house.workers.run(lambda: last_anchor(path))
    check = found[1] if found else None
    return await admin_form_page(
        here, "admin_audit.html", topics="jobs" if check and check["state"] in book.ALIVE else "",
        found=found[0] if found else None, check=check, alive=book.ALIVE, anchor=anchor, no_anchor=no_anchor,
        query=query, trouble=trouble,
    )  # fmt: skip


@router.post("/admin/audit/verify")
async def verify_audit(here: InHere, query: NoQuery) -> Response:
    """Check the whole chain in the background; one check at a time."""
    await checked_fields(here.request)
    require_everywhere(here.caller)
    settings = here.house.workshop.settings

    def work(connection: Connection) -> None:
        before = admin_audit.newest_check(connection)
        if before is None or before["state"] not in book.ALIVE:
            book.submit(
                connection, here.caller, KIND, {}, title="check of the audit", now_ms=here.now, settings=settings
            )

    await here.house.write(work)
    here.house.workshop.wake()
    return back_to("/admin/audit")
