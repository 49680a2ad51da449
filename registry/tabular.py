"""Tables of people: CSV in UTF-8 or GBK, and XLSX, row by row in both directions, so that memory stays flat.

A cell that a spreadsheet would take for a formula is written with an apostrophe before it; ids are written as text.
"""

from __future__ import annotations

import codecs
import csv
import hashlib
import warnings
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from datetime import date, datetime, time
from pathlib import Path
from typing import Any, Final, Literal

import openpyxl

from metering.settings import nearest

Encoding = Literal["utf-8", "gbk"]
_ENCODINGS: Final = ("utf-8-sig", "gbk")
_CHUNK: Final = 1 << 20
_ZIP: Final = b"PK\x03\x04"
_MAX_UNPACKED: Final = 2 << 30
"""[bytes] An XLSX that grows larger than this is a bomb, not a table (1,000,000 rows of 12 cells take 0.6 GB)."""
_FORMULA: Final = tuple("=+-@\t\r\n＝＋－＠")
_MAX_CELL: Final = 1000

Row = tuple[int, dict[str, str]]
"""(line, the header is 1; column -> text, empty cells left out). A row of the wrong length has the column ""."""


def digest_of(file: Path) -> str:
    """Return the SHA-256 of a file, as hex."""
    found = hashlib.sha256()
    with file.open("rb") as source:
        while part := source.read(_CHUNK):
            found.update(part)
    return found.hexdigest()


def read_rows(file: Path, known: Sequence[str], needed: Sequence[str]) -> Iterator[Row]:
    """Yield the rows of a file. known: columns that may stand there; needed: those that must.

    Raises: ValueError, a sentence with the line, when the file cannot be used at all: not UTF-8 and not GBK, not CSV,
    an unknown, absent or repeated column.
    """
    rows = _xlsx(file) if _is_zip(file) else _csv(file)
    first = next(rows, None)
    header = _header([] if first is None else first[1], known, needed)
    for line, cells in rows:
        if not any(cells):
            continue
        while len(cells) > len(header) and not cells[-1]:
            cells.pop()
        if len(cells) > len(header) or (len(cells) < len(header) and first is not None and not _is_zip(file)):
            yield line, {"": f"{len(cells)} cells, the header has {len(header)}"}
            continue
        yield line, {name: cell for name, cell in zip(header, cells, strict=False) if cell}


def _header(cells: list[str], known: Sequence[str], needed: Sequence[str]) -> list[str]:
    header = [cell.strip().lower() for cell in cells]
    for name in header:
        if name not in known:
            raise ValueError(f'line 1: unknown column "{name[:40]}"; {nearest(name, list(known))}')
    for name in needed:
        if name not in header:
            raise ValueError(f'line 1: column "{name}" is missing')
    if len(set(header)) != len(header):
        raise ValueError("line 1: a column stands twice")
    return header


def _is_zip(file: Path) -> bool:
    with file.open("rb") as source:
        return source.read(4) == _ZIP


def _csv(file: Path) -> Iterator[tuple[int, list[str]]]:
    with file.open(encoding=encoding_of(file), newline="") as source:
        reader = csv.reader(source, strict=True)
        while True:
            line = reader.line_num + 1
            try:
                cells = next(reader, None)
            except csv.Error as error:
                raise ValueError(f"line {line}: not CSV: {error}") from None
            if cells is None:
                return
            yield line, [cell.strip(" \t") for cell in cells]


def encoding_of(file: Path) -> str:
    """Return utf-8-sig or gbk. Raises: ValueError, with the first byte that is neither."""
    faults = []
    for encoding in _ENCODINGS:
        decoder, place = codecs.getincrementaldecoder(encoding)(), 0
        with file.open("rb") as source:
            try:
                while part := source.read(_CHUNK):
                    decoder.decode(part)
                    place += len(part)
                decoder.decode(b"", final=True)
            except UnicodeDecodeError as error:
                faults.append(place + error.start)
                continue
        return encoding
    raise ValueError(f"neither UTF-8 nor GBK (see byte {max(faults)})")


def _xlsx(file: Path) -> Iterator[tuple[int, list[str]]]:
    try:
        with zipfile.ZipFile(file) as packed:
            if sum(part.file_size for part in packed.infolist()) > _MAX_UNPACKED:
                raise ValueError("the XLSX unpacks to more than 2 GB")
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # openpyxl warns of styles that it does not keep; we only read values
            book = openpyxl.load_workbook(file, read_only=True, data_only=True)
    except ValueError:
        raise
    except Exception as error:  # openpyxl raises whatever its parsers raise
        raise ValueError(f"not a readable XLSX: {error}") from error
    try:
        if book.worksheets:
            for line, cells in enumerate(book.worksheets[0].iter_rows(values_only=True), 1):
                texts = [_cell_text(cell) for cell in cells]
                while texts and not texts[-1]:
                    texts.pop()
                yield line, texts
    finally:
        book.close()


def _cell_text(value: Any) -> str:
    """A number without a needless .0, a time as people write it."""
    if value is None:
        return ""
    if isinstance(value, datetime):
        midnight = value.time() == time(0)
        return value.strftime("%Y-%m-%d") if midnight else value.strftime("%Y-%m-%d %H:%M:%S")
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() and abs(value) < 1e15 else repr(value)
    return str(value).strip()


def inert(text: str) -> str:
    """Return a text that no spreadsheet takes for a formula."""
    return "'" + text if text.startswith(_FORMULA) else text


def active(text: str) -> str:
    """Take `inert`'s apostrophe off again: a list that we wrote comes back filled in."""
    return text[1:] if text.startswith("'") and text[1:].startswith(_FORMULA) else text


def write_csv(file: Path, header: Sequence[str], rows: Iterable[Sequence[str]], encoding: Encoding) -> int:
    """Write a CSV; return the rows. GBK cannot spell everything: what it lacks is written as ?, never left out."""
    count = 0
    codec = "utf-8-sig" if encoding == "utf-8" else encoding  # with the mark, spreadsheets know that it is UTF-8
    with file.open("w", encoding=codec, errors="replace", newline="") as target:
        writer = csv.writer(target)
        writer.writerow(header)
        for row in rows:
            writer.writerow([inert(cell) for cell in row])
            count += 1
    return count


def write_xlsx(file: Path, header: Sequence[str], rows: Iterable[Sequence[str]]) -> int:
    """Write an XLSX with every cell as text; return the rows."""
    book = openpyxl.Workbook(write_only=True)
    sheet = book.create_sheet("readings")
    count = 0
    sheet.append(list(header))
    for row in rows:
        sheet.append([_text_cell(sheet, cell) for cell in row])
        count += 1
    book.save(file)
    return count


def _text_cell(sheet: Any, text: str) -> Any:
    from openpyxl.cell import WriteOnlyCell  # only here: reading needs none of it

    clean = "".join(c for c in inert(text) if c.isprintable())[:_MAX_CELL]
    cell = WriteOnlyCell(sheet, value=clean)
    cell.data_type = "s"
    cell.number_format = "@"
    return cell
