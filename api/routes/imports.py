"""/api/v1/imports: files, looked at first, then posted as a whole. Large files: `metergate import`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path as File
from tempfile import TemporaryDirectory
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Query, Request
from pydantic import AfterValidator, Field
from sqlalchemy.engine import Connection
from starlette.responses import Response

from api.access.caller import InCaller
from api.house import House, InHouse
from api.jobs.imports import post_batch, preview_file
from api.parameters import Nothing, PageQuery, Strict, clean
from api.problems import ProblemError
from api.queries import books
from api.replies import reply
from api.routes.documented import answers
from api.schemas_books import ImportRowPage, PostedOut, PostIn, PreviewOut, SendBackIn, UndoIn
from registry import import_exchanges, import_facts, imports
from registry.book_changes import BookError

router = APIRouter(prefix="/api/v1/imports", tags=["books"])
BatchPath = Annotated[int, Path(ge=1, le=2**63 - 1, description="The batch.", examples=[1])]


class ImportQuery(Strict):
    """What the file holds."""

    kind: Literal["readings", "exchanges", "purchases", "scada", "parents"]
    name: Annotated[str, Field(min_length=1, max_length=200), AfterValidator(clean)] = "upload"
    district: Annotated[str, Field(min_length=1, max_length=64), AfterValidator(clean)] | None = None


_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            kind: {"schema": {"type": "string", "format": "binary"}}
            for kind in ("text/csv", "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet")
        },
    }
}


@router.post("", summary="Look at a file", status_code=201, openapi_extra=_BODY, **answers(PreviewOut, status=201))
async def preview_import(
    request: Request, house: InHouse, caller: InCaller, query: Annotated[ImportQuery, Query()]
) -> Response:
    """CSV (UTF-8 or GBK) or XLSX as the body: counts and anomalies. Nothing is posted."""
    books.require_everywhere(caller)
    body, now = await request.body(), house.clock.now_ms()

    def work() -> int:
        with TemporaryDirectory() as folder:
            file = File(folder) / "upload"
            file.write_bytes(body)
            facts: dict[str, Any] = {"now": now, "name": query.name, "district": query.district}
            seen = preview_file(house.database, caller, query.kind, file, **facts)
        return seen.batch

    batch = await _decided(lambda: house.workers.run(work))
    answer = reply(request, await house.read(lambda c: books.preview(c, batch)), cached=False)
    answer.status_code = 201
    answer.headers["location"] = f"/api/v1/imports/{batch}"
    return answer


@router.get("/{batch}", summary="How a batch stands", **answers(PreviewOut))
async def one_import(
    request: Request, house: InHouse, caller: InCaller, batch: BatchPath, query: Annotated[Nothing, Query()]
) -> Response:
    """Counts by verdict and reason."""
    books.require_everywhere(caller)
    return reply(request, await house.read(lambda c: books.preview(c, batch)))


@router.get("/{batch}/rows", summary="Rows that are not simply good", **answers(ImportRowPage))
async def import_rows(
    request: Request, house: InHouse, caller: InCaller, batch: BatchPath, query: Annotated[PageQuery, Query()]
) -> Response:
    """Bad, doubtful and sent back, in the order of the file."""
    books.require_everywhere(caller)
    return reply(
        request, await house.read(lambda c: books.batch_rows(c, batch, limit=query.limit, cursor=query.cursor))
    )


@router.post("/{batch}/send-back", summary="Have meters read again", **answers(PostedOut))
async def send_back(
    request: Request,
    house: InHouse,
    caller: InCaller,
    batch: BatchPath,
    body: SendBackIn,
    query: Annotated[Nothing, Query()],
) -> Response:
    """Their rows are not posted."""
    now = house.clock.now_ms()
    return await _write(
        request, house, caller, batch, lambda c: imports.send_back(c, caller, batch, body.meters, now=now)
    )


@router.post("/{batch}/post", summary="Post a batch", **answers(PostedOut))
async def post_import(
    request: Request,
    house: InHouse,
    caller: InCaller,
    batch: BatchPath,
    body: PostIn,
    query: Annotated[Nothing, Query()],
) -> Response:
    """All rows at once, or none; a batch is posted once."""
    now = house.clock.now_ms()

    def work(connection: Connection) -> int:
        return post_batch(connection, caller, batch, now=now, **body.model_dump())

    return await _write(request, house, caller, batch, work)


@router.post("/{batch}/reverse", summary="Take a posted batch back", **answers(PostedOut))
async def reverse_import(
    request: Request,
    house: InHouse,
    caller: InCaller,
    batch: BatchPath,
    body: UndoIn,
    query: Annotated[Nothing, Query()],
) -> Response:
    """All of it, or nothing; readings are never taken back, they are corrected."""
    now = house.clock.now_ms()

    def work(connection: Connection) -> int:
        facts = imports.batch_row(connection, batch)["kind"] in import_facts.COLUMNS
        take_back = import_facts.reverse_facts if facts else import_exchanges.reverse_exchanges
        return take_back(connection, caller, batch, now=now, note=body.note)

    return await _write(request, house, caller, batch, work)


async def _write(
    request: Request, house: House, caller: InCaller, batch: int, work: Callable[[Connection], int]
) -> Response:
    books.require_everywhere(caller)
    await house.read(lambda c: books.preview(c, batch))
    rows = await _decided(lambda: house.write(work))
    return reply(request, PostedOut(batch=batch, rows=rows), cached=False)


async def _decided(work: Callable[[], Any]) -> int:
    try:
        return int(await work())
    except BookError as error:
        raise ProblemError(409, "refused-by-the-books", error.message) from error
    except ValueError as error:
        raise ProblemError(422, "unusable-file", str(error)) from error
