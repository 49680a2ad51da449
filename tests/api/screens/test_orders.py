"""The board and one order: what stands there, what each role can do, races, nasty names, 10,000 orders."""

from __future__ import annotations

import re
from typing import Any

import httpx
import pytest
import sqlalchemy as sa

from api.app import close
from api.orders.book import step
from api.orders.lifecycle import Deed, Step
from api.queries.order_board import OrderCounts, order_counts
from metering.errors import StoreError
from registry.models import UsagePoint
from registry.models_work_orders import FollowUp, WorkOrder
from registry.roles import Role, console
from tests.api.routes.test_pages import Tags
from tests.api.routes.test_screens import ENGLISH, EVIL
from tests.api.routes.test_screens import text as text_of
from tests.api.screens.order_pages import NOW, actions, dispatched, hidden, run, words
from tests.api.world import HOUR, World, make_key, make_world

# -- what stands there -------------------------------------------------------------------


def test_board_has_a_column_for_each_state_and_a_line_for_each_district(still: World) -> None:
    said = text_of(still, "/orders")
    assert "Open orders 2 Due within a day 0 overdue 0" in said
    assert "to be dispatched 1 as soon as possible Meter test 1 UP-1 · north" in said
    assert "on the way 1 as soon as possible Meter inspection 2 UP-2 · south" in said
    assert "north – 1 – – – – Page PDF" in said


def test_figures_of_the_overview_count_due_and_overdue_by_area(still: World) -> None:
    with still.database.read() as connection:
        promised = connection.execute(sa.select(sa.func.max(WorkOrder.due_at))).scalar_one()
        assert order_counts(connection, areas=None, now_ms=NOW) == OrderCounts(2, 0, 0, 0)
        # both are promised for the same moment: an hour before they are due, a second later overdue
        assert order_counts(connection, areas=None, now_ms=promised - HOUR) == OrderCounts(2, 2, 0, 0)
        assert order_counts(connection, areas=frozenset({"north"}), now_ms=promised + 1) == OrderCounts(1, 0, 1, 0)
        assert order_counts(connection, areas=frozenset(), now_ms=NOW) == OrderCounts(0, 0, 0, 0)


@pytest.mark.parametrize(
    ("query", "numbers"),
    [
        ("?view=list", {"1", "2"}),
        ("?state=dispatched", {"2"}),
        ("?view=list&district=north", {"1"}),
        ("?view=list&type=meter_test", {"1"}),
        ("?view=list&assignee=zhao", {"2"}),
        ("?view=list&priority=urgent", set()),
        ("?due=calls", {"1"}),
        ("?due=overdue", set()),
        ("?state=finished", set()),
        ("?mine=true", set()),
        ("?state=&type=&priority=&due=&district=&assignee=", {"1", "2"}),
    ],
)
def test_filters_narrow_and_empty_fields_do_not(still: World, query: str, numbers: set[str]) -> None:
    page = still.get(f"/orders{query}", headers=ENGLISH)
    assert page.status_code == 200
    assert set(re.findall(r'id="order-(\d+)"', page.text)) == numbers


def test_one_order_shows_the_case_in_the_language_of_the_page(still: World) -> None:
    said = text_of(still, "/orders/1")
    for wanted in (
        "Meter test 1 UP-1", "customer asks for a test", "1 Hill <b>Road</b>", "Serial SN100%",
        "No raw frames kept", "opened to be dispatched", "Receipts and photos",
    ):  # fmt: skip
        assert wanted in said, wanted
    assert "校表：customer asks for a test" in still.get("/orders/1", headers={"accept-language": "zh"}).text
    assert still.get("/orders/999", headers=ENGLISH).status_code == 404


def test_bars_stand_where_the_readings_are_and_gaps_have_none(still: World) -> None:
    page = still.get("/orders/1", headers=ENGLISH).text
    # hourly readings of a whole day, half a cubic metre an hour: 23 differences, all as high as the picture
    bars = re.findall(r'<rect x="([\d.]+)" y="([\d.]+)"[^>]*><title>([^<]*)', page)
    hours = [bar for bar in bars if ":" in bar[2]]
    assert len(hours) == 23
    assert {bar[1] for bar in hours} == {"0.0"}
    assert hours[0][2] == "2026-03-01 01:00 · 0.5 m3"


def test_a_worker_sees_his_own_orders_alone(world: World) -> None:
    async def scenario(browser: httpx.AsyncClient, token: str) -> None:
        assert (await browser.get("/orders/1")).status_code == 404
        board = await browser.get("/orders")
        assert "My orders" in board.text
        assert "UP-1" not in board.text
        dispatched(world, 1, "worker")
        assert "UP-1" in (await browser.get("/orders")).text
        assert "UP-2" not in (await browser.get("/orders?view=list&state=")).text
        assert actions((await browser.get("/orders/1")).text) == {
            f"/orders/1/{deed}" for deed in ("arrive", "receipt", "photos", "note")
        }

    run(world, scenario, "worker")


@pytest.mark.parametrize(
    ("role", "first", "second"),
    [
        ("viewer", set(), set()),
        ("billing", set(), set()),
        ("operator", {"call", "note"}, {"note"}),
        (
            "dispatcher",
            {"dispatch", "extend", "cancel", "call", "note"},
            {"arrive", "receipt", "dispatch", "extend", "recall", "cancel", "photos", "note"},
        ),
        (
            "supervisor",
            {"dispatch", "extend", "cancel", "void", "call", "note"},
            {"arrive", "receipt", "dispatch", "extend", "recall", "cancel", "void", "photos", "note"},
        ),
    ],
)
def test_forms_are_those_that_state_and_role_permit(
    world: World, role: str, first: set[str], second: set[str]
) -> None:
    async def scenario(browser: httpx.AsyncClient, token: str) -> None:
        for number, wanted in ((1, first), (2, second)):
            page = (await browser.get(f"/orders/{number}")).text
            assert actions(page) == {f"/orders/{number}/{deed}" for deed in wanted}, number
        for deed in {"dispatch", "void", "note"} - first:
            answer = await browser.post(f"/orders/1/{deed}", data={"csrf_token": token, "version": "2", "note": "x"})
            assert answer.status_code == 403, deed

    run(world, scenario, role)


# -- what people do ----------------------------------------------------------------------


def test_dispatcher_sends_a_crew_extends_and_notes(world: World) -> None:
    async def scenario(browser: httpx.AsyncClient, token: str) -> None:
        page = (await browser.get("/orders/1")).text
        assert re.findall(r'<option value="([^"]+)">\1 ', page) == ["crew-1", "qian", "sun", "zhao"]
        form = {"csrf_token": token, "version": hidden(page, "version"), "seen": hidden(page, "seen")}
        nobody = await browser.post("/orders/1/dispatch", data={**form, "note": "quick"})
        assert (nobody.status_code, "Choose a worker or a team." in nobody.text) == (422, True)
        assert ">quick</textarea>" in nobody.text
        answer = await browser.post("/orders/1/dispatch", data={**form, "assignee": "crew-1", "note": "key at no. 4"})
        assert (answer.status_code, answer.headers["location"]) == (303, "/orders/1")
        page = (await browser.get("/orders/1")).text
        assert "→ crew-1" in words(page)
        assert "key at no. 4" in page
        form |= {"version": hidden(page, "version")}
        answer = await browser.post(
            "/orders/1/extend", data={**form, "appointment_at": "2026-03-20T09:30", "note": "on holiday"}
        )
        assert answer.status_code == 303
        assert "Appointment 2026-03-20 09:30" in words((await browser.get("/orders/1")).text)
        await browser.post("/orders/1/note", data={**form, "note": "called <b>back</b>"})
        assert "called &lt;b&gt;back" in (await browser.get("/orders/1")).text

    run(world, scenario, "dispatcher")


def test_a_lost_race_shows_who_did_what_and_keeps_what_was_typed(world: World) -> None:
    async def scenario(browser: httpx.AsyncClient, token: str) -> None:
        page = (await browser.get("/orders/1")).text
        form = {"csrf_token": token, "version": hidden(page, "version"), "seen": hidden(page, "seen")}
        dispatched(world, 1, "crew-1")
        lost = await browser.post(
            "/orders/1/dispatch", data={**form, "assignee": "zhao", "note": "he knows the house"}
        )
        assert lost.status_code == 412
        said = words(lost.text)
        assert "Somebody was faster" in said
        assert "dispatched console:test → crew-1" in said
        assert ">he knows the house</textarea>" in lost.text
        assert '<option value="zhao" selected' in lost.text
        # the form has the new version now: sending it again is a decision
        again = await browser.post(
            "/orders/1/dispatch", data={**form, "version": hidden(lost.text, "version"), "assignee": "zhao"}
        )
        assert again.status_code == 303

    run(world, scenario, "dispatcher")


def test_what_was_typed_stays_readable_when_the_step_is_not_possible_any_more(world: World) -> None:
    async def scenario(browser: httpx.AsyncClient, token: str) -> None:
        page = (await browser.get("/orders/1")).text
        form = {"csrf_token": token, "version": hidden(page, "version"), "seen": hidden(page, "seen")}
        with world.database.begin() as connection:
            step(connection, console("boss"), 1, Step(Deed.VOID, note="twice"), now_ms=NOW)
        lost = await browser.post("/orders/1/cancel", data={**form, "note": "moved away in May"})
        said = words(lost.text)
        assert "voided console:boss twice" in said
        assert "What you had typed Note moved away in May" in said

    run(world, scenario, "dispatcher")


# -- bad content, much content, no content -----------------------------------------------


def test_whatever_stands_in_an_order_is_text_and_never_markup(world: World) -> None:
    with world.database.begin() as connection:
        hostile = {"reason_en": EVIL, "reason_zh": EVIL, "district": EVIL[:60], "assignee": EVIL[:60]}
        connection.execute(sa.update(WorkOrder).values(**hostile, place="名" * 96))
        connection.execute(sa.update(UsagePoint).values(address="名" * 250 + EVIL))
        connection.exec_driver_sql("UPDATE work_order_step SET note = ?, actor = ?", (EVIL, EVIL[:60]))
        connection.execute(sa.update(FollowUp).values(note=EVIL, asked_by=EVIL[:60], asked_at=NOW, satisfied=True))
    for path in ("/orders", "/orders?view=list", "/orders/1", "/orders/new?usage_point=%3Cscript%3E"):
        answer = world.get(path)
        assert answer.status_code == 200, path
        page = Tags(answer.text)
        scripts = [str(attributes.get("src")) for tag, attributes in page.tags if tag == "script"]
        assert all(address.startswith("/assets/") for address in scripts)
        assert not [a for _, a in page.tags if any(name.startswith("on") or name == "style" for name in a)]


def test_ten_thousand_orders_come_in_pages_by_their_deadline(world: World) -> None:
    table = WorkOrder.__table__
    with world.database.begin() as connection:
        row = dict(connection.execute(sa.select(table).where(table.c.id == 1)).mappings().one())
        rows = [
            row | {"id": n, "place": f"P-{n}", "open_key": f"P-{n}|meter_test", "external_id": None,
                   "due_at": NOW + (5000 - n) * 1000}
            for n in range(10, 10_010)
        ]  # fmt: skip
        connection.execute(sa.insert(WorkOrder), rows)
    board = world.get("/orders", headers=ENGLISH)
    assert len(board.content) < 100_000
    assert "to be dispatched 10001" in words(board.text)
    first = world.get("/orders?view=list", headers=ENGLISH).text
    numbers = re.findall(r'id="order-(\d+)"', first)
    assert (len(numbers), numbers[0]) == (100, "10009")  # the one that was due first
    following = next(a["href"] for t, a in Tags(first).tags if t == "a" and a.get("rel") == "next")
    second = re.findall(r'id="order-(\d+)"', world.get(str(following), headers=ENGLISH).text)
    assert (len(second), second[0]) == (100, str(int(numbers[-1]) - 1))


def test_an_empty_house_has_a_board(tmp_path_factory: pytest.TempPathFactory) -> None:
    world = make_world(tmp_path_factory.mktemp("empty"), filled=False)
    assert "No order." in text_of(world, "/orders")
    assert world.get("/orders/1", headers=ENGLISH).status_code == 404
    world.close()


class _Away:
    """A store that cannot be read."""

    def __getattr__(self, name: str) -> Any:
        def fails(*_: object, **__: object) -> Any:
            raise StoreError("the disk is away")

        return fails


def test_registry_or_store_away_is_said_and_the_rest_is_shown(tmp_path_factory: pytest.TempPathFactory) -> None:
    world = make_world(tmp_path_factory.mktemp("away"), store=_Away())
    said = text_of(world, "/orders/1")
    assert "the disk is away" in said
    assert "customer asks for a test" in said
    with world.database.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE work_order RENAME TO away")
    for path in ("/orders", "/orders/1"):
        assert "no such table" in text_of(world, path), path
    close(world.app)
    world.database.close()


def test_areas_limit_the_board(world: World) -> None:
    key = make_key(world.database, Role.DISPATCHER, areas=frozenset({"south"}))
    said = text_of(world, "/orders", authorization=f"Bearer {key}")
    assert "UP-2" in said
    assert "UP-1" not in said
    answer = world.get("/orders/1", headers={**ENGLISH, "authorization": f"Bearer {key}"})
    assert answer.status_code == 404


def test_slips_form_drops_its_empty_fields(still: World) -> None:
    answer = still.get("/orders/slips?date=2026-03-02&district=&worker=zhao&format=pdf")
    assert answer.headers["location"] == "/api/v1/work-orders/slips?date=2026-03-02&worker=zhao&format=pdf"
    assert still.get(answer.headers["location"]).content.startswith(b"%PDF")
