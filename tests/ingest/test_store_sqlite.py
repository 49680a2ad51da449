"""The embedded store: the contract of all stores, and what only a file can do wrong."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path
from threading import Thread

import pytest

from ingest.store_sqlite import SqliteStore
from metering.errors import StoreError
from metering.reading import Reading
from metering.store import ReadingStore
from tests.ingest.store_contract import AT, END, StoreContract


class TestContract(StoreContract):
    def open(self, folder: Path) -> ReadingStore:
        return SqliteStore(folder / "store #1?.db", mode="write")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "readings.db"


def test_a_commit_waits_for_the_disk(path: Path) -> None:
    """No test here can cut the power; `synchronous=FULL` is what lost nothing in 60 simulated power cuts."""
    store = SqliteStore(path, mode="write")
    assert store._writer is not None
    assert store._writer.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert store._writer.execute("PRAGMA synchronous").fetchone() == (2,)
    store.close()


def test_all_of_int64_is_exact_in_the_file(path: Path) -> None:
    store = SqliteStore(path, mode="write")
    extreme = [2**63 - 1, -(2**63) + 1]
    store.write([Reading("a", AT + i, {"volume": micro}) for i, micro in enumerate(extreme)])
    assert [r.values["volume"] for r in store.range(None, AT, END)] == extreme
    answers = store.write([Reading("a", AT + 9, {"volume": 2**63}), Reading("a", AT + 10, {"volume": 3})])
    assert answers == ["volume outside int64", None]
    store.close()


def test_a_second_writer_is_told_so_and_readers_are_welcome(path: Path) -> None:
    store = SqliteStore(path, mode="write")
    store.write([Reading("a", AT, {"volume": 1})])
    with pytest.raises(StoreError, match="another process"):
        SqliteStore(path, mode="write")
    reader = SqliteStore(path, mode="read")
    assert reader.counts(AT, END) == {"a": 1}
    store.write([Reading("a", AT + 1, {"volume": 2})])
    assert reader.counts(AT, END) == {"a": 2}
    with pytest.raises(StoreError, match="reading only"):
        reader.write([Reading("a", AT, {"volume": 1})])
    reader.close()
    store.close()
    SqliteStore(path, mode="write").close()


def test_a_reader_waits_for_the_file_and_outlives_its_writer(path: Path) -> None:
    reader = SqliteStore(path, mode="read")
    with pytest.raises(StoreError, match="does not exist yet"):
        reader.counts(AT, END)
    path.touch()
    with pytest.raises(StoreError, match="still empty"):
        reader.counts(AT, END)
    store = SqliteStore(path, mode="write")
    store.write([Reading("a", AT, {"volume": 1})])
    store.close()
    assert reader.counts(AT, END) == {"a": 1}
    reader.close()


def test_threads_of_a_reader_do_not_share_a_connection(path: Path) -> None:
    store = SqliteStore(path, mode="write")
    store.write([Reading("a", AT + i, {"volume": i}) for i in range(2000)])
    reader = SqliteStore(path, mode="read")
    sums: list[int] = []

    def read() -> None:
        sums.extend(sum(r.values["volume"] for r in reader.range(["a"], AT, END)) for _ in range(5))

    threads = [Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sums == [1_999_000] * 20
    reader.close()
    store.close()


def test_a_file_of_somebody_else_is_left_alone(path: Path) -> None:
    foreign = sqlite3.connect(path)
    foreign.execute("CREATE TABLE reading (a)")
    foreign.close()
    before = path.read_bytes()
    with pytest.raises(StoreError, match="not a reading store"):
        SqliteStore(path, mode="write")
    with pytest.raises(StoreError, match="not a reading store"):
        SqliteStore(path, mode="read").counts(AT, END)
    assert sqlite3.connect(path).execute("SELECT sql FROM sqlite_schema").fetchall() == [
        ("CREATE TABLE reading (a)",)
    ]
    assert len(path.read_bytes()) == len(before)


def test_a_file_that_is_not_a_database_is_a_store_error(path: Path) -> None:
    path.write_bytes(b"not a database, but long enough to be looked at" * 100)
    with pytest.raises(StoreError):
        SqliteStore(path, mode="write")


def test_a_new_quantity_gets_its_column_when_the_file_is_opened(path: Path) -> None:
    store = SqliteStore(path, mode="write")
    store.write([Reading("a", AT, {"volume": 1})])
    store.close()
    old = sqlite3.connect(path)
    old.execute("ALTER TABLE reading DROP COLUMN credit")  # a file from before `credit` was on the list
    old.close()
    reader = SqliteStore(path, mode="read")
    assert list(reader.range(None, AT, END, quantities=["credit"])) == []
    assert reader.at_or_before(["a"], END, quantity="credit") == {}
    reader.close()
    store = SqliteStore(path, mode="write")
    store.write([Reading("a", AT + 1, {"credit": 5})])
    assert [r.values for r in store.range(None, AT, END)] == [{"volume": 1}, {"credit": 5}]
    store.close()


def test_a_full_disk_is_a_store_error_and_the_batch_can_be_sent_again(path: Path) -> None:
    store = SqliteStore(path, mode="write")
    store.write([Reading("a", AT, {"volume": 1})])
    writer = store._writer
    assert writer is not None
    pages = writer.execute("PRAGMA page_count").fetchone()[0]
    writer.execute(f"PRAGMA max_page_count = {pages + 2}")
    batch = [Reading(f"new-{i:05d}", AT + i, {"volume": i}) for i in range(5000)]
    with pytest.raises(StoreError, match="full"):
        store.write(batch)
    assert store.counts(AT, END) == {"a": 1}
    writer.execute("PRAGMA max_page_count = 1000000")
    assert store.write(batch) == [None] * 5000
    assert sum(store.counts(AT, END).values()) == 5001
    assert list(store.range(["new-04999"], AT, END)) == [batch[-1]]
    store.close()


_WRITER = """
import sys
from pathlib import Path
from ingest.store_sqlite import SqliteStore
from metering.reading import Reading
store = SqliteStore(Path(sys.argv[1]), mode="write")
for batch in range(100_000):
    store.write([Reading(f"M{i}", 1_772_323_200_000 + batch, {"volume": batch}) for i in range(20)])
    print(batch, flush=True)
"""


def test_what_write_returned_for_survives_kill_9(path: Path) -> None:
    command = [sys.executable, "-c", _WRITER, str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        confirmed = -1
        for line in process.stdout:
            confirmed = int(line)
            if confirmed >= 30:
                os.kill(process.pid, signal.SIGKILL)
                break
    store = SqliteStore(path, mode="write")
    counts = store.counts(AT, END)
    assert set(counts) == {f"M{i}" for i in range(20)}
    assert len(set(counts.values())) == 1  # whole batches only
    assert counts["M0"] >= confirmed + 1
    store.close()
