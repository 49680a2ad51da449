"""Billing in the background: a close is done as a whole or not at all, wherever its process dies."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import Connection

from api.billing.keep import refresh
from api.billing.settings import BillingSettings
from api.jobs import billing, book, imports
from api.jobs.kinds import KINDS, kind_named
from api.jobs.runner import JobRunner
from api.jobs.words import JobError, Materials, Work
from ingest.store_sqlite import SqliteStore
from metering.clock import SystemClock
from registry.models_billing import BillingClose, BillingTotal
from registry.models_books import OfficeRow
from registry.refusals import RefusedError
from registry.roles import Actor, Role
from tests.api.billing.town import M, add_place, at, deliver, readings
from tests.api.jobs.test_runner import DEADLINE_S, Room

CLERK = Actor("user:li", frozenset({Role.BILLING}), areas=None)
VIEWER = Actor("user:zhao", frozenset({Role.VIEWER}), areas=None)
SCOPE = {"period": "2026-03", "customer_class": "", "medium": "", "district": ""}
CLOSE = {**SCOPE, "missing": 0, "doubtful": 0, "note": "March"}
NOW = at("2026-03-25T09:00")
DAY_S = 86_400


@pytest.fixture
def room(tmp_path: Path) -> Iterator[Room]:
    """Two households with a reading a day from 10 February to 25 March, one m³ a day."""
    made = Room(tmp_path)
    made.store = partial(SqliteStore, tmp_path / "readings.db", mode="read")
    writer = SqliteStore(tmp_path / "readings.db", mode="write")
    for point in ("P1", "P2"):
        add_place(made.database, point, interval_s=DAY_S, district="north")
        rows = readings(f"M-{point}", at("2026-02-10T00:00"), [(1000 + n) * M for n in range(44)], step=DAY_S * 1000)
        deliver(made.database, writer, rows)
    writer.close()
    yield made
    made.database.close()


def claim(room: Room, kind: str, actor: Actor, args: Mapping[str, Any]) -> dict[str, Any]:
    """Queue a job and take it as a runner would."""
    with room.database.begin() as connection:
        book.submit(connection, actor, kind, args, title="", now_ms=NOW, settings=room.settings)
        row = book.claim(connection, "jobs-test", NOW)
    assert row is not None
    return row


def do(room: Room, kind: str, args: Mapping[str, Any], actor: Actor = CLERK) -> tuple[dict[str, Any], Work]:
    """Do a job in this process; its number is in the second."""
    row = claim(room, kind, actor, args)
    said: list[tuple[int, str]] = []
    settle = partial(book.settle, holder="jobs-test", number=row["id"])
    store = room.store()
    room.settings.folder.mkdir(parents=True, exist_ok=True)
    job = Work(
        row["id"], dict(args), actor, NOW, room.database, store, Materials(room.url, room.store),
        room.settings.folder / f"job-{row['id']}.part", lambda percent, text: said.append((percent, text)), settle,
    )  # fmt: skip
    try:
        return kind_named(kind, {})(job), job
    finally:
        store.close()
        assert all(0 <= percent <= 100 for percent, _ in said)


def closed(room: Room) -> tuple[int, int]:
    """(closes, frozen totals)."""
    with room.database.read() as connection:
        count = sa.select(sa.func.count())
        frozen = connection.execute(count.select_from(BillingTotal).where(BillingTotal.close_id.is_not(None)))
        return connection.execute(count.select_from(BillingClose)).scalar_one(), frozen.scalar_one()


def test_every_kind_of_job_names_a_function_that_exists() -> None:
    assert all(callable(kind_named(kind, {})) for kind in KINDS)


def test_a_close_freezes_everything_and_its_job_is_done_in_the_same_moment(room: Room) -> None:
    outcome, job = do(room, billing.CLOSE, CLOSE)
    assert (outcome["close"], outcome["totals"]) == (1, 2)
    assert closed(room) == (1, 2)
    row = room.row(job.number)
    assert (row["state"], row["outcome"]) == ("running", outcome)  # its process has not said it yet
    with pytest.raises(RefusedError, match="done already"):
        room.cancel(job.number, CLERK)
    with room.database.begin() as connection:  # and dies before it does
        assert book.finish(connection, "jobs-test", job.number, NOW + 1, "failed", problem="code 9")
    row = room.row(job.number)
    assert (row["state"], row["problem"], row["outcome"]) == ("done", "", outcome)


def test_a_host_that_dies_behind_the_close_leaves_a_job_that_is_done(room: Room) -> None:
    _, job = do(room, billing.CLOSE, CLOSE)
    with room.database.begin() as connection:
        book.sweep(connection, NOW + 3_600_000, room.settings)
    assert room.row(job.number)["state"] == "done"


def test_a_close_that_was_cancelled_meanwhile_closes_nothing(room: Room) -> None:
    row = claim(room, billing.CLOSE, CLERK, CLOSE)
    room.cancel(row["id"], CLERK)
    with pytest.raises(RefusedError, match="ended before"), room.database.begin() as connection:
        book.settle(connection, {}, holder="jobs-test", number=row["id"])
    with room.database.begin() as connection:
        assert book.finish(connection, "jobs-test", row["id"], NOW, "cancelled")
    assert room.row(row["id"])["state"] == "cancelled"


def test_numbers_that_nobody_saw_and_people_who_may_not_close_nothing(room: Room) -> None:
    with pytest.raises(RefusedError, match="confirmed were 1 and 0"):
        do(room, billing.CLOSE, {**CLOSE, "missing": 1})
    with pytest.raises(RefusedError, match="closed by billing"):
        do(room, billing.CLOSE, CLOSE, VIEWER)
    assert closed(room) == (0, 0)


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_process_that_dies_around_the_commit_leaves_all_or_nothing(room: Room, moment: str) -> None:
    kinds = {"test.close": f"tests.api.jobs.test_billing:die_{moment}"}
    runner = JobRunner(room.settings, room.database, Materials(room.url, room.store, kinds=kinds), SystemClock())
    with room.database.begin() as connection:
        number = book.submit(connection, CLERK, "test.close", CLOSE, title="", now_ms=NOW, settings=room.settings)

    async def scenario() -> None:
        task = asyncio.create_task(runner.run())
        end = SystemClock().monotonic() + DEADLINE_S
        while (await asyncio.to_thread(room.row, number))["state"] in book.ALIVE:
            assert SystemClock().monotonic() < end
            await asyncio.sleep(0.02)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(scenario())
    state, problem = room.row(number)["state"], room.row(number)["problem"]
    if moment == "before":
        assert (state, problem, closed(room)) == ("failed", "its process ended with code 9", (0, 0))
    else:
        assert (state, problem, closed(room)) == ("done", "", (1, 2))


def die_before(job: Work) -> dict[str, Any]:
    """A close whose process dies in its transaction, one line before the commit."""
    settle = job.settle

    def last_line(connection: Connection, facts: Mapping[str, Any]) -> None:
        settle(connection, facts)
        os._exit(9)

    job.settle = last_line
    return billing.close_job(job)


def die_after(job: Work) -> dict[str, Any]:
    """A close whose process dies one line behind the commit."""
    billing.close_job(job)
    os._exit(9)


def test_totals_become_a_file_with_the_rows_of_the_callers_districts(room: Room) -> None:
    refresh(room.database, room.store(), BillingSettings(), "2026-03", now=NOW)
    args = {"period": "2026-03", "format": "csv", "filters": {"period": "2026-03", "state": "billed"}}
    outcome, job = do(room, billing.EXPORT, args)
    lines = job.result.read_text("utf-8").splitlines()
    assert (outcome, job.named) == ({"totals": 2}, ("totals-2026-03.csv", "text/csv"))
    # 20 February to 20 March: 28 days of one m³
    assert [line.split(",")[1] for line in lines[1:]] == ["P1", "P2"]
    assert all(",28," in line for line in lines[1:])
    elsewhere = Actor("user:hu", frozenset({Role.BILLING}), areas=frozenset({"south"}))
    outcome, job = do(room, billing.EXPORT, args, elsewhere)
    assert outcome == {"totals": 0}
    assert len(job.result.read_text("utf-8").splitlines()) == 1


def test_the_reading_report_says_the_read_rate(room: Room) -> None:
    refresh(room.database, room.store(), BillingSettings(), "2026-03", now=NOW)
    outcome, job = do(room, billing.REPORT, {"period": "2026-03", "format": "html"})
    assert outcome == {"due": 2, "read": 2, "rate": "100.00"}
    assert "Monthly reading report" in job.result.read_text("utf-8")


def test_a_close_is_proved_and_deltas_are_looked_for(room: Room) -> None:
    do(room, billing.CLOSE, CLOSE)
    assert do(room, billing.VERIFY, {"period": "2026-03", "close": 1})[0]["unchanged"] is True
    assert do(room, billing.DELTAS, SCOPE)[0] == {"deltas": 0}
    assert do(room, billing.REFRESH, SCOPE)[0]["changed"] == 0
    with room.database.begin() as connection:
        connection.execute(sa.update(BillingTotal).where(BillingTotal.usage_point_id == "P2").values(consumption=1))
    outcome, _ = do(room, billing.VERIFY, {"period": "2026-03", "close": 1})
    assert (outcome["unchanged"], outcome["wrong"][0]) == (
        False,
        "the total of P2 is not the one that was closed",
    )


def test_a_file_of_readings_is_looked_at_and_posted_once_as_a_whole(room: Room) -> None:
    text = "meter,index,read_at\nM-P1,1050,2026-03-24 08:00\nM-P2,x,2026-03-24 08:00\n"
    upload = imports.keep_upload(room.settings, text.encode("gbk"))
    args = {"kind": "readings", "upload": upload, "name": "list", "district": ""}
    seen, _ = do(room, imports.PREVIEW, args)
    assert (seen["batch"], seen["ok"], seen["bad"]) == (1, 1, 1)
    assert not (room.settings.folder / upload).exists()
    with pytest.raises(JobError, match="send it again"):
        do(room, imports.PREVIEW, args)
    post = {"batch": 1, "accept_doubtful": False, "leave_bad": False, "note": ""}
    with pytest.raises(JobError, match="1 rows cannot be used"):
        do(room, imports.POST, post)
    outcome, job = do(room, imports.POST, {**post, "leave_bad": True})
    assert outcome == {"batch": 1, "rows": 1} == room.row(job.number)["outcome"]
    with room.database.read() as connection:
        assert connection.execute(sa.select(OfficeRow.meter)).scalars().all() == ["M-P1"]
    with pytest.raises(JobError, match="posted already"):
        do(room, imports.POST, {**post, "leave_bad": True})


def test_a_file_that_is_no_table_says_so(room: Room) -> None:
    upload = imports.keep_upload(room.settings, hashlib.sha256(b"x").digest() * 99)
    with pytest.raises(JobError, match="cannot be used"):
        do(room, imports.PREVIEW, {"kind": "exchanges", "upload": upload, "name": "list", "district": ""})
