"""Totals as files: fixed columns, ids as text, no formula, exact numbers; read by independent readers."""

from __future__ import annotations

import csv
import gc
import io
import tracemalloc
import warnings
import zipfile
from decimal import Decimal
from pathlib import Path
from typing import Any

import openpyxl
import pyarrow.parquet as pq  # type: ignore[import-untyped]  # it has no stubs
import pytest
import sqlalchemy as sa
from nemreader import read_nem_file

from api.billing import export, xlsx
from api.billing.columns import NAMES
from api.billing.lists import Filters, Row
from api.schemas_billing import TotalOut
from registry import billing as books
from registry.database import Database
from registry.models import Meter
from registry.refusals import RefusedError
from tests.api.billing_world import END, ends, line, total
from tests.registry.conftest import database

__all__ = ["database"]

PERIOD = "2026-02"
NASTY = "=HYPERLINK(1)"
# 6102030405 was read 987.5 on 2026-01-20 and 1000 kWh an hour before 2026-02-20, both 00:00 UTC = 10:00 market time
NEM = "6102030405"


def fill(database: Database) -> None:
    rows = [
        total("00123", **ends(), account_number="-5", district=NASTY),
        total("10", state="missing", cause="gateway_down", detail="+away\tnow", account_number="@A"),
        total(NEM, **ends(), medium="electricity", quantity="energy_import"),
    ]
    lines = [line("00123", "M-1"), line(NEM, "E-1", closing_quality="estimated")]
    with database.begin() as connection:
        connection.execute(
            sa.insert(Meter).values(id="E-1", serial="SN9", medium="electricity", quantity="energy_import")
        )
        books.save_totals(connection, rows, lines)


def written(database: Database, kind: Any, filters: Filters | None = None) -> bytes:
    chosen = filters or Filters(period=PERIOD)
    with database.read() as connection:
        export.check(connection, kind, None, chosen)
    return b"".join(export.pieces(database, None, chosen, export.encoder(kind, now=END)))


def test_csv_has_the_fixed_columns_and_no_cell_is_a_formula(database: Database) -> None:
    fill(database)
    rows = list(csv.reader(io.StringIO(written(database, "csv").decode(), newline="")))
    assert tuple(rows[0]) == NAMES
    first = dict(zip(NAMES, rows[1], strict=True))
    assert (first["usage_point"], first["account_number"], first["district"]) == ("00123", "'-5", f"'{NASTY}")
    assert (first["consumption"], first["opening_index"], first["meters"]) == ("12.5", "987.5", "M-1")
    assert (first["from"], first["closed"], first["energy_kwh"]) == ("2026-01-20T00:00:00.000Z", "0", "")
    second = dict(zip(NAMES, rows[2], strict=True))
    assert (second["state"], second["consumption"], second["detail"]) == ("missing", "", "'+away\tnow")
    assert not any(cell.startswith(tuple("=+-@\t")) for row in rows for cell in row)


def test_a_spreadsheet_library_finds_ids_as_text_and_no_formula(database: Database, tmp_path: Path) -> None:
    fill(database)
    file = tmp_path / "totals.xlsx"
    file.write_bytes(written(database, "xlsx"))
    sheet = openpyxl.load_workbook(file)["totals"]
    header, *rows = list(sheet.iter_rows())
    assert tuple(cell.value for cell in header) == NAMES
    first = dict(zip(NAMES, rows[0], strict=True))
    assert (first["usage_point"].value, first["usage_point"].data_type) == ("00123", "s")
    assert (first["account_number"].value, first["district"].value) == ("'-5", f"'{NASTY}")
    assert (first["consumption"].value, first["consumption"].data_type) == (12.5, "n")
    assert all(cell.data_type != "f" for row in rows for cell in row)
    assert rows[1][NAMES.index("consumption")].value is None


def test_a_workbook_keeps_what_a_spreadsheet_cannot_count_as_text_and_begins_new_sheets(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(xlsx, "MAX_ROWS", 2)
    book = xlsx.Workbook("t", ["a", "b"])
    long, odd = Decimal("1234567890123.123456"), "<&\x00\ud800\"' ]]>"
    pieces = [book.rows([[long, odd], [True, -7], ["", None]]), book.rows([["x", 2**40]]), book.end()]
    file = tmp_path / "t.xlsx"
    file.write_bytes(b"".join(pieces))
    assert zipfile.ZipFile(file).testzip() is None
    read = openpyxl.load_workbook(file)
    assert read.sheetnames == ["t", "t 2"]
    assert [[c.value for c in row] for row in read["t"].iter_rows(min_row=2)] == [
        ["1234567890123.123456", "<&\N{REPLACEMENT CHARACTER}\N{REPLACEMENT CHARACTER}\"' ]]>"],
        [True, -7],
    ]
    assert [[c.value for c in row] for row in read["t 2"].iter_rows(min_row=2)] == [[None, None], ["x", 2**40]]


def test_an_empty_list_is_a_file_with_a_header(database: Database, tmp_path: Path) -> None:
    nothing = Filters(period="2031-01")
    assert written(database, "csv", nothing).decode().strip() == ",".join(NAMES)
    assert written(database, "ndjson", nothing) == b""
    assert written(database, "nem13", nothing).decode().splitlines()[-1] == "900"
    file = tmp_path / "t.xlsx"
    file.write_bytes(written(database, "xlsx", nothing))
    assert [cell.value for cell in openpyxl.load_workbook(file)["totals"][1]] == list(NAMES)
    assert pq.read_table(io.BytesIO(written(database, "parquet", nothing))).num_rows == 0


def test_parquet_holds_exact_decimals_and_moments(database: Database) -> None:
    fill(database)
    table = pq.read_table(io.BytesIO(written(database, "parquet")))
    assert tuple(table.column_names) == NAMES
    rows = table.to_pylist()
    assert rows[0]["usage_point"] == "00123"
    assert rows[0]["consumption"] == Decimal("12.500000")
    assert (rows[0]["to"].isoformat(), rows[1]["consumption"]) == ("2026-02-20T00:00:00+00:00", None)


def test_ndjson_lines_are_the_totals_of_the_api(database: Database) -> None:
    fill(database)
    totals = [TotalOut.model_validate_json(row) for row in written(database, "ndjson").splitlines()]
    assert [(t.usage_point, t.consumption, len(t.lines)) for t in totals] == [
        ("00123", "12.5", 1),
        ("10", None, 0),
        (NEM, "12.5", 1),
    ]


def test_an_independent_reader_reads_nem13(database: Database, tmp_path: Path) -> None:
    fill(database)
    file = tmp_path / "nem13.csv"
    file.write_bytes(written(database, "nem13"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # the reader leaves its file to the collector
        found = read_nem_file(str(file))
        gc.collect()
    assert found.header.version_header == "NEM13"
    assert list(found.readings) == [NEM]
    (reading,) = found.readings[NEM]["11"]
    assert (reading.val_start, reading.val_end, reading.read_value, reading.uom) == (987.5, 1000, 12.5, "kWh")
    assert (reading.t_start.isoformat(), reading.t_end.isoformat()) == ("2026-01-20T10:00:00", "2026-02-20T09:00:00")
    assert (reading.meter_serial_number, reading.quality_method) == ("SN9", "E64")


def test_what_nem13_has_no_room_for_is_refused_before_the_first_byte(database: Database) -> None:
    with database.begin() as connection:
        long = total("ELECTRIC-0001", **ends(), medium="electricity", quantity="energy_import")
        books.save_totals(connection, [long], [line("ELECTRIC-0001", "E-2")])
    with pytest.raises(RefusedError, match='1 usage points do not fit, the first is "ELECTRIC-0001"; nothing was wr'):
        written(database, "nem13")


@pytest.mark.parametrize("kind", ["csv", "xlsx", "ndjson", "parquet"])
def test_memory_does_not_grow_with_the_rows(kind: Any) -> None:
    """Twenty pages of 100 rows may not need noticeably more than four."""

    def rows(page: int) -> list[Row]:
        return [Row({**total(f"P{page:03d}{n:03d}", **ends()), "id": n}, [line("P", "M-1")]) for n in range(100)]

    def peak(pages: int) -> int:
        writer = export.encoder(kind, now=END)
        tracemalloc.start()
        for page in range(pages):
            writer.rows(rows(page))
        writer.end()
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return found

    peak(1)
    assert peak(20) < 1.5 * peak(4) + 100_000
