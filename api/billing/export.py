"""Totals as files: CSV, XLSX, NDJSON, Parquet, NEM13. Pages of rows go in, bytes come out, memory stays flat."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final, Literal

import pyarrow as pa  # type: ignore[import-untyped]  # it has no stubs
import pyarrow.parquet as pq  # type: ignore[import-untyped]  # it has no stubs
from sqlalchemy.engine import Connection

from api.access.areas import Areas
from api.billing import nem13
from api.billing.columns import COLUMNS, NAMES, cells
from api.billing.lists import Filters, Row, by_place, key_of
from api.billing.sink import Sink
from api.billing.spoken import total_out
from api.billing.xlsx import Workbook
from api.formats import csv_lines
from metering.clock import rfc3339
from metering.quantities import MICRO, from_micro
from registry.database import Database

FileFormat = Literal["csv", "xlsx", "ndjson", "parquet", "nem13"]
_FORMULA: Final = tuple("=+-@\t\r\n＝＋－＠")
_SCALE: Final = 6
PAGE: Final = 1000


@dataclass(frozen=True, slots=True)
class Encoder:
    """How a file is written. rows: a page to bytes; end: the last bytes."""

    media_type: str
    ending: str
    rows: Callable[[Sequence[Row]], bytes]
    end: Callable[[], bytes] = bytes


def encoder(kind: FileFormat, *, now: int) -> Encoder:
    """Return a new encoder; it keeps state and writes one file. now: [ms UTC]."""
    return _ENCODERS[kind](now)


def check(connection: Connection, kind: FileFormat, areas: Areas, filters: Filters) -> None:
    """Refuse before the first byte what a format cannot hold. Raises: RefusedError."""
    if kind == "nem13":
        nem13.check(connection, areas, filters)


class _First:
    """Gives a text once."""

    def __init__(self, text: bytes) -> None:
        self._text = text

    def take(self) -> bytes:
        found, self._text = self._text, b""
        return found


def _csv(now: int) -> Encoder:
    head = _First(csv_lines([NAMES]))

    def rows(page: Sequence[Row]) -> bytes:
        return head.take() + csv_lines(
            [_text(column.sort, value) for column, value in zip(COLUMNS, cells(row), strict=True)] for row in page
        )

    return Encoder("text/csv", "csv", rows, head.take)


def _text(sort: str, value: Any) -> str:
    if value is None:
        return ""
    if sort == "amount":
        return from_micro(value)
    if sort == "time":
        return rfc3339(value)
    if sort == "flag":
        return "1" if value else "0"
    return inert_text(str(value))


def inert_text(text: str) -> str:
    """Put an apostrophe before every text that a spreadsheet would take for a formula, numbers with a sign too."""
    return f"'{text}" if text.startswith(_FORMULA) else text


def _ndjson(now: int) -> Encoder:
    def rows(page: Sequence[Row]) -> bytes:
        return "".join(total_out(row).model_dump_json(by_alias=True) + "\n" for row in page).encode()

    return Encoder("application/x-ndjson", "ndjson", rows)


def _xlsx(now: int) -> Encoder:
    book = Workbook("totals", NAMES)

    def rows(page: Sequence[Row]) -> bytes:
        return book.rows(
            [[_sheet_cell(c.sort, value) for c, value in zip(COLUMNS, cells(row), strict=True)] for row in page]
        )

    return Encoder("application/vnd.openxmlformats-officedocument.spreadsheetml.sheet", "xlsx", rows, book.end)


def _sheet_cell(sort: str, value: Any) -> Any:
    if value is None or sort in ("flag", "number"):
        return value
    if sort == "amount":
        return Decimal(value).scaleb(-_SCALE)
    return rfc3339(value) if sort == "time" else inert_text(str(value))


_TYPES: Final = {
    "text": pa.string(),
    "amount": pa.decimal128(24, _SCALE),
    "time": pa.timestamp("ms", "UTC"),
    "number": pa.int64(),
    "flag": pa.bool_(),
}
SCHEMA: Final = pa.schema([(column.name, _TYPES[column.sort]) for column in COLUMNS])


def _parquet(now: int) -> Encoder:
    sink = Sink()
    writer = pq.ParquetWriter(pa.PythonFile(sink, "w"), SCHEMA, compression="zstd")

    def rows(page: Sequence[Row]) -> bytes:
        columns = zip(*(cells(row) for row in page), strict=True) if page else [()] * len(COLUMNS)
        arrays = [_array(c.sort, list(values)) for c, values in zip(COLUMNS, columns, strict=True)]
        writer.write_table(pa.Table.from_arrays(arrays, schema=SCHEMA))
        return sink.take()

    def end() -> bytes:
        writer.close()
        return sink.take()

    return Encoder("application/vnd.apache.parquet", "parquet", rows, end)


def _array(sort: str, values: list[Any]) -> pa.Array:
    if sort == "amount":
        values = [None if value is None else Decimal(value).scaleb(-_SCALE) for value in values]
    return pa.array(values, _TYPES[sort])


def _nem13(now: int) -> Encoder:
    head = _First(nem13.header(now).encode())

    def rows(page: Sequence[Row]) -> bytes:
        return head.take() + "".join(map(nem13.records, page)).encode()

    return Encoder("text/csv", "nem13.csv", rows, lambda: head.take() + nem13.END.encode())


_ENCODERS: Final[dict[FileFormat, Callable[[int], Encoder]]] = {
    "csv": _csv,
    "xlsx": _xlsx,
    "ndjson": _ndjson,
    "parquet": _parquet,
    "nem13": _nem13,
}
assert MICRO == 10**_SCALE


def pieces(database: Database, areas: Areas, filters: Filters, writer: Encoder) -> Iterator[bytes]:
    """Yield a whole file, page behind page; between two pages no transaction is open and nothing is held."""
    after: tuple[str, str] | None = None
    while True:
        with database.read() as connection:
            page = by_place(connection, areas, filters, limit=PAGE, after=after)
        if not page:
            break
        yield writer.rows(page)
        after = key_of(page[-1])
    yield writer.end()
