"""An XLSX workbook written as a stream: rows go in, bytes come out, memory stays flat.

Texts are inline strings, so that ids stay text and no cell can be a formula; numbers keep every digit that a
spreadsheet can hold (15), longer ones become texts. Source: ECMA-376 part 1 (SpreadsheetML), part 2 (packages).
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Sequence
from decimal import Decimal
from typing import IO, Any, Final
from xml.sax.saxutils import escape

from api.billing.sink import Sink

MAX_ROWS: Final = 1_000_000
"""Rows of a sheet; a spreadsheet holds 1,048,576. More begin a new sheet."""
_DIGITS: Final = 15
_LONGEST: Final = 32_767
"""Characters that a cell may hold."""
_FORBIDDEN: Final = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
_HEAD: Final = '<?xml version="1.0" encoding="UTF-8" standalone="yes"?>\n'
_MAIN: Final = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
_OFFICE: Final = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
_PACKAGE: Final = "http://schemas.openxmlformats.org/package/2006"
_TYPE: Final = "application/vnd.openxmlformats-officedocument.spreadsheetml"
_EPOCH: Final = (1980, 1, 1, 0, 0, 0)


class Workbook:
    """Sheets of rows below one header."""

    def __init__(self, title: str, header: Sequence[str]) -> None:
        self._title, self._header = title, header
        self._sink = Sink()
        self._package = zipfile.ZipFile(self._sink, "w", zipfile.ZIP_DEFLATED, compresslevel=3)
        self._sheet: IO[bytes] | None = None
        self._sheets = self._rows = 0

    def rows(self, rows: Sequence[Sequence[Any]]) -> bytes:
        """Add rows (text, bool, int, Decimal, None) and return the bytes that are ready."""
        start = 0
        while start < len(rows) or self._sheet is None:
            sheet = self._open()
            part = rows[start : start + MAX_ROWS - self._rows]
            sheet.write("".join(_row(row) for row in part).encode())
            self._rows += len(part)
            start += len(part)
        return self._sink.take()

    def end(self) -> bytes:
        """Close the workbook and return its last bytes."""
        if self._sheet is None:
            self._open()
        self._finish()
        for name, content in self._parts().items():
            self._package.writestr(_entry(name), _HEAD + content)
        self._package.close()
        return self._sink.take()

    def _open(self) -> IO[bytes]:
        if self._sheet is not None and self._rows < MAX_ROWS:
            return self._sheet
        self._finish()
        self._sheets, self._rows = self._sheets + 1, 0
        self._sheet = self._package.open(_entry(f"xl/worksheets/sheet{self._sheets}.xml"), "w", force_zip64=True)
        frozen = (
            '<sheetViews><sheetView workbookViewId="0">'
            '<pane ySplit="1" topLeftCell="A2" activePane="bottomLeft" state="frozen"/></sheetView></sheetViews>'
        )
        self._sheet.write(f'{_HEAD}<worksheet xmlns="{_MAIN}">{frozen}<sheetData>'.encode())
        self._sheet.write(_row(self._header).encode())
        return self._sheet

    def _finish(self) -> None:
        if self._sheet is not None:
            self._sheet.write(b"</sheetData></worksheet>")
            self._sheet.close()
            self._sheet = None

    def _parts(self) -> dict[str, str]:
        """The small parts that name the sheets."""
        numbers = range(1, self._sheets + 1)
        names = [self._title if n == 1 else f"{self._title} {n}" for n in numbers]
        tabs = "".join(
            f'<sheet name="{escape(name, {chr(34): "&quot;"})}" sheetId="{n}" r:id="rId{n}"/>'
            for n, name in zip(numbers, names, strict=True)
        )
        links = "".join(
            f'<Relationship Id="rId{n}" Type="{_OFFICE}/worksheet" Target="worksheets/sheet{n}.xml"/>'
            for n in numbers
        )
        types = "".join(
            f'<Override PartName="/xl/worksheets/sheet{n}.xml" ContentType="{_TYPE}.worksheet+xml"/>' for n in numbers
        )
        return {
            "xl/workbook.xml": f'<workbook xmlns="{_MAIN}" xmlns:r="{_OFFICE}"><sheets>{tabs}</sheets></workbook>',
            "xl/_rels/workbook.xml.rels": f'<Relationships xmlns="{_PACKAGE}/relationships">{links}</Relationships>',
            "_rels/.rels": f'<Relationships xmlns="{_PACKAGE}/relationships"><Relationship Id="rId1" '
            f'Type="{_OFFICE}/officeDocument" Target="xl/workbook.xml"/></Relationships>',
            "[Content_Types].xml": f'<Types xmlns="{_PACKAGE}/content-types">'
            '<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
            f'<Override PartName="/xl/workbook.xml" ContentType="{_TYPE}.sheet.main+xml"/>{types}</Types>',
        }


def _entry(name: str) -> zipfile.ZipInfo:
    found = zipfile.ZipInfo(name, _EPOCH)
    found.compress_type = zipfile.ZIP_DEFLATED
    return found


def _row(row: Sequence[Any]) -> str:
    return f"<row>{''.join(map(_cell, row))}</row>"


def _cell(value: Any) -> str:
    if value is None or value == "":
        return "<c/>"
    if isinstance(value, bool):
        return f'<c t="b"><v>{int(value)}</v></c>'
    if isinstance(value, int | Decimal):
        text = str(value) if isinstance(value, int) else format(value, "f")
        if sum(letter.isdigit() for letter in text) <= _DIGITS:
            return f"<c><v>{text}</v></c>"
        value = text
    text = escape(_FORBIDDEN.sub("\N{REPLACEMENT CHARACTER}", str(value)[:_LONGEST]))
    return f'<c t="inlineStr"><is><t xml:space="preserve">{text}</t></is></c>'
