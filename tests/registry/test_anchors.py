"""The audit checked as a whole: whatever is done to it past the program is named, with the row."""

from __future__ import annotations

import asyncio
import json
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from metering.clock import ManualClock
from registry import audit, audit_check
from registry.anchors import Anchor, anchor, keep_anchored, line_of, parse_line
from registry.audit_check import Fault, check, verify
from registry.database import Database
from registry.models_access import AuditHead, AuditRecord
from registry.roles import Actor

PAGE = 10
LI = Actor("user:li", address="10.0.0.7")


class Notes:
    """A log that remembers."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, dict[str, Any]]] = []

    def info(self, event: str, **facts: Any) -> None:
        self.lines.append((event, facts))

    def error(self, event: str, **facts: Any) -> None:
        self.lines.append((event, facts))

    def said(self) -> list[str]:
        return [event for event, _ in self.lines]


@pytest.fixture
def anchors(tmp_path: Path) -> Path:
    return tmp_path / "kept" / "anchors.jsonl"


@pytest.fixture(autouse=True)
def _small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit_check, "_PAGE", PAGE)


def write(database: Database, count: int) -> None:
    with database.begin() as connection:
        for number in range(count):
            audit.append(connection, LI, "meter.edit", "meter", f"G-{number}", at=number, after={"qmax": number})


def change(database: Database, statement: str, **values: Any) -> None:
    """Somebody with the database's password."""
    with database.begin() as connection:
        connection.execute(sa.text(statement), values)


def rehash(database: Database, first: int) -> None:
    """Give all rows from `first` on new hashes, and the head too: what a careful forger would do."""
    with database.begin() as connection:
        rows = connection.execute(sa.select(AuditRecord.__table__).order_by(AuditRecord.number)).mappings().all()
        previous = audit.GENESIS
        for row in rows:
            new = {**row, "previous": previous}
            if row["number"] >= first:
                new["hash"] = audit.row_hash(new)
                connection.execute(sa.update(AuditRecord).where(AuditRecord.number == row["number"]).values(new))
            previous = new["hash"]
        connection.execute(sa.update(AuditHead).values(hash=previous, number=rows[-1]["number"]))


def sorts(faults: list[Fault]) -> list[tuple[str, int]]:
    return [(fault.sort, fault.number) for fault in faults]


def test_a_sound_audit_has_no_faults(database: Database, anchors: Path) -> None:
    assert verify(database, anchors) == []  # nothing happened yet, so nothing need be anchored
    write(database, 3)
    anchor(database, anchors, Notes(), 5000)
    write(database, 2)
    verdict = check(database, anchors)
    assert (verdict.faults, verdict.rows, verdict.anchors, verdict.last) == ([], 5, 1, 5)


def test_an_edited_row_is_named_with_what_it_says_now(database: Database, anchors: Path) -> None:
    write(database, 5)
    anchor(database, anchors, Notes(), 5000)
    change(database, "UPDATE audit SET actor = 'user:wang' WHERE number = 3")
    (fault,) = verify(database, anchors)
    assert (fault.sort, fault.number) == ("edited", 3)
    assert "row 3 was edited" in fault.text
    assert "user:wang, meter.edit of meter G-2" in fault.text


def test_no_column_can_be_edited_unseen(database: Database, anchors: Path) -> None:
    write(database, 9)
    anchor(database, anchors, Notes(), 5000)
    columns = ("at", "actor", "action", "object_kind", "object_id", "detail", "address", "hash")
    for number, column in enumerate(columns, 1):
        change(database, f"UPDATE audit SET {column} = '7' WHERE number = {number}")
    edited = [fault.number for fault in verify(database, anchors) if fault.sort == "edited"]
    assert edited == [1, 2, 3, 4, 5, 6, 7, 8]


def test_a_row_edited_with_a_fresh_hash_does_not_fit_the_next(database: Database, anchors: Path) -> None:
    write(database, 5)
    anchor(database, anchors, Notes(), 5000)
    change(database, "UPDATE audit SET actor = 'user:wang' WHERE number = 3")
    with database.begin() as connection:
        row = connection.execute(sa.select(AuditRecord.__table__).where(AuditRecord.number == 3)).mappings().one()
        change_to = sa.update(AuditRecord).where(AuditRecord.number == 3).values(hash=audit.row_hash(dict(row)))
        connection.execute(change_to)
    (fault,) = verify(database, anchors)
    assert (fault.sort, fault.number) == ("broken", 4)
    assert "row 4 does not follow row 3" in fault.text


def test_deleted_rows_are_a_gap(database: Database, anchors: Path) -> None:
    write(database, 9)
    anchor(database, anchors, Notes(), 5000)
    change(database, "DELETE FROM audit WHERE number = 2 OR number IN (5, 6, 7)")
    faults = verify(database, anchors)
    assert sorts(faults) == [("missing", 2), ("missing", 5)]
    assert faults[0].text == "row 2 is missing: deleted"
    assert faults[1].text == "rows 5 to 7 are missing: deleted"


def test_a_cut_tail_shows_by_the_head_row(database: Database, anchors: Path) -> None:
    write(database, 6)
    change(database, "DELETE FROM audit WHERE number > 4")
    faults = verify(database, anchors)
    assert ("cut", 5) in sorts(faults)
    assert "the head row knows row 6, the table ends at row 4" in faults[0].text


def test_a_tail_cut_together_with_the_head_shows_by_the_anchor_alone(database: Database, anchors: Path) -> None:
    write(database, 6)
    anchor(database, anchors, Notes(), 1_772_323_200_000)
    change(database, "DELETE FROM audit WHERE number > 4")
    with database.begin() as connection:
        last = connection.execute(sa.select(AuditRecord.hash).where(AuditRecord.number == 4)).scalar_one()
        connection.execute(sa.update(AuditHead).values(number=4, hash=last))
    (fault,) = verify(database, anchors)
    assert (fault.sort, fault.number) == ("cut", 5)
    assert "2026-03-01T00:00:00.000Z (line 1) knows row 6, the table ends at row 4" in fault.text
    write(database, 4)  # grown again over the cut: rows 5 and 6 are others now
    assert sorts(verify(database, anchors)) == [("anchor", 6)]


def test_a_chain_written_anew_shows_by_the_anchors(database: Database, anchors: Path) -> None:
    write(database, 4)
    anchor(database, anchors, Notes(), 1000)
    write(database, 4)
    anchor(database, anchors, Notes(), 2000)
    change(database, "UPDATE audit SET actor = 'user:wang' WHERE number = 6")
    rehash(database, 6)
    faults = verify(database, anchors)
    assert sorts(faults) == [("anchor", 8)]  # the anchor of row 4 still fits
    assert "row 8 is not the one that was anchored at 1970-01-01T00:00:02.000Z (line 2)" in faults[0].text


def test_without_an_anchor_a_chain_written_anew_is_sound_and_the_missing_file_is_said(
    database: Database, anchors: Path
) -> None:
    write(database, 4)
    change(database, "UPDATE audit SET actor = 'user:wang' WHERE number = 1")
    rehash(database, 1)
    (fault,) = verify(database, anchors)
    assert fault.sort == "anchors"
    assert "metergate audit anchor" in fault.text


def test_a_row_put_in_past_the_program(database: Database, anchors: Path) -> None:
    write(database, 3)
    anchor(database, anchors, Notes(), 1000)
    copy = (
        "INSERT INTO audit SELECT :to, at, actor, action, object_kind, object_id, detail, address, previous, hash"
        " FROM audit WHERE number = 3"
    )
    change(database, copy, to=4)
    change(database, copy, to=0)
    faults = verify(database, anchors)
    assert sorts(faults) == [("inserted", 0), ("edited", 4), ("head", 3)]


def test_a_row_that_stands_twice(tmp_path: Path, anchors: Path) -> None:
    """Only in a table whose primary key was taken away; SQLite lets one do that."""
    database = Database(f"sqlite:///{tmp_path / 'r.db'}")
    database.upgrade()
    write(database, PAGE + 5)
    anchor(database, anchors, Notes(), 1000)
    change(database, "CREATE TABLE copy AS SELECT * FROM audit")
    change(database, "DROP TABLE audit")
    change(database, "ALTER TABLE copy RENAME TO audit")
    assert verify(database, anchors) == []
    for number in (7, PAGE, PAGE, PAGE + 1):
        change(database, "INSERT INTO audit SELECT * FROM audit WHERE number = :n LIMIT 1", n=number)
    wanted = [("inserted", 7), *[("inserted", PAGE)] * 2, ("inserted", PAGE + 1)]
    assert sorts(verify(database, anchors)) == wanted
    database.close()


@pytest.mark.parametrize("statement", ["UPDATE audit_head SET hash = 'x'", "UPDATE audit_head SET number = 2"])
def test_a_head_row_that_disagrees(database: Database, anchors: Path, statement: str) -> None:
    write(database, 3)
    anchor(database, anchors, Notes(), 1000)
    change(database, statement)
    assert [fault.sort for fault in verify(database, anchors)] == ["head"]


def test_a_missing_head_row_stops_every_change_and_is_named(database: Database, anchors: Path) -> None:
    write(database, 3)
    anchor(database, anchors, Notes(), 1000)
    change(database, "DELETE FROM audit_head")
    assert [fault.sort for fault in verify(database, anchors)] == ["head"]
    with pytest.raises(Exception, match="metergate audit verify"):
        write(database, 1)


def test_more_rows_than_a_page_are_one_chain(database: Database, anchors: Path) -> None:
    write(database, 2 * PAGE + 1)
    anchor(database, anchors, Notes(), 1000)
    change(database, "DELETE FROM audit WHERE number = :n", n=PAGE)
    change(database, "UPDATE audit SET detail = '{}' WHERE number = :n", n=PAGE + 1)
    verdict = check(database, anchors)
    assert sorts(verdict.faults) == [("missing", PAGE), ("edited", PAGE + 1)]
    assert verdict.rows == 2 * PAGE


def test_an_anchor_is_written_once_for_each_head(database: Database, anchors: Path) -> None:
    notes = Notes()
    assert anchor(database, anchors, notes, 1) is None  # nothing to anchor
    write(database, 1)
    first = anchor(database, anchors, notes, 2)
    assert first is not None
    assert anchor(database, anchors, notes, 3) is None
    write(database, 1)
    second = anchor(database, anchors, notes, 4)
    assert second is not None
    lines = anchors.read_bytes().splitlines()
    assert [parse_line(line) for line in lines] == [first, second]
    assert (first.number, second.number, second.at) == (1, 2, 4)
    assert notes.said() == ["audit_anchored", "audit_anchored"]
    assert notes.lines[1][1] == {"number": 2, "hash": second.hash}


def test_a_file_of_anchors_that_root_made_belongs_to_the_service(tmp_path: Path, anchors: Path) -> None:
    """As any other user the folder is one's own, so that the same holds."""
    database = Database(f"sqlite:///{tmp_path / 'r.db'}")
    database.upgrade()
    write(database, 1)
    anchors.parent.mkdir()
    if os.geteuid() == 0:
        os.chown(anchors.parent, 65534, 65534)
    anchor(database, anchors, Notes(), 1)
    assert anchors.stat().st_uid == anchors.parent.stat().st_uid
    database.close()


@pytest.mark.parametrize("cut", [1, 2, 9, 40])
def test_a_line_cut_by_a_power_failure_is_no_fault_and_ends_no_anchoring(
    tmp_path: Path, anchors: Path, cut: int
) -> None:
    database = Database(f"sqlite:///{tmp_path / 'r.db'}")
    database.upgrade()
    write(database, 1)
    anchor(database, anchors, Notes(), 1)
    write(database, 1)
    anchor(database, anchors, Notes(), 2)
    whole = anchors.read_bytes()
    anchors.write_bytes(whole[:-cut])
    assert verify(database, anchors) == []
    write(database, 1)
    made = anchor(database, anchors, Notes(), 3)
    assert made is not None
    assert made.after_torn
    assert verify(database, anchors) == []
    numbers = [found.number for line in anchors.read_bytes().splitlines() if (found := parse_line(line))]
    assert numbers in ([1, 3], [1, 2, 3])  # the whole line whose end alone was cut is an anchor again
    database.close()


def test_a_spoilt_line_is_a_fault(database: Database, anchors: Path) -> None:
    for at in (1, 2, 3):
        write(database, 1)
        anchor(database, anchors, Notes(), at)
    lines = anchors.read_bytes().splitlines(keepends=True)
    for spoilt in range(3):
        changed = [b"{}\n" if number == spoilt else line for number, line in enumerate(lines)]
        anchors.write_bytes(b"".join(changed))
        (fault,) = verify(database, anchors)
        assert fault.text.startswith(f"line {spoilt + 1} of anchors.jsonl")


def test_a_registry_that_is_older_than_its_anchors_is_said_at_once(database: Database, anchors: Path) -> None:
    write(database, 3)
    anchors.parent.mkdir()
    anchors.write_text(line_of(Anchor(9, "0" * 64, 1)), "utf-8")
    notes = Notes()
    anchor(database, anchors, notes, 2)
    assert notes.said() == ["audit_behind_its_anchor", "audit_anchored"]
    faults = verify(database, anchors)
    assert sorts(faults) == [("cut", 4)]  # and the anchor of row 3, which goes back, is looked up and fits


def test_an_anchor_that_goes_back_is_compared_too(database: Database, anchors: Path) -> None:
    write(database, 3)
    anchor(database, anchors, Notes(), 1)
    with anchors.open("a", encoding="utf-8") as file:
        file.write(line_of(Anchor(2, "1" * 64, 5)))
    assert sorts(verify(database, anchors)) == [("anchor", 2)]


@pytest.mark.parametrize(
    "line",
    [b"", b"[]", b"{}", b"null", b'{"number":"1","hash":"x","at":1}', b'{"number":1}', b"[" * 100_000, b"\xff"],
)
def test_what_is_no_anchor(line: bytes) -> None:
    assert parse_line(line) is None


def test_writers_in_threads_make_one_chain_without_a_fork(database: Database, anchors: Path) -> None:
    def work(name: str) -> None:
        for number in range(10):
            with database.begin() as connection:
                audit.append(connection, Actor(f"user:{name}"), "meter.edit", "meter", number, at=number)

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(work, ("li", "wang", "chen")))
    anchor(database, anchors, Notes(), 1)
    verdict = check(database, anchors)
    assert (verdict.faults, verdict.rows, verdict.last) == ([], 30, 30)


def test_verify_while_others_write_and_anchor_finds_nothing(database: Database, anchors: Path) -> None:
    write(database, 5)
    anchor(database, anchors, Notes(), 1)
    over = threading.Event()

    def work() -> None:
        while not over.is_set():
            write(database, 1)
            anchor(database, anchors, Notes(), 2)

    writer = threading.Thread(target=work)
    writer.start()
    try:
        for _ in range(10):
            assert verify(database, anchors) == []
    finally:
        over.set()
        writer.join(60)


def test_the_head_is_anchored_at_intervals_and_a_failing_disk_is_tried_again(
    database: Database, tmp_path: Path
) -> None:
    asyncio.run(_anchoring(database, tmp_path))


async def _anchoring(database: Database, folder: Path) -> None:
    clock, notes = ManualClock(), Notes()
    place = folder / "place"
    place.write_text("a file where the folder should be", "utf-8")
    path = place / "anchors.jsonl"
    write(database, 1)
    task = asyncio.create_task(keep_anchored(database, path, clock, 300, log=notes))
    try:
        await _until(clock, lambda: "audit_not_anchored" in notes.said(), 0)
        place.unlink()
        await _until(clock, path.exists, 300)
        write(database, 1)
        await _until(clock, lambda: len(path.read_bytes().splitlines()) == 2, 300)
    finally:
        write(database, 1)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    numbers = [json.loads(line)["number"] for line in path.read_bytes().splitlines()]
    assert numbers == [1, 2, 3]  # the last one at the end


async def _until(clock: ManualClock, condition: Any, step_s: float) -> None:
    for _ in range(2000):
        if condition():
            return
        await clock.advance(step_s)
        await asyncio.sleep(0.005)  # the anchoring itself is done by a thread
    raise AssertionError("it never came")
