"""/api/v1/jobs: long work in the background, how far it is, its result."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Query, Request
from sqlalchemy.engine import Connection
from starlette.responses import FileResponse, Response

from api import paging
from api.access.caller import InCaller
from api.house import InHouse
from api.jobs import book
from api.jobs.runner import result_file
from api.parameters import Nothing, PageQuery, Word
from api.problems import ProblemError
from api.queries import jobs as queries
from api.replies import reply
from api.routes.documented import answers
from api.schemas_thresholds import JobOut, JobPage
from registry import audit

router = APIRouter(prefix="/api/v1/jobs", tags=["jobs"])

NumberPath = Annotated[int, Path(ge=1, le=2**63 - 1, description="The job's id.", examples=[1])]
_ANYTHING: dict[int | str, dict[str, Any]] = {
    200: {"description": "The result.", "content": {"application/octet-stream": {}}}
}


class JobsQuery(PageQuery):
    """Filters of the list of jobs."""

    state: Literal["queued", "running", "done", "failed", "cancelled", "interrupted", "expired"] | None = None
    kind: Word | None = None


@router.get("", summary="List jobs", **answers(JobPage))
async def list_jobs(
    request: Request, house: InHouse, caller: InCaller, query: Annotated[JobsQuery, Query()]
) -> Response:
    """One's own, newest first; an administrator sees all."""
    before = paging.number_key("jobs", query.cursor)
    page = await house.read(
        lambda c: queries.list_jobs(c, caller, state=query.state, kind=query.kind, before=before, limit=query.limit)
    )
    return reply(request, JobPage(items=page.items, next_cursor=page.next_cursor))


@router.get("/{number}", summary="One job", **answers(JobOut))
async def one_job(
    request: Request, house: InHouse, caller: InCaller, number: NumberPath, query: Annotated[Nothing, Query()]
) -> Response:
    """How far it is, or how it ended."""
    row = await house.read(lambda c: book.row_of(c, caller, number))
    return reply(request, queries.job_out(row), cached=False)


@router.post("/{number}/cancel", summary="End a job", **answers(JobOut))
async def cancel_job(
    request: Request, house: InHouse, caller: InCaller, number: NumberPath, query: Annotated[Nothing, Query()]
) -> Response:
    """One that waits is cancelled at once, one that runs within a few seconds."""
    now = house.clock.now_ms()

    def work(connection: Connection) -> JobOut:
        book.cancel(connection, caller, number, now_ms=now)
        return queries.job_out(book.row_of(connection, caller, number))

    return reply(request, await house.write(work), cached=False)


@router.get("/{number}/result", summary="Download a result", response_model=None, responses=_ANYTHING)
async def job_result(
    request: Request, house: InHouse, caller: InCaller, number: NumberPath, query: Annotated[Nothing, Query()]
) -> Response:
    """The file that the job made; who took it stands in the audit."""
    now = house.clock.now_ms()
    row = await house.read(lambda c: book.row_of(c, caller, number))
    path = result_file(house.workshop.settings, number)
    if row["state"] == "expired" or (row["expires_at"] or now + 1) <= now:
        raise ProblemError(410, "expired", f"the result of job {number} was kept until its time was over; ask again")
    if row["state"] != "done" or not row["result_name"]:
        raise ProblemError(404, "no-result", f"job {number} is {row['state']} and has no result to download")
    if not path.is_file():
        raise ProblemError(410, "gone", f"the result of job {number} is not on this host any more; ask again")
    after = {"name": row["result_name"], "sha256": row["result_sha256"]}
    await house.write(lambda c: audit.append(c, caller, "job.download", "job", number, at=now, after=after))
    headers = {"cache-control": "no-store", "digest": f"sha-256={row['result_sha256']}"}
    return FileResponse(path, media_type=row["result_type"], filename=row["result_name"], headers=headers)
