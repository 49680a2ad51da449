"""Files of purchases, SCADA totals and supply links: bad rows named one by one, nothing half-posted, reversible."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from metering.clock import parse_rfc3339
from registry import import_facts, imports, supply
from registry.book_changes import BookError
from registry.database import Database
from registry.models import UsagePoint
from registry.models_books import ImportBatch, ImportRow, Occupancy
from registry.models_reconcile import Purchase, ScadaTotal, SupplyLink
from registry.roles import console
from registry.supply import Link

LI = console("li")
NOW = parse_rfc3339("2026-03-25T00:00:00Z")
M3 = 1_000_000


@pytest.fixture
def books(database: Database) -> Database:
    """Gas at U1 … U4 in Shanghai, E1 electricity; account 7 has two usage points, account 8 moved from U3 to U4."""
    with database.begin() as connection:
        accounts = {"U1": "001", "U2": "7", "U3": "9", "U4": "8", "E1": "7"}
        connection.execute(
            sa.insert(UsagePoint),
            [
                {"id": name, "medium": "electricity" if name == "E1" else "gas", "account_number": account}
                for name, account in accounts.items()
            ],
        )
        moved = parse_rfc3339("2026-03-10T00:00:00Z")
        stays = [("U3", "8", 0, moved), ("U3", "9", moved, None), ("U4", "5", 0, moved), ("U4", "8", moved, None)]
        connection.execute(
            sa.insert(Occupancy),
            [
                {"usage_point_id": p, "account_number": a, "from_at": f, "to_at": t, "start_indexes": {},
                 "final_indexes": {}}
                for p, a, f, t in stays
            ],
        )  # fmt: skip
    return database


def look(books: Database, path: Path, kind: Any, text: str, encoding: str = "utf-8") -> imports.Preview:
    path.write_bytes(text.encode(encoding))
    return import_facts.preview_facts(books, LI, kind, path, now=NOW)


def bad(books: Database, batch: int) -> list[tuple[int, str, str]]:
    with books.read() as connection:
        return [(row.line, row.reason, row.detail) for row in imports.problems(connection, batch, "bad", "doubt")]


def post(books: Database, batch: int, **more: Any) -> int:
    with books.begin() as connection:
        return import_facts.post_facts(connection, LI, batch, now=NOW, **more)


def count(books: Database, table: Any) -> int:
    with books.read() as connection:
        standing = sa.select(sa.func.count()).select_from(table).where(import_facts.counts_still(table))
        return int(connection.execute(standing).scalar_one())


def test_purchases_in_gbk_are_found_by_account_and_by_who_lived_where_then(books: Database, tmp_path: Path) -> None:
    text = (
        "account_number,at,volume,reference,note\n"
        "001,2026-03-05,20.5,R1,\u5c0f\u738b\n"
        "8,2026-03-06 10:00,30,R2,\n"
        "8,2026-03-20 10:00,40,R3,\n"
    )
    seen = look(books, tmp_path / "p.csv", "purchases", text, "gbk")
    assert (seen.counts, post(books, seen.batch)) == ({"ok": 3}, 3)
    with books.read() as connection:
        rows = connection.execute(sa.select(Purchase.usage_point_id, Purchase.volume, Purchase.reference)).all()
    assert sorted(map(tuple, rows)) == [("U1", 20_500_000, "R1"), ("U3", 30 * M3, "R2"), ("U4", 40 * M3, "R3")]


def test_every_bad_purchase_has_its_line_and_nothing_is_posted(books: Database, tmp_path: Path) -> None:
    text = (
        "usage_point,account_number,at,volume,reference\n"
        "U1,,2026-02-30,1,\n"  # 2: no such day
        "U9,,2026-03-01,1,\n"  # 3: no such place
        ",7,2026-03-01,1,\n"  # 4: two places
        "U1,,2026-03-01,,\n"  # 5: no volume
        "U1,,2026-03-01,1e999,\n"  # 6: no number
        "U1,,2026-03-01,0.0000001,\n"  # 7: too fine
        "U1,,2027-03-01,1,\n"  # 8: future
        "U1,,2026-03-01,5,A\n"  # 9: good
        "U1,,2026-03-01,5,A\n"  # 10: twice
        'U1,,2026-03-01,-5,"B\nC"\n'  # 11, 12: a newline inside quotes
        "U1,,2026-03-02,-5,D\n"  # 13: taken back
        "U1,2026-03-01,5\n"  # 14: cells missing
        ",,2026-03-01,5,\n"  # 15: nobody
    )
    seen = look(books, tmp_path / "p.csv", "purchases", text)
    found = {line: (reason, detail) for line, reason, detail in bad(books, seen.batch)}
    assert sorted(found) == [2, 3, 4, 5, 6, 7, 8, 10, 11, 13, 14, 15]
    assert found[4] == ("not_usable", 'account_number = "7" has 2 usage points then: name the usage point')
    assert found[10] == ("twice", "the same purchase stands on line 9")
    assert found[13][0] == "refund"
    with pytest.raises(BookError, match="1 rows are doubtful"):
        post(books, seen.batch)
    with pytest.raises(BookError, match="11 rows cannot be used"):
        post(books, seen.batch, accept_doubtful=True)
    assert count(books, Purchase) == 0
    assert post(books, seen.batch, accept_doubtful=True, leave_bad=True) == 2


def test_a_purchase_counts_once_though_two_files_bring_it_and_not_at_all_once_reversed(
    books: Database, tmp_path: Path
) -> None:
    row = "U1,2026-03-01,5,A\n"
    header = "usage_point,at,volume,reference\n"
    first = look(books, tmp_path / "1.csv", "purchases", header + row)
    second = look(books, tmp_path / "2.csv", "purchases", header + "U2,2026-03-01,5,A\n" + row)
    assert post(books, first.batch) == 1
    with pytest.raises(BookError, match="line 3 was posted meanwhile"):
        post(books, second.batch)
    third = look(books, tmp_path / "3.csv", "purchases", header + row + "U1,2026-03-01,6,A\n")
    assert bad(books, third.batch) == [(2, "known", "this purchase was posted before")]
    with books.begin() as connection:
        assert import_facts.reverse_facts(connection, LI, first.batch, now=NOW, note="another town") == 1
    assert count(books, Purchase) == 0
    assert post(books, second.batch) == 2


def test_scada_totals_are_hours_or_local_days_and_must_not_overlap(books: Database, tmp_path: Path) -> None:
    text = (
        "usage_point,from,to,interval,volume\n"
        "U1,2026-03-01,,day,100\n"
        "U1,2026-03-02 00:00,2026-03-02 01:00,,5.25\n"
        "U1,2026-03-01 23:00,,hour,5\n"  # 4: inside the day of line 2
        "U2,2026-03-01,,,5\n"  # 5: no end
        "U2,2026-03-01,2026-03-03,,5\n"  # 6: two days
        "U2,2026-03-01,,hour,-1\n"  # 7: negative
        "U2,2026-03-25,,day,1\n"  # 8: not over
    )
    seen = look(books, tmp_path / "s.csv", "scada", text)
    assert [(line, reason) for line, reason, _ in bad(books, seen.batch)] == [
        (4, "overlap"), (5, "not_usable"), (6, "not_usable"), (7, "not_usable"), (8, "not_usable"),
    ]  # fmt: skip
    assert post(books, seen.batch, leave_bad=True) == 2
    with books.read() as connection:
        one = connection.execute(sa.select(ScadaTotal).order_by(ScadaTotal.from_at)).first()
    assert one is not None
    assert (one.from_at, one.to_at - one.from_at) == (parse_rfc3339("2026-02-28T16:00:00Z"), 86_400_000)
    again = look(books, tmp_path / "t.csv", "scada", "usage_point,from,interval,volume\nU1,2026-03-01 12:00,hour,1\n")
    assert [row[1] for row in bad(books, again.batch)] == ["known"]


def test_supply_links_follow_each_other_and_close_no_circle(books: Database, tmp_path: Path) -> None:
    header = "parent,child,from,parent_class,child_class\n"
    good = header + "U1,U2,2026-01-01,1,1.5\nU2,U3,2026-01-01,,\nU1,U3,2026-03-01,,\n,U3,2026-03-15,,\n"
    seen = look(books, tmp_path / "a.csv", "parents", good)
    assert (bad(books, seen.batch), post(books, seen.batch)) == ([], 4)
    wrong = header + (
        "U3,U1,2026-02-01,,\n"  # 2: U3 <- U2 <- U1 holds then
        "E1,U4,2026-02-01,,\n"  # 3: another medium
        "U4,U4,2026-02-01,,\n"  # 4: itself
        "U1,U4,2026-02-01,5x,\n"  # 5: no such class
        "U3,U1,2026-03-20,,\n"  # 6: fine, U3 hangs at nobody now
        "U1,U2,2026-01-01,,\n"  # 7: known
        "U1,U4,2026-02-02,,\nU2,U4,2026-02-02,,\n"  # 9: the same child and time twice
    )
    seen = look(books, tmp_path / "b.csv", "parents", wrong)
    found = {line: reason for line, reason, _ in bad(books, seen.batch)}
    assert found == {2: "circle", 3: "not_usable", 4: "not_usable", 5: "not_usable", 7: "known", 9: "twice"}
    with books.read() as connection:
        march = supply.children_between(supply.links(connection), 1_772_000_000_000, NOW)
    assert {parent: [link.child for link, _, _ in below] for parent, below in march.items()} == {
        "U1": ["U2", "U3"],
        "U2": ["U3"],
    }
    assert count(books, SupplyLink) == 4


def test_a_child_that_changes_its_parent_belongs_to_each_for_its_time() -> None:
    links = [Link("C", "P", 10), Link("C", "Q", 50), Link("C", "", 80)]
    below = supply.children_between(links, 0, 100)
    assert {parent: [(a, b) for _, a, b in rows] for parent, rows in below.items()} == {
        "P": [(10, 50)],
        "Q": [(50, 80)],
    }


@pytest.mark.parametrize(("text", "limit"), [("", None), ("1.5", 1_500_000), ("B", 1_000_000), ("0.5", 500_000)])
def test_an_accuracy_class_is_its_limit_of_error(text: str, limit: int | None) -> None:
    assert supply.limit_of(text) == limit


def test_a_file_in_no_known_encoding_or_with_a_wrong_header_leaves_no_batch(books: Database, tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_bytes(b"usage_point,at,volume\n\xff\xfe\x81\n")
    with pytest.raises(ValueError, match="neither UTF-8 nor GBK"):
        import_facts.preview_facts(books, LI, "purchases", path, now=NOW)
    with pytest.raises(ValueError, match='unknown column "volum"'):
        look(books, path, "purchases", "usage_point,at,volum\n")
    with books.read() as connection:
        assert list(connection.execute(sa.select(ImportBatch.state)).scalars()) == ["dropped", "dropped"]
        assert connection.execute(sa.select(sa.func.count()).select_from(ImportRow)).scalar_one() == 0
