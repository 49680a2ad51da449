"""Files from hand-held readers: both encodings, both forms, anomalies seen before posting, nothing half-posted."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import openpyxl
import pytest
import sqlalchemy as sa

from metering.errors import RegistryError
from registry import history, import_exchanges, imports, ledger, office, readings_list, tabular
from registry.database import Database
from registry.models import Installation, Latest, Meter, UsagePoint
from registry.models_access import AuditRecord
from registry.models_books import ImportRow, OfficeRow
from registry.roles import console

LI = console("li")
DAY = 86_400_000
NOW = 1_774_000_800_000  # 2026-03-20T10:00:00Z, 18:00 in Shanghai
M3 = 1_000_000
HAN = "\u5c0f\u738b"  # a name in Chinese


@pytest.fixture
def books(database: Database) -> Database:
    """M1 … M4 at U1 … U4 in Shanghai, read by hand; a month ago each showed 100 m³; M1 is a household's."""
    with database.begin() as connection:
        points = [
            {"id": f"U{n}", "medium": "gas", "tz": "Asia/Shanghai", "district": "D1" if n < 4 else "D2",
             "customer_class": "residential" if n < 3 else "industrial", "address": f"=HYPERLINK({n})",
             "account_number": f"00{n}"}
            for n in range(1, 5)
        ]  # fmt: skip
        connection.execute(sa.insert(UsagePoint), points)
        facts = {"medium": "gas", "quantity": "volume", "index_digits": 5, "resolution": 1000, "qmax": 6 * M3,
                 "state": "in_service"}  # fmt: skip
        connection.execute(sa.insert(Meter), [{"id": f"M{n}", "serial": f"000{n}", **facts} for n in range(1, 5)])
        connection.execute(
            sa.insert(Installation),
            [{"meter_id": f"M{n}", "usage_point_id": f"U{n}", "installed_at": 0} for n in range(1, 5)],
        )
        month_ago = NOW - 30 * DAY
        ledger.save_closings(
            connection,
            [ledger.ClosingRow(f"M{n}", "2026-02-18", "volume", month_ago, 100 * M3, "valid") for n in range(1, 5)],
        )
        connection.execute(
            sa.insert(Latest),
            [{"meter": "M1", "read_at": month_ago, "received_at": month_ago, "quality": "valid", "source": "manual",
              "values": {"volume": 100 * M3}}],
        )  # fmt: skip
    return database


def preview(books: Database, path: Path, text: str, encoding: str = "utf-8", **more: Any) -> imports.Preview:
    path.write_bytes(text.encode(encoding))
    return imports.preview_readings(books, LI, path, now=NOW, **more)


def lines(books: Database, batch: int, *verdicts: str) -> list[tuple[int, str, str]]:
    with books.read() as connection:
        return [(row.line, row.meter, row.reason) for row in imports.problems(connection, batch, *verdicts)]


def post(books: Database, batch: int, **more: Any) -> int:
    with books.begin() as connection:
        return imports.post_readings(connection, LI, batch, now=NOW, **more)


def count(books: Database, table: Any) -> int:
    with books.read() as connection:
        return int(connection.execute(sa.select(sa.func.count()).select_from(table)).scalar_one())


def test_a_good_file_in_gbk_is_previewed_and_then_posted_with_its_people(books: Database, tmp_path: Path) -> None:
    text = f"meter,read_at,index,person\r\nM1,2026-03-20,140.5,{HAN}\r\nM3,2026-03-20 14:30,900,{HAN}\r\n"
    seen = preview(books, tmp_path / "a.csv", text, "gbk")
    assert (seen.counts, seen.expected, seen.delivered) == ({"ok": 2}, 4, 2)
    assert count(books, OfficeRow) == 0
    assert post(books, seen.batch) == 2
    with books.read() as connection:
        (_, first), (_, second) = office.waiting(connection, 10)
        people = connection.execute(sa.select(OfficeRow.person)).scalars().all()
        action = connection.execute(sa.select(AuditRecord.action)).scalars().all()[-1]
    assert (first.meter, first.read_at, first.values) == ("M1", 1_773_936_000_000, {"volume": 140_500_000})
    assert (second.source, second.quality, second.read_at) == ("import", "valid", 1_773_988_200_000)
    assert (list(people), action) == ([HAN, HAN], "import.post")
    with pytest.raises(RegistryError, match="posted already"):
        post(books, seen.batch)
    with pytest.raises(RegistryError, match="this very file was posted"):
        preview(books, tmp_path / "a.csv", text, "gbk")


def test_volumes_and_steps_that_a_person_must_see_are_doubtful_until_decided(books: Database, tmp_path: Path) -> None:
    text = "meter,read_at,index\nM1,2026-03-20,155\nM2,2026-03-20,210\nM3,2026-03-20,99\nM4,2026-03-20,200\n"
    seen = preview(books, tmp_path / "a.csv", text)
    assert seen.counts == {"doubt": 3, "ok": 1}
    assert lines(books, seen.batch, "doubt") == [
        (2, "M1", "large_volume"),
        (3, "M2", "read_again"),
        (4, "M3", "reverse"),
    ]
    with pytest.raises(RegistryError, match="3 rows are doubtful"):
        post(books, seen.batch)
    with books.begin() as connection:
        assert imports.send_back(connection, LI, seen.batch, ["M2", "M3"], now=NOW) == 2
    assert post(books, seen.batch, accept_doubtful=True) == 2
    with books.read() as connection:
        sent = {reading.meter: (reading.quality, reading.reason) for _, reading in office.waiting(connection, 10)}
    assert sent == {"M1": ("manual", "accepted_large_volume"), "M4": ("valid", "")}


def test_every_bad_row_is_named_and_none_is_posted_by_accident(books: Database, tmp_path: Path) -> None:
    text = (
        "meter,usage_point,read_at,index,note\n"
        "M1,,2026-03-20,120,\n"
        "M1,,2026-03-20,121,\n"  # the same key twice
        "M9,,2026-03-20,1,\n"
        "M2,,2026-02-30,1,\n"
        "M2,,2027-01-01,1,\n"
        "M2,U3,2026-03-20,1,\n"
        "M2,,2026-03-20,123456,\n"
        "M2,,2026-03-20,12.3456789,\n"
        '"M\n2",,2026-03-20,1,\n'  # a newline inside quotes
        "M3,,2026-03-20\n"
        ',U4,2026-03-20,130,"two\nlines"\n'
        ",U4,2026-03-19,130,\n"
    )
    seen = preview(books, tmp_path / "a.csv", text)
    assert seen.counts == {"bad": 10, "ok": 2}
    assert [line for line, _, _ in lines(books, seen.batch, "bad")] == [3, 4, 5, 6, 7, 8, 9, 10, 12, 13]
    assert seen.reasons == {"twice": 1, "not_usable": 9}
    with pytest.raises(RegistryError, match="10 rows cannot be used"):
        post(books, seen.batch)
    assert count(books, OfficeRow) == 0
    assert post(books, seen.batch, leave_bad=True) == 2


@pytest.mark.parametrize(
    ("raw", "words"),
    [
        ("meter,read_at,index\nM1,2026-03-20,1\n".encode("utf-16"), "neither UTF-8 nor GBK"),
        (b"meter,read_at,index\nM1,2026-03-20,\x811\xff\n", "neither UTF-8 nor GBK"),
        (b'meter,read_at,index\n"M1,2026-03-20,1\n', "line 2: not CSV"),
        (b"meter,read_at,indx\nM1,2026-03-20,1\n", 'unknown column "indx"'),
        (b"meter,index\nM1,1\n", 'column "read_at" is missing'),
        (b"PK\x03\x04 not a zip at all", "not a readable XLSX"),
    ],
)
def test_a_file_that_cannot_be_used_at_all_leaves_nothing(
    books: Database, tmp_path: Path, raw: bytes, words: str
) -> None:
    (tmp_path / "a.csv").write_bytes(raw)
    with pytest.raises(ValueError, match=words):
        imports.preview_readings(books, LI, tmp_path / "a.csv", now=NOW)
    assert count(books, ImportRow) == 0


@pytest.mark.parametrize("form", ["gbk.csv", "utf-8.csv", "list.xlsx"])
def test_the_readings_list_goes_out_inert_and_comes_back_filled_in(
    books: Database, tmp_path: Path, form: str
) -> None:
    path = tmp_path / form
    with books.read() as connection:
        rows = readings_list.rows(connection, reading_day="2026-03-20", district="D1")
        if form.endswith("xlsx"):
            assert tabular.write_xlsx(path, readings_list.HEADER, rows) == 3
        else:
            assert tabular.write_csv(path, readings_list.HEADER, rows, "gbk" if "gbk" in form else "utf-8") == 3
    table = independent(path)
    assert table[1][:8] == ["U1", "001", "'=HYPERLINK(1)", "M1", "0001", "100", "2026-02-18 18:00:00", "2026-03-20"]
    table[1][8:11] = ["130", "2026-03-20 09:00", HAN]
    fill_in(path, table)
    seen = imports.preview_readings(books, LI, path, now=NOW, district="D1")
    assert (seen.counts, seen.expected, seen.delivered) == ({"ok": 1}, 3, 1)


def independent(path: Path) -> list[list[str]]:
    """Read a table as a spreadsheet does; every cell must be text, none a formula."""
    if path.suffix == ".xlsx":
        sheet = openpyxl.load_workbook(path).worksheets[0]
        cells = [cell for row in sheet.iter_rows() for cell in row]
        assert {cell.data_type for cell in cells if cell.value is not None} <= {"s", "inlineStr"}
        return [[str(value or "") for value in row] for row in sheet.iter_rows(values_only=True)]
    with path.open(encoding="gbk" if "gbk" in path.name else "utf-8-sig", newline="") as file:
        return list(csv.reader(file))


def fill_in(path: Path, table: list[list[str]]) -> None:
    if path.suffix == ".xlsx":
        book = openpyxl.Workbook()
        for row in table:
            book.worksheets[0].append(row)
        book.save(path)
    else:
        with path.open("w", encoding="gbk" if "gbk" in path.name else "utf-8", newline="") as file:
            csv.writer(file).writerows(table)


EXCHANGES = "usage_point,old_meter,new_meter,at,final_index,start_index,serial\n"


def test_a_list_of_exchanges_is_tried_posted_and_reversed_as_a_whole(books: Database, tmp_path: Path) -> None:
    path = tmp_path / "e.csv"
    path.write_text(
        EXCHANGES + "U1,M1,N1,2026-03-10,130,0,S1\nU2,M2,N2,2026-03-10,90,0,S2\nU1,N1,N3,2026-03-15,4,0,S3\n", "utf-8"
    )
    seen = import_exchanges.preview_exchanges(books, LI, path, now=NOW)
    assert (seen.counts, lines(books, seen.batch, "doubt")) == ({"ok": 2, "doubt": 1}, [(3, "M2", "final_index")])
    with books.read() as connection:
        assert [f.meter for f in history.history(connection, ["U1"])["U1"]] == ["M1"]
    with books.begin() as connection:
        assert import_exchanges.post_exchanges(connection, LI, seen.batch, now=NOW, accept_doubtful=True) == 3
        assert [f.meter for f in history.history(connection, ["U1"])["U1"]] == ["M1", "N1", "N3"]
    with books.begin() as connection:
        assert import_exchanges.reverse_exchanges(connection, LI, seen.batch, now=NOW, note="wrong list") == 3
        found = history.history(connection, ["U1", "U2"])
    assert {point: [(f.meter, f.to_at) for f in facts] for point, facts in found.items()} == {
        "U1": [("M1", None)],
        "U2": [("M2", None)],
    }


def test_one_impossible_exchange_keeps_the_whole_list_out(books: Database, tmp_path: Path) -> None:
    path = tmp_path / "e.csv"
    path.write_text(EXCHANGES + "U1,M1,N1,2026-03-10,130,0,\nU2,M1,N2,2026-03-10,130,0,\n", "utf-8")
    seen = import_exchanges.preview_exchanges(books, LI, path, now=NOW)
    assert lines(books, seen.batch, "bad") == [(3, "M1", "refused")]
    with pytest.raises(RegistryError, match="1 rows cannot be used"), books.begin() as connection:
        import_exchanges.post_exchanges(connection, LI, seen.batch, now=NOW)
    with books.read() as connection:
        assert [f.meter for f in history.history(connection, ["U1"])["U1"]] == ["M1"]
