"""What clerks and approvers do by the forms of the pages, and what the pages refuse."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import sqlalchemy as sa

from api.jobs import book
from api.jobs.settings import JobSettings
from api.jobs.workshop import Workshop
from registry import billing as books
from registry.models import Installation
from registry.models_billing import BillingDelta, BillingTotal
from registry.models_books import OfficeRow
from registry.roles import Actor, Role
from tests.api.billing_world import END, PERIOD, ends, total
from tests.api.screens.people import Person, as_person, plain
from tests.api.world import World

JOBS = Actor("user:anybody", frozenset({Role.ADMIN}), areas=None)
UP2 = f"/billing/{PERIOD}/points/UP-2"


def jobs_of(world: World) -> list[dict[str, Any]]:
    with world.database.read() as connection:
        return book.rows(connection, JOBS, state=None, kind=None, before=None, limit=50)


def doubt(world: World) -> int:
    """UP-2 used too much, and UP-3 is missing behind it; return the version of the first."""
    with world.database.begin() as connection:
        version = books.next_version(connection)
        row = total("UP-2", state="doubtful", cause="large_use", **ends(), version=version)
        books.save_totals(connection, [row], [])
    return version


def version_of(world: World, point: str) -> list[int]:
    wanted = sa.select(BillingTotal.version).where(BillingTotal.usage_point_id == point)
    with world.database.read() as connection:
        return list(connection.execute(wanted).scalars())


def test_a_decision_leads_to_the_next_total_and_an_old_page_changes_nothing(world: World) -> None:
    version = doubt(world)

    async def work(li: Person) -> None:
        page = await li.look(f"{UP2}?district=north")
        assert "Accept" in page
        await li.post(f"{UP2}/decide", 403, kind="accept", version=version, csrf_token="x")
        said = await li.post(f"{UP2}/decide", 412, kind="accept", version=version - 1, note="looked at it")
        assert "Somebody or new data changed it meanwhile" in plain(said.text)
        said = await li.post(f"{UP2}/decide", 422, kind="accept", version=version, note="x" * 501)
        assert "longer than 500" in plain(said.text)
        answer = await li.post(f"{UP2}/decide", kind="accept", version=version, list="view=missing&bad=%00")
        assert answer.headers["location"] == f"/billing/{PERIOD}/points/UP-3?done=accept&of=UP-2"
        assert "UP-2: accepted." in await li.look(answer.headers["location"])
        said = await li.post(f"{UP2}/decide", 412, kind="reread", version=version)
        assert "large_use accepted by user:li2" in plain(said.text)
        page = await li.look(f"/billing/{PERIOD}/points/UP-3?view=missing")
        assert "Accept" not in page  # there is nothing to accept
        assert "Next" not in page
        (missing,) = version_of(world, "UP-3")
        said = await li.post(f"/billing/{PERIOD}/points/UP-3/decide", 409, kind="reread", version=missing)
        assert "has no total in 2026-02 that could be read again" in plain(said.text)

    as_person(world, "li2", Role.BILLING, work=work)


def test_a_manual_reading_waits_for_the_store_and_what_cannot_be_is_kept_for_correction(world: World) -> None:
    doubt(world)
    good: dict[str, Any] = {
        "read_at": "2026-02-19T23:00",
        "index": "990.25",
        "person": "Zhang <b>",
        "note": "slip 17",
        "meter": "",
    }

    async def work(li: Person) -> None:
        for wrong, words in (
            ({"index": "12,5"}, "12,5"),
            ({"index": "-1"}, "-1"),
            ({"index": "9" * 22}, "999"),
            ({"read_at": "yesterday"}, "no date and time"),
            ({"read_at": "2027-01-01T00:00"}, "entered after it was made"),
            ({"person": ""}, "names the person"),
            ({"meter": "G-0001"}, "name the meter that hung at UP-2"),
        ):
            said = await li.browser.post(f"{UP2}/readings", data={"csrf_token": li.token, **good, **wrong})
            assert said.status_code in (409, 422), wrong
            assert words in plain(said.text), (wrong, plain(said.text)[:900])
            assert 'value="slip 17"' in said.text
        answer = await li.post(f"{UP2}/readings", **good)
        assert answer.headers["location"].startswith(f"/billing/{PERIOD}/points/UP-3?")
        assert "990.25 · Zhang <b>" in await li.look(UP2)
        said = await li.post(f"/billing/{PERIOD}/points/UP-1/readings", 409, **good)
        assert "is closed; propose an adjustment" in plain(said.text)

    as_person(world, "li2", Role.BILLING, work=work)
    with world.database.read() as connection:
        (row,) = connection.execute(sa.select(OfficeRow.__table__).where(OfficeRow.meter == "W-0001"))
    assert (row.read_at, row.values, row.person) == (END - 3_600_000, {"volume": 990_250_000}, "Zhang <b>")


def test_long_work_is_queued_with_what_was_asked(world: World) -> None:
    async def work(li: Person) -> None:
        page = await li.look(f"/billing/{PERIOD}/close")
        assert "Write the two numbers" in page
        said = await li.post(f"/billing/{PERIOD}/close", 422, missing="one", doubtful="0", note="n<b>")
        assert "missing: write a whole number" in plain(said.text)
        assert 'value="n&lt;b&gt;"' in said.text
        answer = await li.post(f"/billing/{PERIOD}/close", missing="1", doubtful="0", note="", district="north")
        assert "waits" in await li.look(answer.headers["location"])
        await li.post(answer.headers["location"] + "/cancel")
        assert "cancelled" in await li.look(answer.headers["location"])
        said = await li.post(answer.headers["location"] + "/cancel", 409)
        assert "is cancelled already" in plain(said.text)
        await li.post(f"/billing/{PERIOD}/export", format="xlsx", state="billed", customer_class="", district="")
        await li.post(f"/billing/{PERIOD}/export", format="report-csv")
        await li.post(f"/billing/{PERIOD}/export", 422, format="exe")
        await li.post(f"/billing/{PERIOD}/refresh")
        await li.post(f"/billing/{PERIOD}/find-deltas", medium="gas")
        await li.post(f"/billing/{PERIOD}/reconcile", kind="scada")
        await li.post(f"/billing/{PERIOD}/reconcile", 422, kind="stars")
        await li.post(f"/billing/{PERIOD}/verify", close="1")
        await li.post(f"/billing/{PERIOD}/verify", 404, close="2")
        await li.post(f"/billing/{PERIOD}/refresh", 422, customer_class="kings")

    as_person(world, "li2", Role.BILLING, work=work)
    found = [(row["kind"], row["args"]) for row in reversed(jobs_of(world))][1:]
    scope = {"period": PERIOD, "customer_class": "", "medium": "", "district": ""}
    assert found[0] == ("billing.close", {**scope, "district": "north", "missing": 1, "doubtful": 0, "note": ""})
    filters = {"period": PERIOD, "state": "billed"}
    assert found[1] == ("billing.export", {"period": PERIOD, "format": "xlsx", "filters": filters})
    assert found[2] == ("billing.report", {"period": PERIOD, "format": "csv"})
    assert found[3:5] == [("billing.refresh", scope), ("billing.deltas", {**scope, "medium": "gas"})]
    assert found[5] == ("billing.reconcile", {"period": PERIOD, "kind": "scada", "district": ""})
    assert found[6] == ("billing.verify", {"period": PERIOD, "close": 1})


def test_a_file_is_taken_for_its_job_and_nothing_else_is(world: World, tmp_path: Path) -> None:
    world.app.state.house.workshop = Workshop(JobSettings(folder=tmp_path / "jobs"))

    async def work(li: Person) -> None:
        async def send(**more: Any) -> httpx.Response:
            data = {"csrf_token": li.token, "kind": "readings", **more.pop("data", {})}
            return await li.browser.post("/jobs/import", data=data, files={"file": ("../../x.csv", b"a,b\n")} | more)

        assert (await send()).status_code == 303
        assert "Choose a file" in plain((await send(data={"kind": "stars"})).text)
        assert "Choose a file" in plain((await send(file=("", b""))).text)
        assert (await send(data={"csrf_token": "x"})).status_code == 403

    as_person(world, "li2", Role.BILLING, work=work)
    args = jobs_of(world)[0]["args"]
    assert (args["kind"], args["name"]) == ("readings", "readings 2026-03-02T00:00")
    assert [(file.name, file.read_bytes()) for file in (tmp_path / "jobs").iterdir()] == [(args["upload"], b"a,b\n")]


def test_nobody_approves_his_own_proposal_and_a_rank_is_needed(world: World) -> None:
    with world.database.begin() as connection:
        connection.execute(sa.update(Installation).values(installed_at=0))

    async def propose(li: Person) -> None:
        path = f"/billing/{PERIOD}/points/UP-1"
        said = await li.post(f"{path}/adjust", 422, amount="many", cause="other", account="kept <i>")
        assert "many" in plain(said.text)
        assert 'value="kept &lt;i&gt;"' in said.text
        assert "must be one of the list" in plain((await li.post(f"{path}/adjust", 409, amount="1", cause="x")).text)
        answer = await li.post(f"{path}/adjust", amount="-3.5", cause="meter_test", account="ran fast")
        assert answer.headers["location"].startswith(f"{path}?")
        assert "it waits for approval" in await li.look(answer.headers["location"])
        page = await li.look("/billing/deltas/2")
        assert "You proposed it" in page
        assert "Approve" not in page
        said = await li.post("/billing/deltas/2/approve", 412, version="1", capacity="admin", word="approved")
        assert "changed it meanwhile" in plain(said.text)
        page = await li.look("/billing/deltas")
        assert "Delta 2 UP-1 2026-02 2026-03 -3.5 m³ meter test user:li2 administrator" in page

    as_person(world, "li2", Role.BILLING, Role.ADMIN, work=propose)
    with world.database.read() as connection:
        version = connection.execute(sa.select(BillingDelta.version).where(BillingDelta.id == 2)).scalar_one()

    async def approve(hu: Person) -> None:
        assert "ranks that you do not have" in await hu.look("/billing/deltas/2")
        said = await hu.post("/billing/deltas/2/approve", 403, version=version, capacity="admin", word="approved")
        assert "may not approve as admin" in plain(said.text)

    as_person(world, "hu", Role.APPROVER, work=approve)

    async def agree(wu: Person) -> None:
        await wu.post("/billing/deltas/2/approve", version=version, capacity="admin", word="approved", note="right")
        assert "administrator approved · user:wu" in await wu.look("/billing/deltas/2")

    as_person(world, "wu", Role.ADMIN, work=agree)


def test_a_closed_total_shows_no_decision_and_a_supervisor_does_not_close(world: World) -> None:
    async def work(chen: Person) -> None:
        page = await chen.look(f"/billing/{PERIOD}/points/UP-1")
        assert "Propose a refund" in page
        assert "Compute this total again" not in page
        page = await chen.look(f"/billing/{PERIOD}/close")
        assert "Close in the background" not in page
        await chen.post(f"/billing/{PERIOD}/close", 403, missing="1", doubtful="0")

    as_person(world, "chen", Role.SUPERVISOR, work=work)
