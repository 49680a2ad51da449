"""Receipts and photos: what a visit brings back, complete and in order, or refused with nothing changed."""

from __future__ import annotations

import struct
import zlib
from dataclasses import replace

import pytest
import sqlalchemy as sa

from api.orders.book import StaleError, open_or_join, step
from api.orders.lifecycle import Deed, Step, StepError
from api.orders.photos import MAX_BYTES, MAX_PHOTOS, add_photo, kind_of
from api.orders.receipts import Filing, file_receipt, photos_of, receipts_of
from api.orders.words import Result
from registry.database import Database
from registry.models_access import AuditRecord
from registry.models_work_orders import WorkOrder
from registry.roles import Actor, Role
from tests.api.orders.test_book import BOSS, CALENDAR, LEAK, NOW, book

__all__ = ["book"]

MINUTE = 60_000
WORKER = Actor("user:li", frozenset({Role.WORKER}), areas=None)
OWN = frozenset({"li"})
GOOD = Filing(
    worker="li",
    arrived_at=NOW + 30 * MINUTE,
    started_at=NOW + 35 * MINUTE,
    finished_at=NOW + 50 * MINUTE,
    left_at=NOW + 55 * MINUTE,
    result=Result.PASSED,
    index_seen={"volume": 1_234_567_000},
    materials=[{"name": "gasket", "count": 2}],
    amount="35.50",
    label="true",
)
END = NOW + 60 * MINUTE


@pytest.fixture
def order_id(book: Database) -> int:
    with book.begin() as connection:
        made = open_or_join(connection, BOSS, LEAK, now_ms=NOW, calendar=CALENDAR).order_id
        step(connection, BOSS, made, Step(Deed.DISPATCH, assignee="li"), now_ms=NOW)
    return made


def filed(book: Database, order_id: int, filing: Filing, *, version: int | None = 2) -> sa.Row[tuple[object, ...]]:
    with book.begin() as connection:
        return file_receipt(connection, WORKER, order_id, filing, now_ms=END, version=version, own=OWN)


def test_a_receipt_finishes_the_order_and_keeps_everything(book: Database, order_id: int) -> None:
    after = filed(book, order_id, GOOD)
    assert (after.state, after.result, after.finished_at, after.visits) == ("finished", "passed", END, 1)
    with book.read() as connection:
        receipt = receipts_of(connection, order_id)[0]
        label = connection.execute(sa.select(WorkOrder.label)).scalar_one()
    assert (receipt.worker, receipt.arrived_at, receipt.left_at) == ("li", NOW + 30 * MINUTE, NOW + 55 * MINUTE)
    assert (receipt.index_seen, receipt.amount, label) == ({"volume": 1_234_567_000}, "35.50", "true")


def test_an_unfinished_visit_is_kept_and_the_next_one_is_the_second(book: Database, order_id: int) -> None:
    unfinished = replace(GOOD, result=Result.UNFINISHED, note="no parts", label="")
    assert filed(book, order_id, unfinished).state == "accepted"
    with book.begin() as connection:
        step(connection, BOSS, order_id, Step(Deed.DISPATCH, assignee="li"), now_ms=END)
    assert filed(book, order_id, GOOD, version=None).state == "finished"
    with book.read() as connection:
        assert [(row.visit, row.result) for row in receipts_of(connection, order_id)] == [
            (1, "unfinished"),
            (2, "passed"),
        ]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"arrived_at": NOW - 1}, "arrival lies before the acceptance"),
        ({"started_at": NOW + 20 * MINUTE}, "start lies before the arrival"),
        ({"finished_at": NOW + 31 * MINUTE}, "finish lies before the start"),
        ({"left_at": NOW + 40 * MINUTE}, "leaving lies before the finish"),
        ({"left_at": END + 6 * MINUTE}, "leaving .* lies in the future"),
        ({"result": Result.NOT_PASSED}, "note with the reason"),
        ({"label": "maybe"}, "allowed: true, false"),
    ],
)
def test_what_is_wrong_is_said_and_nothing_changes(
    book: Database, order_id: int, change: dict[str, object], says: str
) -> None:
    with book.read() as connection:
        before = connection.execute(sa.select(AuditRecord)).all(), connection.execute(sa.select(WorkOrder)).all()
    with pytest.raises(StepError, match=says):
        filed(book, order_id, replace(GOOD, **change))  # type: ignore[arg-type]  # fields by name
    with book.read() as connection:
        after = connection.execute(sa.select(AuditRecord)).all(), connection.execute(sa.select(WorkOrder)).all()
        assert receipts_of(connection, order_id) == []
    assert before == after


def test_another_workers_order_and_a_stale_one_are_refused(book: Database, order_id: int) -> None:
    with book.begin() as connection, pytest.raises(StepError, match="not dispatched to you"):
        file_receipt(connection, WORKER, order_id, GOOD, now_ms=END, own=frozenset({"zhao"}))
    with pytest.raises(StaleError):
        filed(book, order_id, GOOD, version=1)


def png(width: int, height: int) -> bytes:
    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(b"\x00\x00")) + chunk(b"IEND", b"")


JPEG = b"\xff\xd8\xff\xe0\x00\x04ab\xff\xc0\x00\x0b\x08\x00\x10\x00\x20\x01\x01\x11\x00\xff\xd9"


def test_a_photo_is_what_its_bytes_say() -> None:
    assert kind_of(JPEG) == "image/jpeg"
    assert kind_of(png(8, 1)) == "image/png"


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "no photo"),
        (b"<svg onload=alert(1)>", "no photo"),
        (b"GIF89a....", "no photo"),
        (JPEG[:-2], "cut or damaged"),
        (png(8, 1)[:-8], "cut or damaged"),
        (png(50_000, 50_000), "pixels"),
        (b"\xff\xd8\xff" + b"\x00" * 50 + b"\xff\xd9", "cut or damaged"),
    ],
)
def test_what_is_no_photo_is_refused(data: bytes, says: str) -> None:
    with pytest.raises(StepError, match=says):
        kind_of(data)


def test_photos_are_kept_once_and_not_without_end(book: Database, order_id: int) -> None:
    with book.begin() as connection:
        first = add_photo(connection, WORKER, order_id, 1, JPEG, now_ms=END)
        assert add_photo(connection, WORKER, order_id, 1, JPEG, now_ms=END) == first
        for number in range(1, MAX_PHOTOS):
            add_photo(connection, WORKER, order_id, 1, png(8, number), now_ms=END)
        with pytest.raises(StepError, match="are kept already"):
            add_photo(connection, WORKER, order_id, 1, png(9, 9), now_ms=END)
        with pytest.raises(StepError, match="are taken"):
            add_photo(connection, WORKER, order_id, 1, b"\xff\xd8\xff" + bytes(MAX_BYTES), now_ms=END)
        assert len(photos_of(connection, order_id)) == MAX_PHOTOS
