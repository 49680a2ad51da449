"""/jobs: work in the background: how far it is, what it came to, its result; files brought in and posted by it."""

from __future__ import annotations

from typing import Annotated, Any, Final

from fastapi import APIRouter, Query
from sqlalchemy.engine import Connection
from starlette.responses import Response

from api import paging
from api.access.forms import checked_fields
from api.here import Here, InHere
from api.jobs import book
from api.jobs.imports import KINDS, POST, PREVIEW, keep_upload
from api.parameters import Cursor, Strict
from api.problems import not_found
from api.queries import books
from api.queries import jobs as queries
from api.replies import see_other
from api.routes.imports import BatchPath
from api.routes.jobs import NumberPath, job_result
from api.routes.screen_parts import NoQuery, show
from api.screens.frame import attempt
from api.screens.jobs import begin, facts_of, place_of
from api.screens.multipart import checked_form
from api.screens.order_forms import FormError, text_of
from metering.clock import rfc3339
from registry.refusals import RefusedError

router = APIRouter(include_in_schema=False)
_ROWS: Final = 50
_BAD_ROWS: Final = 100
router.get("/jobs/{number}/result")(job_result)


class JobsQuery(Strict):
    """Where the list goes on."""

    cursor: Cursor | None = None


@router.get("/jobs")
async def jobs_page(here: InHere, query: Annotated[JobsQuery, Query()]) -> Response:
    """One's own, newest first; an administrator sees all."""
    return await _list(here, query.cursor)


async def _list(here: Here, cursor: str | None, *, refused: str = "", status: int = 200) -> Response:
    before = paging.number_key("jobs", cursor)
    found, trouble = await attempt(
        here.house.read(
            lambda c: queries.list_jobs(c, here.caller, state=None, kind=None, before=before, limit=_ROWS)
        )
    )
    return await show(
        here, "jobs.html", topics="jobs", status=status, found=found, trouble=trouble, kinds=KINDS,
        refused=refused, alive=found is not None and any(job.state in book.ALIVE for job in found.items),
        most=here.house.settings.max_body_bytes,
    )  # fmt: skip


@router.get("/jobs/{number}")
async def job_page(here: InHere, number: NumberPath, query: NoQuery) -> Response:
    """How far it is, or how it ended."""
    return await _one(here, number)


async def _one(here: Here, number: int, *, refused: str = "", status: int = 200) -> Response:
    def look(connection: Connection) -> Any:
        try:
            row = book.row_of(connection, here.caller, number)
        except RefusedError as error:
            raise not_found("job", number) from error
        return queries.job_out(row), place_of(row)

    found, trouble = await attempt(here.house.read(look))
    job, place = found or (None, "")
    return await show(
        here, "job.html", topics="jobs", status=status, number=number, job=job, place=place,
        facts=facts_of(job) if job is not None else [], trouble=trouble, refused=refused,
        alive=job is not None and job.state in book.ALIVE,
    )  # fmt: skip


@router.post("/jobs/{number}/cancel")
async def cancel_job(here: InHere, number: NumberPath) -> Response:
    """One that waits is cancelled at once, one that runs within a few seconds."""
    await checked_fields(here.request)
    try:
        await here.house.write(lambda c: book.cancel(c, here.caller, number, now_ms=here.now))
    except RefusedError as error:
        return await _one(here, number, refused=str(error), status=409)
    return see_other(f"/jobs/{number}")


@router.post("/jobs/import")
async def import_file(here: InHere) -> Response:
    """Take a file and look at it in the background; nothing is posted."""
    fields, files = await checked_form(here.request)
    books.require_everywhere(here.caller)
    kind, content = fields.get("kind", ""), files.get("file", [b""])[:1]
    if kind not in KINDS or not content or not content[0]:
        return await _list(here, None, refused="file", status=422)
    args = {"kind": kind, "name": f"{kind} {rfc3339(here.now)[:16]}", "district": ""}
    args["upload"] = await here.house.workers.run(lambda: keep_upload(here.house.workshop.settings, content[0]))
    return await begin(here.house, here.caller, PREVIEW, args, title=args["name"])


@router.get("/jobs/imports/{batch}")
async def batch_page(here: InHere, batch: BatchPath, query: Annotated[JobsQuery, Query()]) -> Response:
    """What a file holds: counts, and the rows that are not simply good."""
    books.require_everywhere(here.caller)
    return await _batch(here, batch, query.cursor)


async def _batch(
    here: Here,
    batch: int,
    cursor: str | None,
    *,
    refused: FormError | None = None,
    status: int = 200,
) -> Response:
    def look(connection: Connection) -> Any:
        rows = books.batch_rows(connection, batch, limit=_BAD_ROWS, cursor=cursor)
        return books.preview(connection, batch), rows

    found, trouble = await attempt(here.house.read(look))
    return await show(
        here, "jobs_import.html", batch=batch, seen=found[0] if found else None,
        rows=found[1] if found else None, trouble=trouble, refused=refused, status=status,
    )  # fmt: skip


@router.post("/jobs/imports/{batch}/post")
async def post_batch(here: InHere, batch: BatchPath) -> Response:
    """Post a batch in the background, all rows or none; what stands in the way the job says."""
    fields = await checked_fields(here.request)
    books.require_everywhere(here.caller)
    await here.house.read(lambda c: books.preview(c, batch))
    try:
        args: dict[str, Any] = {"batch": batch, "note": text_of(fields, "note", 500)}
    except FormError as error:
        return await _batch(here, batch, None, refused=error, status=422)
    args |= {name: fields.get(name) == "yes" for name in ("accept_doubtful", "leave_bad")}
    return await begin(here.house, here.caller, POST, args, title=str(batch))
