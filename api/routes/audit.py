"""/api/v1/audit: who changed what, and who was refused. For administrators and supervisors for all areas."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request
from pydantic import Field
from starlette.responses import Response

from api import paging
from api.access.caller import InCaller
from api.house import InHouse
from api.parameters import Moment, PageQuery, Word
from api.problems import ProblemError
from api.replies import reply
from api.routes.documented import answers
from api.schemas_access import AuditOut, AuditPage
from metering.clock import rfc3339
from registry import audit

router = APIRouter(prefix="/api/v1/audit", tags=["access"])


class AuditQuery(PageQuery):
    """Filters; several must all hold."""

    actor: Word | None = Field(None, examples=["user:li.wei"])
    action: Word | None = Field(None, description="A whole word, or its beginning up to the dot: `user.`")
    object_kind: Word | None = Field(None, examples=["user"])
    object_id: Word | None = None
    from_: Moment | None = Field(None, alias="from", description="First moment, included.")
    to: Moment | None = Field(None, description="Last moment, not included.")


@router.get("", summary="List the audit", **answers(AuditPage))
async def list_audit(
    request: Request, house: InHouse, caller: InCaller, query: Annotated[AuditQuery, Query()]
) -> Response:
    """Rows of the chained audit, newest first; `metergate audit verify` proves that none was changed or cut off."""
    if caller.areas is not None:
        raise ProblemError(403, "forbidden", "the audit speaks of all areas: only who may see all of them reads it")
    before = paging.number_key("audit", query.cursor)
    rows = await house.read(
        lambda c: audit.records(
            c,
            before=before,
            actor=query.actor or "",
            action=query.action or "",
            object_kind=query.object_kind or "",
            object_id=query.object_id or "",
            since=query.from_,
            until=query.to,
            limit=query.limit + 1,
        )
    )
    shown = [AuditOut(**{**row, "at": rfc3339(row["at"])}) for row in rows]
    page = paging.page_of(shown, query.limit, "audit", lambda row: row.number)
    return reply(request, AuditPage(items=page.items, next_cursor=page.next_cursor))
