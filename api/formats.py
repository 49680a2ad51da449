"""JSON pages, NDJSON and CSV streams: which one a caller wants, and how a row is written in each."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final, Literal

from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from api import problems
from api.house import House
from api.middleware import HEAD
from api.problems import ProblemError
from api.schemas import ReadingOut

Format = Literal["json", "ndjson", "csv"]
FormatParameter = Annotated[
    Format | None,
    Field(description="json (a page), or ndjson or csv (a stream of everything); else the Accept header decides."),
]

MEDIA_TYPES: Final[dict[Format, str]] = {
    "json": "application/json",
    "ndjson": "application/x-ndjson",
    "csv": "text/csv",
}
COLUMNS: Final = (
    "meter",
    "read_at",
    "quantity",
    "value",
    "unit",
    "quality",
    "reason",
    "source",
    "flags",
    "meter_time",
    "received_at",
)
STREAM_PAGE: Final = 1000

_WANTED: Final[dict[str, Format]] = {
    "application/json": "json",
    "application/*": "json",
    "*/*": "json",
    "application/x-ndjson": "ndjson",
    "application/jsonl": "ndjson",
    "text/csv": "csv",
    "text/*": "csv",
}
_NUMBER: Final = re.compile(r"-?\d+(\.\d+)?", re.ASCII)
# spreadsheets take a cell that begins so for a formula; the full-width forms count in Chinese and Japanese ones
_FORMULA: Final = tuple("=+-@\t\r\n＝＋－＠")


def negotiate(request: Request, wanted: Format | None) -> Format:
    """Return the format of the answer: the parameter, else the best of the Accept header, else JSON.

    Raises: ProblemError 406 when nothing that we write is accepted.
    """
    accept = request.headers.get("accept", "")
    if wanted is not None or not accept.strip():
        return wanted or "json"
    found = [
        (weight, -place, fmt)
        for place, (kind, weight) in enumerate(_accepted(accept))
        if weight > 0 and (fmt := _WANTED.get(kind)) is not None
    ]
    if not found:
        detail = f"this address answers with {', '.join(MEDIA_TYPES.values())}"
        raise ProblemError(406, "not-acceptable", detail)
    return max(found)[2]


def _accepted(accept: str) -> list[tuple[str, float]]:
    ranges = []
    for part in accept.split(",")[:50]:
        kind, *parameters = (piece.strip().lower() for piece in part.split(";"))
        weight = next((_weight(text[2:]) for text in parameters if text.startswith("q=")), 1.0)
        ranges.append((kind, weight))
    return ranges


def _weight(text: str) -> float:
    return float(text) if re.fullmatch(r"[01](\.\d{0,3})?", text, re.ASCII) else 0.0


class _Stream(StreamingResponse):
    """A stream that takes one of the places for streams: slow readers may not take every request's place."""

    def __init__(self, house: House, body: AsyncIterator[bytes], media_type: str, headers: dict[str, str]) -> None:
        super().__init__(body, media_type=media_type, headers=headers)
        self._house = house

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        places = max(1, self._house.settings.max_requests // 4)
        if self._house.streams >= places:
            self._house.metrics.refuse("streams")
            retry = {"retry-after": "5"}
            await problems.response(503, "busy", f"{places} streams are running", headers=retry)(scope, receive, send)
            return
        if scope.get(HEAD):
            self.body_iterator = _nothing()
        self._house.streams += 1
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._house.streams -= 1


@dataclass(frozen=True, slots=True)
class Form:
    """How a stream is written: `head` once, then `encode` for each page of rows; both run in a worker's thread."""

    kind: Format
    head: Callable[[], bytes]
    encode: Callable[[Sequence[Any]], bytes]


async def stream(house: House, pages: AsyncIterator[bytes], form: Form, name: str) -> Response:
    """Return a streamed answer of encoded pages. name: of the file that a browser would save, without ending.

    The first page is read before the answer begins, so that a store that is away is a 503 and not half a file.
    """
    first = await anext(pages, b"")
    headers = {"cache-control": "no-store", "vary": "accept"}
    if form.kind == "csv":
        headers["content-disposition"] = f'attachment; filename="{name}.csv"'
    return _Stream(house, _chain(form.head() + first, pages), MEDIA_TYPES[form.kind], headers)


async def stream_file(house: House, pieces: AsyncIterator[bytes], media_type: str, name: str) -> Response:
    """Return a streamed file with its name. The first piece is read before the answer begins."""
    first = await anext(pieces, b"")
    headers = {"cache-control": "no-store", "vary": "accept"}
    headers["content-disposition"] = f'attachment; filename="{name}"'
    return _Stream(house, _chain(first, pieces), media_type, headers)


async def _nothing() -> AsyncIterator[bytes]:
    yield b""


async def _chain(first: bytes, pages: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    yield first
    async for page in pages:
        yield page


def _json_lines(page: Sequence[ReadingOut]) -> bytes:
    return "".join(row.model_dump_json() + "\n" for row in page).encode()


def _csv_page(page: Sequence[ReadingOut]) -> bytes:
    return csv_lines(line for row in page for line in _cells(row))


def _cells(row: ReadingOut) -> Iterable[tuple[str, ...]]:
    """One line per quantity, so that the columns are the same for every meter."""
    after = (row.quality, row.reason, row.source, " ".join(row.flags), row.meter_time or "", row.received_at or "")
    values = [(quantity, amount.value, amount.unit) for quantity, amount in row.values.items()]
    for quantity, value, unit in values or [("", "", "")]:
        yield (row.meter, row.read_at, quantity, value, unit, *after)


def csv_lines(lines: Iterable[Sequence[str]]) -> bytes:
    """Return CSV (RFC 4180) in which no cell can run as a formula; plain numbers stay numbers."""
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer)
    writer.writerows([inert(cell) for cell in line] for line in lines)
    return buffer.getvalue().encode("utf-8")


def inert(cell: str) -> str:
    """Put an apostrophe before a text that a spreadsheet would take for a formula: "=1+1" -> "'=1+1", "-5" stays."""
    return f"'{cell}" if cell.startswith(_FORMULA) and not _NUMBER.fullmatch(cell) else cell


FORMS: Final = {
    "ndjson": Form("ndjson", bytes, _json_lines),
    "csv": Form("csv", lambda: csv_lines([COLUMNS]), _csv_page),
}
