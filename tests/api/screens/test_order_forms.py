"""What people send about work orders: receipts with photos, follow-up calls, orders by hand, and bad input."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import httpx
import pytest
import sqlalchemy as sa

from api.orders.photos import MAX_BYTES
from registry.models_work_orders import Photo, Receipt
from tests.api.orders_world import png
from tests.api.routes.test_screens import ENGLISH
from tests.api.screens.order_pages import ARRIVED, actions, dispatched, enter, hidden, multipart, run, words
from tests.api.world import HOUR, T0, World, client, make_world


@asynccontextmanager
async def before_order_1(world: World, cookies: httpx.Cookies) -> AsyncIterator[tuple[httpx.AsyncClient, str]]:
    """The browser of whoever has these cookies, and the page of the first order in it."""
    async with client(world.app, "") as browser:
        browser.headers.update(ENGLISH)
        browser.cookies = cookies
        yield browser, (await browser.get("/orders/1")).text


def receipt_form(page: str, token: str, **more: str) -> dict[str, str]:
    form = {"csrf_token": token, "version": hidden(page, "version"), "seen": hidden(page, "seen")}
    return {**form, "result": "passed", "label": "true", "arrived_at": ARRIVED, "note": "", **more}


def test_worker_arrives_and_files_a_receipt_with_a_photo_once(world: World) -> None:
    dispatched_to_him = {"started_at": "2026-03-01T23:35", "finished_at": "2026-03-01T23:50", "index_seen": "1012.5"}

    async def scenario(browser: httpx.AsyncClient, token: str) -> None:
        dispatched(world, 1, "worker")
        page = (await browser.get("/orders/1")).text
        form = {"csrf_token": token, "version": hidden(page, "version"), "seen": hidden(page, "seen")}
        assert (await browser.post("/orders/1/arrive", data=form)).status_code == 303
        page = (await browser.get("/orders/1")).text
        typed = receipt_form(
            page, token, **dispatched_to_him, material_1="gasket", count_1="2", amount="12.50", note="tight again"
        )
        for _ in range(2):  # a telephone without a connection sends it again
            answer = await browser.post("/orders/1/receipt", **multipart(typed, png(7)))
            assert (answer.status_code, answer.headers["location"]) == (303, "/orders?done=receipt")
        said = words((await browser.get("/orders/1")).text)
        for wanted in ("finished · passed", "Index seen 1012.5 m³", "gasket 2", "12.50", "tight again"):
            assert wanted in said
        with world.database.read() as connection:
            assert connection.execute(sa.select(sa.func.count()).select_from(Receipt)).scalar() == 1
            row = connection.execute(sa.select(Receipt)).one()
            assert (row.worker, row.index_seen, row.label) == ("worker", {"volume_standard": 1_012_500_000}, "true")
            assert row.arrived_at == T0 + 23 * HOUR + HOUR // 2
            photos = connection.execute(sa.select(Photo.visit, Photo.taken_by).where(Photo.id > 1)).all()
            assert [tuple(photo) for photo in photos] == [(1, "user:worker")]

    run(world, scenario, "worker")


@pytest.mark.parametrize(
    ("typed", "status", "said"),
    [
        ({"result": ""}, 422, "Choose a result."),
        ({"result": "not_passed"}, 422, "Every result but passed needs a note"),
        ({"label": "maybe"}, 422, "from the list"),
        ({"arrived_at": ""}, 422, "Enter when you arrived."),
        ({"arrived_at": "2026-13-01T00:00"}, 422, "Arrived: this is no date and time."),
        ({"arrived_at": "2026-02-01T00:00"}, 422, "Arrived: this lies before the step before it"),
        ({"arrived_at": "2026-03-02T00:06"}, 422, "Arrived: this lies in the future."),
        ({"finished_at": "2026-03-01T23:29"}, 422, "Finished: this lies before the step before it"),
        ({"index_seen": "12x"}, 422, "no number of a meter"),
        ({"index_seen": "-1"}, 422, "no number of a meter"),
        ({"material_1": "gasket"}, 422, "Materials need a name"),
        ({"material_1": "gasket", "count_1": "9" * 20}, 422, "Materials need a name"),
        ({"amount": "1e9"}, 422, "no amount"),
        ({"note": "a\x00b"}, 422, "signs that cannot be kept"),
        ({"note": "n" * 2001}, 422, "longer than 2000"),
        ({"worker": "qian"}, 403, "This is not yours to do."),
        ({"version": "x"}, 422, "old or broken"),
        ({"version": "1"}, 412, "Somebody was faster"),
    ],
)
def test_a_receipt_that_cannot_be_taken_says_why_and_changes_nothing(
    shared: tuple[World, httpx.Cookies, str], typed: dict[str, str], status: int, said: str
) -> None:
    world, cookies, token = shared

    async def scenario() -> None:
        async with before_order_1(world, cookies) as (browser, page):
            form = receipt_form(page, token, **{"started_at": "2026-03-01T23:31", "amount": "7"} | typed)
            answer = await browser.post("/orders/1/receipt", **multipart(form, png(9)))
            assert (answer.status_code, said in words(answer.text)) == (status, True), words(answer.text)[:600]
            assert 'name="started_at" value="2026-03-01T23:31"' in answer.text

    asyncio.run(scenario())
    with world.database.read() as connection:
        assert connection.execute(sa.select(sa.func.count()).select_from(Receipt)).scalar() == 0
        assert connection.execute(sa.select(sa.func.count()).select_from(Photo)).scalar() == 1


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[World, httpx.Cookies, str]]:
    """Order 1 is dispatched to a worker who is logged in; nothing that is refused changes it."""
    world = make_world(tmp_path_factory.mktemp("worker"))

    browser = client(world.app, "")
    token = enter(browser, world, "worker")
    dispatched(world, 1, "worker")
    yield world, browser.cookies, token
    world.close()


@pytest.mark.parametrize(
    ("photo", "status"), [(b"GIF89a" * 20, 422), (b"\xff\xd8\xff cut", 422), (b"x" * (MAX_BYTES + 70_000), 413)]
)
def test_a_photo_that_is_none_or_too_large_is_refused(
    shared: tuple[World, httpx.Cookies, str], photo: bytes, status: int
) -> None:
    world, cookies, token = shared

    async def scenario() -> None:
        async with before_order_1(world, cookies) as (browser, page):
            answer = await browser.post("/orders/1/receipt", **multipart(receipt_form(page, token), photo))
            assert answer.status_code == status
            form = {"csrf_token": token, "version": "1", "seen": "1"}
            assert (await browser.post("/orders/1/photos", **multipart(form, photo))).status_code == status
            assert (await browser.post("/orders/1/photos", **multipart(form, None))).status_code == 422
            foreign = await browser.post("/orders/1/photos", **multipart({"csrf_token": "guessed"}, png()))
            assert foreign.status_code == 403

    asyncio.run(scenario())


def test_follow_up_is_answered_and_not_by_whoever_did_the_work(world: World) -> None:
    async def scenario(browser: httpx.AsyncClient, token: str) -> None:
        form = {"csrf_token": token, "version": "2", "seen": "1"}
        assert "is satisfied" in (await browser.post("/orders/1/call", data=form)).text
        answer = await browser.post("/orders/1/call", data={**form, "satisfied": "false", "note": "still smells"})
        assert answer.status_code == 303
        page = (await browser.get("/orders/1")).text
        assert "not satisfied user:operator still smells" in words(page)
        assert "/orders/1/call" not in actions(page)
        twice = await browser.post("/orders/1/call", data={**form, "satisfied": "true"})
        assert (twice.status_code, "has called already" in twice.text) == (409, True)

    run(world, scenario, "operator")


def test_an_order_is_opened_by_hand_and_a_second_one_joins_it(world: World) -> None:
    async def scenario(browser: httpx.AsyncClient, token: str) -> None:
        assert 'value="UP-3"' in (await browser.get("/orders/new?usage_point=UP-3")).text
        form = {"csrf_token": token, "usage_point": "UP-3", "type": "seal", "priority": "wait", "reason": "moved out"}
        for bad in (
            {"usage_point": ""}, {"usage_point": "UP-999"}, {"reason": ""}, {"type": "tea"}, {"priority": "x"},
            {"deadline": "5 moons"},
        ):  # fmt: skip
            refused = await browser.post("/orders", data={**form, **bad})
            assert refused.status_code == 422, bad
            assert 'id="refused"' in refused.text
            assert bad == {"reason": ""} or ">moved out</textarea>" in refused.text
        made = await browser.post("/orders", data={**form, "deadline": "6 h"})
        assert made.headers["location"] == "/orders/3"
        joined = await browser.post("/orders", data={**form, "priority": "urgent"})
        assert joined.headers["location"] == "/orders/3"
        assert "urgent" in words((await browser.get("/orders/3")).text)

    run(world, scenario, "operator")


def test_what_was_done_by_forms_stands_in_the_audit(world: World) -> None:
    async def scenario(browser: httpx.AsyncClient, token: str) -> None:
        form = {"csrf_token": token, "version": "2", "seen": "2", "note": "a line"}
        assert (await browser.post("/orders/1/note", data=form)).status_code == 303

    run(world, scenario, "operator")
    with world.database.read() as connection:
        rows = connection.execute(sa.text("SELECT actor FROM audit WHERE action = 'work_order.note'")).all()
        assert [row.actor for row in rows] == ["user:operator"]
