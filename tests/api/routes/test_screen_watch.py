"""What the control room does on its pages by plain forms: many alarms at once, out of service, the shift log."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace

import httpx
import pytest

from api.screens import frame
from api.screens.alarm_forms import moment_of
from api.screens.alarm_rate_chart import rate_chart
from api.screens.assets import Asset
from registry import findings
from registry.findings_rate import rate_series
from registry.roles import Role
from tests.api import findings_world
from tests.api.routes.test_pages import Tags
from tests.api.routes.test_screens import ENGLISH, log_in, text
from tests.api.world import HOUR, T0, World, client, make_key

NOW = T0 + 24 * HOUR
MINUTE = 60_000


def as_operator(world: World, walk: Callable[[httpx.AsyncClient, str], Awaitable[None]]) -> None:
    """Let a logged-in operator do something."""

    async def scenario() -> None:
        async with client(world.app, "") as browser:
            token = await log_in(browser, world, "operator")
            browser.headers.update(ENGLISH)
            await walk(browser, token)

    asyncio.run(scenario())


def new_alarms(world: World, *names: str) -> None:
    found = [replace(findings_world.leak(NOW), key=f"new:{name}", district="north") for name in names]
    with world.database.begin() as connection:
        findings.record(connection, found, now_ms=NOW)


def states(world: World) -> dict[str, str]:
    with world.database.read() as connection:
        rows = connection.exec_driver_sql("SELECT key, state FROM finding")
        return {row.key: row.state for row in rows}


def test_all_alarms_that_are_ticked_are_acknowledged_at_once(world: World) -> None:
    new_alarms(world, "a", "b", "c")

    async def walk(browser: httpx.AsyncClient, token: str) -> None:
        page = Tags((await browser.get("/alarms")).text)
        boxes = [a["value"] for tag, a in page.tags if tag == "input" and a.get("name") == "pick"]
        assert len(boxes) >= 5  # every one that waits for it has a box
        form = {"csrf_token": token, "back": "/alarms", "note": "seen together", "pick": boxes[:2]}
        answer = await browser.post("/alarms/acknowledge", data=form)
        assert (answer.status_code, answer.headers["location"]) == (303, "/alarms")
        again = await browser.post("/alarms/acknowledge", data=form)
        assert again.headers["location"] == "/alarms?refused=some"
        none = await browser.post("/alarms/acknowledge", data={**form, "pick": []})
        assert none.headers["location"] == "/alarms?refused=nothing"
        assert "Tick at least one alarm." in (await browser.get(none.headers["location"])).text
        assert (await browser.post("/alarms/acknowledge", data={**form, "pick": "x"})).status_code == 422

    as_operator(world, walk)
    after = states(world)
    assert (after["new:c"], after["new:b"], after["new:a"]) == ("ACKED", "ACKED", "UNACK")


def test_out_of_service_needs_an_end_and_a_reason_and_keeps_what_was_typed(world: World) -> None:
    async def walk(browser: httpx.AsyncClient, token: str) -> None:
        form = {"csrf_token": token, "back": "/alarms/1", "note": "sensor in the <workshop>"}
        for until in ("2020-01-01T00:00", "", "9999"):
            refused = await browser.post("/alarms/1/out-of-service", data={**form, "until": until})
            assert refused.status_code == 422
            assert "must lie ahead" in refused.text
            assert 'value="sensor in the &lt;workshop&gt;"' in refused.text
            assert 'name="back" value="/alarms/1"' in refused.text  # to switch the language leads to a page
        until = "2026-03-03T08:00"
        refused = await browser.post("/alarms/1/out-of-service", data={**form, "until": until, "note": " "})
        assert "Give a reason" in refused.text
        assert f'value="{until}"' in refused.text
        answer = await browser.post("/alarms/1/out-of-service", data={**form, "until": until})
        assert answer.headers["location"] == "/alarms/1"
        page = (await browser.get("/alarms/1")).text
        assert "out of service" in page
        assert "2026-03-03 08:00:00" in page
        assert "/alarms/1/return" in page
        await browser.post("/alarms/1/return", data=form)
        assert "not acknowledged" in (await browser.get("/alarms/1")).text

    as_operator(world, walk)


def test_the_end_is_told_by_the_citys_clock() -> None:
    # 08:00 in Shanghai is midnight UTC
    assert moment_of("2026-03-02T08:00", "Asia/Shanghai", now_ms=T0, longest_h=24) == T0 + 24 * HOUR
    assert moment_of("2026-03-02T08:01", "Asia/Shanghai", now_ms=T0, longest_h=24) is None
    assert moment_of("2026-03-01T08:00", "Asia/Shanghai", now_ms=T0, longest_h=24) is None
    assert moment_of("tomorrow", "UTC", now_ms=T0, longest_h=24) is None


def test_alarms_per_ten_minutes_stand_beside_the_published_limits(world: World) -> None:
    new_alarms(world, *"abcdefghij")
    with world.database.read() as connection:
        series = rate_series(connection, NOW + MINUTE)
    assert len(series) == 36
    assert series[-1] == 10
    chart = rate_chart(series, manageable=1, flood=10)
    assert (chart.most, chart.bars[-1].flood, chart.bars[0].flood) == (10, True, False)
    assert chart.manageable_y > chart.flood_y
    said = text(world, "/alarms")
    assert "Limits of EEMUA 191 and ISA-18.2: 1 can be managed, a flood begins at 10" in said


def test_a_shift_is_begun_written_handed_over_and_taken_by_another(world: World) -> None:
    async def walk(browser: httpx.AsyncClient, token: str) -> None:
        form = {"csrf_token": token}
        assert "control-room" in (await browser.get("/shift")).text  # the shift of tests.api.desk_world
        refused = await browser.post("/shift", data={**form, "desk": " "})
        assert (refused.status_code, "The desk needs a name" in refused.text) == (422, True)
        begun = await browser.post("/shift", data={**form, "desk": "east <1>", "note": "quiet"})
        number = begun.headers["location"].removeprefix("/shift/")
        await browser.post("/alarms/1/acknowledge", data={**form, "note": "sent li"})
        await browser.post(f"/shift/{number}/note", data={**form, "note": "called the fire brigade"})
        await world.clock.advance(60)
        page = (await browser.get("/shift")).text
        for wanted in ("east &lt;1&gt;", "quiet", "called the fire brigade", "sent li", "Open alarms:", "Leak"):
            assert wanted in page, wanted
        stale = await browser.post(f"/shift/{number}/hand-over", data={**form, "version": "99", "note": "kept"})
        assert (stale.status_code, 'value="kept"' in stale.text) == (422, True)
        await browser.post(f"/shift/{number}/hand-over", data={**form, "note": "watch gw-2"})
        own = await browser.post(f"/shift/{number}/take-over", data=form)
        assert "nobody takes over from himself" in own.text
        async with client(world.app, "") as other:
            theirs = await log_in(other, world, "supervisor")
            other.headers.update(ENGLISH)
            taken = await other.post(f"/shift/{number}/take-over", data={"csrf_token": theirs})
            assert taken.headers["location"] == f"/shift/{int(number) + 1}"
            old = (await other.get(f"/shift/{number}")).text
        assert "watch gw-2" in old
        assert "user:supervisor" in old
        assert "hand-over" not in old  # what both have signed has no button

    as_operator(world, walk)


def test_a_viewer_has_no_form_of_the_shift_and_another_area_no_shift(world: World) -> None:
    async def walk(browser: httpx.AsyncClient, token: str) -> None:
        await browser.post("/shift", data={"csrf_token": token, "desk": "east"})
        async with client(world.app, "") as other:
            theirs = await log_in(other, world, "viewer")
            assert '<form method="post" action="/shift' not in (await other.get("/shift")).text
            assert (await other.post("/shift", data={"csrf_token": theirs, "desk": "x"})).status_code == 403

    as_operator(world, walk)
    south = make_key(world.database, Role.OPERATOR, areas=frozenset({"south"}))
    assert world.get("/shift/2").status_code == 200
    assert world.get("/shift/2", headers={"authorization": f"Bearer {south}"}).status_code == 404


def test_a_browser_whose_scripts_are_off_is_told_that_the_page_stands_still(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    built = {name: Asset(f"{name}.js", "sha384-x", b"", b"") for name in ("app", "charts")}
    monkeypatch.setattr(frame, "assets", lambda: built)  # whether `make web` ran or not: the page names them alone
    told = '<noscript><p class="banner" role="status"><strong>Scripts are switched off'
    assert told in world.get("/alarms", headers=ENGLISH).text
    assert told not in world.get("/meters", headers=ENGLISH).text, "nothing of it would be renewed"
    monkeypatch.setattr(frame, "assets", dict)  # as before `make web`
    assert told not in world.get("/alarms", headers=ENGLISH).text, "it renews itself as a whole"


def test_a_form_whose_login_is_over_says_so_to_its_reader(world: World) -> None:
    sent = {"authorization": "", "accept": "text/html", "cookie": "metergate-language=zh"}
    answer = world.request("POST", "/alarms/1/comment", headers=sent, data={"note": "x"})
    assert answer.status_code == 401
    assert "您的登录已结束" in answer.text
    assert "API key" not in answer.text


def test_why_tells_what_became_of_every_reading_of_a_period(world: World) -> None:
    said = text(world, "/meters/E-0001/why?period=2026-03")
    assert "Why is a period short? E-0001 2026-03" in said
    assert "not due yet" in said
    assert world.get("/meters/NOT/why").status_code == 404
    for period in ("2026-13", "1970-01", "9999-12", "0001-01"):
        assert world.get(f"/meters/G-0001/why?period={period}").status_code == 422, period


def test_bytes_that_were_refused_are_shown_to_whoever_may_see_them(world: World) -> None:
    with world.database.begin() as connection:
        connection.exec_driver_sql("UPDATE quarantine SET meter = 'G-0001'")
    assert "Raw frames" in text(world, "/meters/G-0001")
    assert "an engineer records" in text(world, "/meters/G-0001").lower()


def test_older_readings_are_reached_by_a_link(world: World) -> None:
    page = Tags(world.get("/meters/G-0001").text)
    older = next(str(a["href"]) for tag, a in page.tags if tag == "a" and a.get("rel") == "next")
    assert "before=" in older
    assert world.get(older).status_code == 200
