"""Jobs in processes of their own: progress, results, cancelling, crashes, restarts, expiry."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from api.jobs import book
from api.jobs.imports import keep_upload
from api.jobs.runner import JobRunner, result_file
from api.jobs.settings import JobSettings
from api.jobs.words import Materials
from ingest.store_sqlite import SqliteStore
from metering.clock import SystemClock
from registry.database import Database
from registry.models_access import AuditRecord
from registry.refusals import RefusedError
from registry.roles import Actor, Role
from tests.api.jobs.kinds import ALL

LI = Actor("user:li", frozenset({Role.ENGINEER}), areas=frozenset({"north"}))
WANG = Actor("user:wang", frozenset({Role.ENGINEER}), areas=None)
ADMIN = Actor("user:admin", frozenset({Role.ADMIN}), areas=None)
CLOCK = SystemClock()
DEADLINE_S = 60.0


class Room:
    """A registry, and a runner over it whenever `working` is entered."""

    def __init__(self, folder: Path, url: str = "", **settings: Any) -> None:
        self.settings = JobSettings(folder=folder / "jobs", poll_s=0.05, **settings)
        self.url = url or f"sqlite:///{folder / 'registry.db'}"
        self.database = Database(self.url)
        self.database.upgrade()
        self.store = partial(SqliteStore, folder / "none.db", mode="read")

    def submit(self, kind: str, actor: Actor = LI, **args: Any) -> int:
        with self.database.begin() as connection:
            return book.submit(
                connection, actor, f"test.{kind}", args, title=kind, now_ms=CLOCK.now_ms(), settings=self.settings
            )

    def row(self, number: int) -> dict[str, Any]:
        with self.database.read() as connection:
            return book.row_of(connection, ADMIN, number)

    def cancel(self, number: int, actor: Actor = LI) -> None:
        with self.database.begin() as connection:
            book.cancel(connection, actor, number, now_ms=CLOCK.now_ms())

    def audited(self) -> list[str]:
        with self.database.read() as connection:
            rows = connection.execute(sa.select(AuditRecord.action).order_by(AuditRecord.number))
            return list(rows.scalars())

    def runner(self) -> JobRunner:
        return JobRunner(self.settings, self.database, Materials(self.url, self.store, kinds=ALL), CLOCK)

    async def until(self, true: Callable[[dict[str, Any]], bool], number: int) -> dict[str, Any]:
        """Wait for a state of a job."""
        end = CLOCK.monotonic() + DEADLINE_S
        while not true(row := await asyncio.to_thread(self.row, number)):
            assert CLOCK.monotonic() < end, row
            await CLOCK.sleep(0.02)
        return row

    def work(self, scenario: Callable[[], Awaitable[None]]) -> None:
        """Run a scenario beside a runner, and end the runner as a service would."""

        async def inside() -> None:
            task = asyncio.create_task(self.runner().run())
            try:
                await scenario()
            finally:
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task

        asyncio.run(inside())


@pytest.fixture
def room(tmp_path: Path) -> Iterator[Room]:
    made = Room(tmp_path)
    yield made
    made.database.close()


def over(row: dict[str, Any]) -> bool:
    return row["state"] not in ("queued", "running")


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_result_is_there_to_be_fetched_with_its_digest_and_every_failure_has_words(room: Room) -> None:
    numbers = [room.submit(kind, lines=3) for kind in ("count", "refuse", "break_", "die", "unheard")]

    async def scenario() -> None:
        for number in numbers:
            await room.until(over, number)

    room.work(scenario)
    counted, refused, broken, dead, unknown = (room.row(number) for number in numbers)
    content = b"0\n1\n2\n"
    assert (counted["state"], counted["progress"], counted["problem"]) == ("done", 100, "")
    assert counted["outcome"] == {"lines": 3, "for": "user:li", "areas": ["north"]}
    assert (counted["result_name"], counted["result_bytes"]) == ("lines.csv", 6)
    assert counted["result_sha256"] == hashlib.sha256(content).hexdigest()
    assert result_file(room.settings, numbers[0]).read_bytes() == content
    assert (refused["state"], refused["problem"]) == ("failed", "there is nothing to count")
    assert (broken["state"], "ZeroDivisionError" in broken["problem"]) == ("failed", True)
    assert (dead["state"], dead["problem"]) == ("failed", "its process ended with code 9")
    assert (unknown["state"], unknown["problem"]) == ("failed", "this version knows no job 'test.unheard'")
    assert [path.name for path in room.settings.folder.iterdir()] == ["job-1.result"]  # no halves lie about
    assert room.audited().count("job.submit") == 5
    assert room.audited().count("job.done") == 1
    assert room.audited().count("job.failed") == 4


def test_one_that_runs_is_cancelled_with_its_process_and_one_that_waits_never_begins(room: Room) -> None:
    running, waiting = room.submit("silent"), room.submit("count", lines=1)
    pids: list[int] = []

    async def scenario() -> None:
        row = await room.until(lambda row: bool(row["progress_text"]), running)
        pids.append(int(row["progress_text"].split()[1]))
        assert room.row(waiting)["state"] == "queued"  # one at a time
        room.cancel(waiting)
        room.cancel(running)
        await room.until(over, running)

    room.work(scenario)
    assert [room.row(number)["state"] for number in (running, waiting)] == ["cancelled", "cancelled"]
    assert room.row(waiting)["started_at"] is None
    assert not alive(pids[0])
    with pytest.raises(RefusedError, match="cancelled already"):
        room.cancel(running)


def test_the_end_of_the_service_interrupts_what_runs_and_the_next_start_does_what_waited(room: Room) -> None:
    running, waiting = room.submit("endless"), room.submit("count", lines=1)
    pids: list[int] = []

    async def first() -> None:
        row = await room.until(lambda row: bool(row["progress_text"]), running)
        pids.append(int(row["progress_text"].split()[1]))

    async def second() -> None:
        await room.until(over, waiting)

    room.work(first)
    assert (room.row(running)["state"], room.row(waiting)["state"]) == ("interrupted", "queued")
    assert "ended" in room.row(running)["problem"]
    assert not alive(pids[0])
    room.work(second)
    assert (room.row(running)["state"], room.row(waiting)["state"]) == ("interrupted", "done")


def test_a_job_whose_process_died_with_its_host_is_called_interrupted(tmp_path: Path) -> None:
    room, now = Room(tmp_path, lease_s=60), 1_772_323_200_000
    number = room.submit("count", lines=1)
    with room.database.begin() as connection:
        taken = book.claim(connection, "jobs-dead", now)
        assert taken is not None
        assert taken["id"] == number
        assert book.claim(connection, "jobs-other", now) is None  # never two
    with room.database.begin() as connection:
        book.sweep(connection, now + 59_000, room.settings)
    assert room.row(number)["state"] == "running"
    with room.database.begin() as connection:
        book.sweep(connection, now + 61_000, room.settings)
        assert not book.finish(connection, "jobs-dead", number, now, "done")  # it comes back too late
    assert room.row(number)["state"] == "interrupted"
    assert "no sign of life" in room.row(number)["problem"]
    room.database.close()


def test_a_job_is_ended_when_it_takes_too_long(tmp_path: Path) -> None:
    room = Room(tmp_path, longest_h=0.0005)  # 1.8 s
    number = room.submit("silent")

    async def scenario() -> None:
        await room.until(over, number)

    room.work(scenario)
    assert (room.row(number)["state"], room.row(number)["problem"]) == ("failed", "not done within 0.0005 h")
    room.database.close()


def test_results_expire_and_their_files_go(tmp_path: Path) -> None:
    room = Room(tmp_path, keep_h=1e-7)
    number = room.submit("count", lines=1)
    upload = room.settings.folder / keep_upload(room.settings, b"of a job that never began")

    async def scenario() -> None:
        await room.until(over, number)

    async def swept() -> None:
        await room.until(lambda row: row["state"] == "expired", number)

    room.work(scenario)
    assert result_file(room.settings, number).exists()
    room.work(swept)
    assert not result_file(room.settings, number).exists()
    assert not upload.exists()
    room.database.close()


@pytest.mark.parametrize("where", ["sqlite", "postgresql"])
def test_two_runners_never_do_the_same_job(request: pytest.FixtureRequest, tmp_path: Path, where: str) -> None:
    room = Room(tmp_path, "" if where == "sqlite" else request.getfixturevalue("postgres_url"))
    numbers = [room.submit("count", WANG, lines=2) for _ in range(3)]

    async def scenario() -> None:
        other = asyncio.create_task(room.runner().run())
        for number in numbers:
            await room.until(over, number)
        other.cancel()
        with suppress(asyncio.CancelledError):
            await other

    room.work(scenario)
    assert [room.row(number)["state"] for number in numbers] == ["done"] * 3
    assert room.audited().count("job.done") == 3
    room.database.close()


def test_one_caller_cannot_fill_the_queue_and_sees_only_his_own(tmp_path: Path) -> None:
    room = Room(tmp_path, waiting_per_caller=2)
    mine = [room.submit("count", lines=1) for _ in range(2)]
    with pytest.raises(RefusedError, match="2 of your jobs"):
        room.submit("count", lines=1)
    other = room.submit("count", WANG, lines=1)
    with room.database.read() as connection:

        def seen(actor: Actor) -> list[int]:
            return [row["id"] for row in book.rows(connection, actor, state=None, kind=None, before=None, limit=9)]

        assert (seen(LI), seen(WANG), seen(ADMIN)) == (mine[::-1], [other], [other, *mine[::-1]])
        with pytest.raises(RefusedError, match="there is no job"):
            book.row_of(connection, LI, other)
    room.database.close()
