"""The check of the audit: every row hashed again, in order, and compared with the head and with every anchor.

Memory stays flat: rows come in pages of `_PAGE`, each in a short transaction of its own (a long one would hold up the
writers of an SQLite file), and the anchors are read along with them. Rows written meanwhile are checked as well.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

import sqlalchemy as sa
from sqlalchemy.engine import Connection, RowMapping

from metering.clock import rfc3339
from registry import audit
from registry.anchors import Anchor, parse_line
from registry.database import Database
from registry.models_access import AuditRecord

_PAGE: Final = 2000
_LONGEST_LINE: Final = 64 * 1024
_MOST_FAULTS: Final = 1000

FaultSort = Literal["edited", "missing", "inserted", "broken", "cut", "head", "anchor", "anchors"]


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong. number: of the row (the first of several), 0 for none.

    sort: edited (a row's content is not what its hash says), missing (a gap), inserted (a number that must not be),
    broken (a row does not follow the one before), cut (the tail is gone), head (the head row disagrees), anchor (a
    row is not the one that was anchored), anchors (the file itself).
    """

    sort: FaultSort
    number: int
    text: str


@dataclass
class _Walk:
    """Where the walk through the chain has come to."""

    number: int = 0
    hash: str = audit.GENESIS
    rows: int = 0


@dataclass(frozen=True, slots=True)
class Verdict:
    """faults: empty when all is sound; more: how many are not named. rows, anchors: how many were checked.

    last: the newest row's number.
    """

    faults: list[Fault]
    rows: int
    anchors: int
    last: int
    more: int


def verify(database: Database, anchors_path: Path) -> list[Fault]:
    """Return everything that is wrong with the audit, in order; an empty list when it is sound."""
    return check(database, anchors_path).faults


def check(database: Database, anchors_path: Path) -> Verdict:
    """Check the whole chain against the head and the anchors. Raises: RegistryError, OSError."""
    lines = _Lines(anchors_path)
    waiting = _Waiting(lines)
    walk = _Walk()
    faults = _Faults()
    head: audit.Head | None = None
    for page in _pages(database):
        head = page.head
        for row in page.rows:
            faults.take(_check_row(walk, row))
            faults.take(waiting.meet(row))
    faults.take(_check_end(walk, head))
    faults.take(waiting.rest(database, walk.number))
    faults.take(lines.faults)
    if head is not None and head.number > 0 and not lines.anchors:
        text = f"there are no anchors in {anchors_path}, so that a cut tail would not show; metergate audit anchor"
        faults.take([Fault("anchors", 0, text + " makes one")])
    return Verdict(faults.kept, walk.rows, lines.anchors, walk.number, faults.more)


class _Faults:
    """The first faults by name and the rest by number: a table written anew has as many as it has rows."""

    def __init__(self) -> None:
        self.kept: list[Fault] = []
        self.more = 0

    def take(self, found: Iterable[Fault]) -> None:
        for fault in found:
            if len(self.kept) < _MOST_FAULTS:
                self.kept.append(fault)
            else:
                self.more += 1


def _check_row(walk: _Walk, row: RowMapping) -> Iterator[Fault]:
    number = row["number"]
    walk.rows += 1
    if number <= walk.number:
        why = "stands there twice" if number == walk.number else "is no number of a row"
        yield Fault("inserted", number, f"row {number} {why}: somebody put it in")
        return
    gap = number - walk.number - 1
    if gap:
        which = f"row {walk.number + 1} is" if gap == 1 else f"rows {walk.number + 1} to {number - 1} are"
        yield Fault("missing", walk.number + 1, f"{which} missing: deleted")
    if audit.row_hash(dict(row)) != row["hash"]:
        yield Fault("edited", number, f"row {number} was edited: its content is not what its hash says {_about(row)}")
    elif not gap and row["previous"] != walk.hash:
        text = f"row {number} does not follow row {number - 1}: one of the two was edited and given a new hash"
        yield Fault("broken", number, text if number > 1 else "row 1 does not begin the chain: it was written anew")
    walk.number, walk.hash = number, row["hash"]


def _about(row: RowMapping) -> str:
    return f"(now: {row['actor']}, {row['action']} of {row['object_kind']} {row['object_id']})"


def _check_end(walk: _Walk, head: audit.Head | None) -> Iterator[Fault]:
    if head is None:
        yield Fault("head", 0, f"the head row is missing; the table ends at row {walk.number}")
    elif head.number > walk.number:
        text = f"the tail is cut: the head row knows row {head.number}, the table ends at row {walk.number}"
        yield Fault("cut", walk.number + 1, text)
    elif (head.number, head.hash) != (walk.number, walk.hash):
        text = f"the head row says row {head.number}, the table ends at row {walk.number}"
        if head.number == walk.number:
            text = f"the head row does not have the hash of row {walk.number}"
        yield Fault("head", head.number, f"{text}: rows were put in or changed past the program")


@dataclass(frozen=True, slots=True)
class _Page:
    rows: list[RowMapping]
    head: audit.Head | None


def _pages(database: Database) -> Iterator[_Page]:
    """Yield the table by number, with the head as it was at the same moment; rows of one number come together.

    A page begins with the number that the last one ended with, so that a second row of it is seen; where the
    database keeps its primary key there is only ever one.
    """
    last: int | None = None
    seen_of_last = 0
    while True:
        with database.read() as connection:
            if not database.is_sqlite:  # one state for both statements; PostgreSQL's default has one for each
                connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            rows = _page(connection, last, seen_of_last)
            head = audit.head(connection)
        yield _Page(rows, head)
        if len(rows) < _PAGE:
            return
        same = sum(row["number"] == rows[-1]["number"] for row in rows)
        seen_of_last = same + (seen_of_last if rows[-1]["number"] == last else 0)
        last = rows[-1]["number"]


def _page(connection: Connection, last: int | None, skip: int) -> list[RowMapping]:
    wanted = sa.select(AuditRecord.__table__).order_by(AuditRecord.number, AuditRecord.hash).limit(_PAGE)
    if last is not None:
        wanted = wanted.where(AuditRecord.number >= last).offset(skip)
    return list(connection.execute(wanted).mappings())


class _Lines:
    """The anchors' file, read lazily; what is wrong with the file itself collects in `faults`.

    Lines that are appended while the table is read may know more than was read of it: only what stands in the file
    at the beginning counts.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.anchors = 0
        self.faults: list[Fault] = []
        self._size = path.stat().st_size if path.exists() else 0

    def __iter__(self) -> Iterator[tuple[int, Anchor]]:
        """Yield (line, anchor)."""
        spoilt = 0
        for number, line in enumerate(self._raw(), 1):
            found = parse_line(line) if line.endswith(b"\n") else None
            if spoilt and not (found and found.after_torn):
                self._spoilt(spoilt)
            spoilt = 0
            if found:
                self.anchors += 1
                yield number, found
            elif line.endswith(b"\n"):
                spoilt = number  # a last line without an end is what a power cut leaves
        if spoilt:
            self._spoilt(spoilt)

    def _raw(self) -> Iterator[bytes]:
        if not self._size:
            return
        left = self._size
        with self.path.open("rb") as file:
            while left > 0 and (line := file.readline(min(left, _LONGEST_LINE))):
                left -= len(line)
                yield line

    def _spoilt(self, line: int) -> None:
        self.faults.append(Fault("anchors", 0, f"line {line} of {self.path.name} is no anchor: somebody changed it"))


class _Waiting:
    """The next anchor that the walk has not come to. One that goes back is looked up by itself at the end."""

    def __init__(self, lines: _Lines) -> None:
        self._next = iter(lines)
        self._back: list[tuple[int, Anchor]] = []
        self._line = 0
        self._anchor: Anchor | None = None
        self._turn()

    def _turn(self) -> None:
        self._line, self._anchor = next(self._next, (0, None))

    def meet(self, row: RowMapping) -> Iterator[Fault]:
        """Compare a row with all anchors of its number."""
        while self._anchor is not None and self._anchor.number <= row["number"]:
            if self._anchor.number == row["number"]:
                yield from _compare(self._line, self._anchor, row["hash"])
            else:
                self._back.append((self._line, self._anchor))
            self._turn()

    def rest(self, database: Database, last: int) -> Iterator[Fault]:
        """What the table does not reach, and what went back."""
        while self._anchor is not None:
            if self._anchor.number > last:
                yield _cut(self._line, self._anchor, last)
            else:
                self._back.append((self._line, self._anchor))
            self._turn()
        for line, back in self._back:
            with database.read() as connection:
                wanted = sa.select(AuditRecord.hash).where(AuditRecord.number == back.number)
                found = connection.execute(wanted).scalars().first()
            yield from _compare(line, back, found or "")


def _cut(line: int, known: Anchor, last: int) -> Fault:
    text = f"the tail is cut: the anchor of {rfc3339(known.at)} (line {line}) knows row {known.number}"
    return Fault("cut", last + 1, f"{text}, the table ends at row {last}")


def _compare(line: int, known: Anchor, found: str) -> Iterator[Fault]:
    if found == known.hash:
        return
    text = f"row {known.number} is not the one that was anchored at {rfc3339(known.at)} (line {line})"
    yield Fault("anchor", known.number, f"{text}: rows up to it were written anew, or the anchor was changed")
