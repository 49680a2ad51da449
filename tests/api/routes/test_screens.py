"""The pages over a small utility: their figures, what they do without a script, and with nasty names."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import html
import re
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy as sa

from api.screens import assets as built
from metering.errors import StoreError
from metering.store import ReadingStore
from registry import ledger
from registry.books import import_meters
from registry.models import Meter, UsagePoint
from registry.roles import Role
from tests.api.routes.test_pages import Tags, named_files
from tests.api.world import HOUR, METERS, T0, World, client, make_key, make_user, make_world

ENGLISH = {"accept-language": "en"}
PAGES = ("/", "/alarms", "/alarms?view=all", "/alarms/1", "/shift", "/meters", "/meters/G-0001", "/field")
EVIL = "<script>alert(1)</script>\"'&"


def text(world: World, path: str, **headers: str) -> str:
    answer = world.get(path, headers={**ENGLISH, **headers})
    assert answer.status_code == 200, answer.text
    return " ".join(Tags(answer.text.replace("<", " <")).text.split())


def test_overview_shows_read_rate_silent_meters_alarms_and_districts(world: World) -> None:
    said = text(world, "/")
    # three meters are due; G-0001 is valid within a day, W-0001 is suspect, E-0001 was never read
    assert "Read rate 33.3 % 1 of 3 meters within 24 h · target 98 %" in said
    assert "Meters silent 2 not read within 24 h" in said
    assert "Gateways down 1 / 3" in said  # gw-9 left the broker; gw-2 was never heard
    assert "urgent 1 – –" in said  # the leak of findings_world
    assert "high 1 – –" in said  # gw-2 is down; its meter is suppressed by that
    assert "low – 1 –" in said
    assert "north Read rate 50.0 % Meters silent 1 / 2 Urgent and high 2" in said
    assert "gw-9 offline: it left the broker" in said


def test_overview_of_one_area_counts_that_area_alone(world: World) -> None:
    key = make_key(world.database, Role.OPERATOR, areas=frozenset({"south"}))
    said = text(world, "/", authorization=f"Bearer {key}")
    assert "0.0 % 0 of 1 meters" in said
    assert "north" not in said


def test_alarm_list_shows_what_waits_for_a_person_and_hides_what_an_outage_explains(world: World) -> None:
    said = text(world, "/alarms")
    assert "Leak" in said
    assert "Outage gw-2" in said
    assert "over, not acknowledged" in said
    page = world.get("/alarms", headers=ENGLISH).text
    assert 'id="alarm-3"' not in page  # E-0001 is silent because gw-2 is: it stands folded below that
    folded = page[page.index("<details") : page.index("</details>")]
    assert "Findings that it explains: 1" in folded
    assert "E-0001" in folded
    assert "E-0001" in text(world, "/alarms?view=all")
    assert "suppressed No communication" in text(world, "/alarms/2")


def test_one_alarm_shows_its_proof_and_history(world: World) -> None:
    said = text(world, "/alarms/1")
    for wanted in ("Leak UP-1", "urgent", "held 4.25 m³/h", "raised normal → not acknowledged service:anomaly"):
        assert wanted in said
    assert world.get("/alarms/999").status_code == 404


def test_meter_page_shows_index_consumption_readings_and_findings(world: World) -> None:
    said = text(world, "/meters/G-0001")
    assert "standard volume 1011.5" in said
    assert "Why is a period short?" in said
    assert "Smallest hour of the nights (02–05): 0.5 m³" in said
    assert "1 Hill <b>Road</b>" in said
    assert "urgent not acknowledged Leak" in said


def test_charts_get_exact_strings_and_gaps_as_null(world: World) -> None:
    data = world.get("/meters/G-0001/consumption").json()
    values = {cell["at"]: cell["value"] for cell in data["hours"]}
    assert values["2026-03-01 01"] == "0.5"  # from 01:00 to 02:00; 0.5 m³ in each hour
    assert values["2026-02-28 12"] is None
    days = {cell["at"]: (cell["value"], cell["mark"]) for cell in data["days"]}
    assert days["2026-03-01"] == (None, "gap")
    assert days["2026-03-02"] == ("10.000001", "")


def test_search_finds_a_part_of_an_address_and_wildcards_are_letters(world: World) -> None:
    assert "G-0001" in text(world, "/meters?search=1+Hill")
    assert "No meter fits." in text(world, "/meters?search=%25%25")
    assert "G-0001" in text(world, "/meters?search=SN100%25")


def test_what_has_stopped_reporting_is_one_click_from_the_overview(world: World) -> None:
    page = world.get("/", headers=ENGLISH).text
    assert 'href="/meters?silent=1"' in page
    assert 'href="/meters?silent=1&amp;district=north"' in page
    said = text(world, "/meters?silent=1")
    assert "E-0001" in said
    assert "W-0001" in said
    assert "G-0001" not in said
    assert "W-0001" not in text(world, "/meters?silent=1&district=north")


def test_a_district_below_the_target_calls_as_the_whole_city_does(world: World) -> None:
    page = world.get("/", headers=ENGLISH).text
    tiles = page[page.index('<ul class="tiles">') :].split("<li ")[1:]
    south = next(tile for tile in tiles if ">south<" in tile)
    assert "Urgent and high" in south
    assert 'class="tile attention"' in south.split(">")[0]


def test_the_next_page_of_meters_keeps_every_filter(world: World) -> None:
    with world.database.begin() as connection:
        meter = connection.execute(sa.select(Meter.__table__).where(Meter.id == "W-0001")).mappings().one()
        known = {name: value for name, value in meter.items() if name != "search"}  # the database makes that one
        many = [{**known, "id": f"W-1{n:03d}", "serial": f"SN-1{n}", "address": str(1000 + n)} for n in range(150)]
        connection.execute(sa.insert(Meter), many)
    page = world.get("/meters?gateway=gw-1&silent=1&medium=water", headers=ENGLISH).text
    following = re.search(r'rel="next" href="([^"]*)"', page)
    assert following
    last = world.get(html.unescape(following[1]), headers=ENGLISH).text
    assert "W-1149" in last
    assert 'name="gateway" maxlength="64" value="gw-1"' in last
    assert 'name="silent" value="1" checked' in last


def test_whatever_stands_in_names_is_text_and_never_markup(world: World) -> None:
    with world.database.begin() as connection:
        connection.execute(sa.update(UsagePoint).values(address=EVIL, district=EVIL[:60]))
        connection.exec_driver_sql(
            "UPDATE finding SET district = ?, evidence = ?", (EVIL[:60], '{"a": "<img src=x>"}')
        )
        connection.exec_driver_sql("UPDATE gateway SET name = ?, district = ?", ("名" * 500, EVIL[:60]))
        health = {"outbox": "full", "outbox_reason": EVIL}
        ledger.save_gateway_status(connection, [ledger.StatusRow("gw-1", health_at=T0 + 24 * HOUR, health=health)])
    shown = 0
    for path in PAGES:
        page = Tags(world.get(path).text)
        scripts = [str(attributes.get("src")) for tag, attributes in page.tags if tag == "script"]
        assert all(address.startswith("/assets/") for address in scripts)
        assert "img" not in {tag for tag, _ in page.tags}
        shown += "<script>alert(1)" in page.text
    assert shown == len(PAGES) - 1  # the shift log names no address


def test_an_empty_house_has_pages_too(tmp_path: Path) -> None:
    world = make_world(tmp_path, filled=False)
    words = {"/": "No meters yet", "/alarms": "No alarm.", "/meters": "No meter fits.", "/field": "No gateway yet."}
    words["/shift"] = "No shift is open."
    for path, wanted in words.items():
        assert wanted in text(world, path)
    world.close()


def test_a_registry_that_cannot_be_read_leaves_the_page_and_says_why(world: World) -> None:
    with world.database.begin() as connection:
        for table in ("latest", "finding", "position"):
            connection.exec_driver_sql(f"ALTER TABLE {table} RENAME TO away_{table}")
    for path in PAGES:
        assert "no such table" in text(world, path), path


class _Away:
    """A store that cannot be read."""

    def __getattr__(self, name: str) -> Any:
        def fails(*_: object, **__: object) -> Any:
            raise StoreError("the disk is away")

        return fails


def test_a_store_that_is_away_leaves_the_registrys_part_of_a_meter(tmp_path: Path) -> None:
    away: ReadingStore = _Away()
    world = make_world(tmp_path, store=away)
    said = text(world, "/meters/G-0001")
    assert "the disk is away" in said
    assert "UP-1" in said
    assert "Store failed the disk is away" in text(world, "/")
    assert world.get("/meters/G-0001/consumption").status_code == 503


def test_ten_thousand_meters_come_in_pages(tmp_path: Path) -> None:
    world = make_world(tmp_path)
    rows = [
        f"M-{n:05d},gas,UM{n},S{n},p,volume,gw-1,t-{n // 200},127.0.0.1,{600 + n // 200},{n % 200},5,north,,,,,,UTC"
        for n in range(10_000)
    ]
    with world.database.begin() as connection:
        assert import_meters(connection, METERS.splitlines()[0] + "\n" + "\n".join(rows)).bad == []
    first = world.get("/meters")
    assert first.text.count("<tr>") == 101
    assert len(first.content) < 200_000
    following = next(a["href"] for t, a in Tags(first.text).tags if t == "a" and a.get("rel") == "next")
    assert "M-00099" in world.get(str(following)).text
    assert "of 10003 meters" in text(world, "/")
    world.close()


# -- language, theme, scripts ------------------------------------------------------------


def test_language_and_theme_are_chosen_by_form_and_kept_by_the_browser(world: World) -> None:
    async def scenario() -> None:
        async with client(world.app) as browser:
            assert "总览" in (await browser.get("/")).text
            form = {"language": "en", "theme": "dark", "back": "/alarms?view=all"}
            answer = await browser.post("/preferences", data=form)
            assert (answer.status_code, answer.headers["location"]) == (303, "/alarms?view=all")
            page = (await browser.get("/")).text
            assert '<html lang="en" data-theme="dark">' in page
            assert ">Overview</h1>" in page

    asyncio.run(scenario())


FOREIGN = ("//evil.example", "https://evil.example", "/\\evil.example", "/a\r\nset-cookie: b", "x")


def test_a_form_leads_back_to_addresses_of_ours_alone(world: World) -> None:
    for back in FOREIGN:
        answer = world.request("POST", "/preferences", data={"language": "en", "back": back})
        assert answer.headers["location"] == "/", back


def test_people_get_a_page_where_programs_get_a_problem_document(world: World) -> None:
    as_person = {"accept": "text/html,*/*;q=0.8", **ENGLISH}
    for path, words in {
        "/meters/NOT": "there is no meter",
        "/nowhere": "nothing at",
        "/alarms?view=x": "allowed",
    }.items():
        answer = world.get(path, headers=as_person)
        assert answer.headers["content-type"].startswith("text/html"), path
        assert answer.status_code in (404, 422)
        assert words in answer.text
        assert "unsafe" not in answer.headers["content-security-policy"]
        assert world.get(path).headers["content-type"] == "application/problem+json"
    evil = world.get("/" + EVIL.replace("/", ""), headers=as_person)
    assert "<script" not in evil.text
    assert world.get("/api/v1/x", headers=as_person).headers["content-type"] == "application/problem+json"


def test_a_registry_away_leaves_people_a_page_that_says_so(world: World) -> None:
    with world.database.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE api_key RENAME TO away")
    answer = world.get("/alarms", headers={"accept": "text/html", **ENGLISH})
    assert answer.status_code == 503
    assert "This cannot be shown" in answer.text
    assert "the registry cannot be read now: no such table" in answer.text


def test_scripts_are_served_packed_for_ever_and_match_their_digest(world: World) -> None:
    page = world.get("/meters/G-0001").text
    scripts = {a["src"]: a["integrity"] for tag, a in Tags(page).tags if tag == "script"}
    assert len(scripts) == 2, "make web has not been run"
    total = 0
    for address, integrity in scripts.items():
        answer = world.get(str(address), headers={"accept-encoding": "gzip"})
        assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
        digest = base64.b64encode(hashlib.sha384(answer.content).digest()).decode()
        assert integrity == f"sha384-{digest}"
        plain = world.get(str(address), headers={"accept-encoding": "identity"})
        assert plain.content == answer.content
        total += int(answer.headers["content-length"])
    assert total + len(page) < 600_000
    assert world.get("/assets/app.js").status_code == 404


def test_without_built_scripts_pages_work_and_say_so(
    world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert built.assets(tmp_path) == {}
    monkeypatch.setattr("api.screens.frame.assets", dict)
    page = world.get("/meters/G-0001", headers=ENGLISH).text
    assert "The scripts of the pages are missing." in page
    assert '<meta http-equiv="refresh" content="30">' in page
    assert named_files(page) == {"/style.css", "/docs/favicon.png"}
    assert "2026-03-02" in page  # consumption as a table


# -- what people do ------------------------------------------------------------


async def log_in(browser: httpx.AsyncClient, world: World, name: str) -> str:
    """Log in with the one-time password, replace it, return the page's token."""
    once = make_user(world.database, name, Role(name))
    entered = await browser.post("/api/v1/session", json={"name": name, "password": once})
    token = entered.json()["csrf_token"]
    body = {"old": once, "new": "a new and long password"}
    changed = await browser.post("/api/v1/session/password", json=body, headers={"x-csrf-token": token})
    assert changed.status_code == 204
    return str(token)


def test_operator_acknowledges_shelves_and_comments_by_plain_forms(world: World) -> None:
    async def scenario() -> None:
        async with client(world.app, "") as browser:
            token = await log_in(browser, world, "operator")
            browser.headers.update(ENGLISH)
            form = {"csrf_token": token, "back": "/alarms/1", "note": "on my way"}
            assert 'action="/alarms/1/acknowledge"' in (await browser.get("/alarms")).text
            answer = await browser.post("/alarms/1/acknowledge", data=form)
            assert (answer.status_code, answer.headers["location"]) == (303, "/alarms/1")
            again = await browser.post("/alarms/1/acknowledge", data=form)
            assert again.headers["location"] == "/alarms/1?refused=not_now"
            assert "not possible in its present state" in (await browser.get(again.headers["location"])).text
            stale = await browser.post("/alarms/1/comment", data={**form, "version": "1"})
            assert stale.headers["location"] == "/alarms/1?refused=changed"
            await browser.post("/alarms/1/shelve", data={**form, "hours": "8"})
            page = (await browser.get("/alarms/1")).text
            assert "shelved" in page
            assert "user:operator" in page
            assert "on my way" in page
            for bad in ({"hours": "9999"}, {"hours": "x"}, {"hours": "8", "note": "n" * 1001}):
                refused = await browser.post("/alarms/2/shelve", data={**form, **bad})
                assert "refused=" in refused.headers["location"]

    asyncio.run(scenario())


def test_a_form_without_the_logins_token_changes_nothing(world: World) -> None:
    async def scenario() -> None:
        async with client(world.app, "") as browser:
            await log_in(browser, world, "operator")
            for token in ("", "guessed"):
                answer = await browser.post("/alarms/1/acknowledge", data={"csrf_token": token, "back": "/alarms"})
                assert (answer.status_code, answer.json()["type"]) == (403, "urn:metergate:problem:csrf-token")

    asyncio.run(scenario())


def test_viewer_sees_no_button_and_is_refused_anyway(world: World) -> None:
    async def scenario() -> None:
        async with client(world.app, "") as browser:
            token = await log_in(browser, world, "viewer")
            for path in ("/alarms", "/alarms/1"):
                assert "/acknowledge" not in (await browser.get(path)).text
            answer = await browser.post("/alarms/1/acknowledge", data={"csrf_token": token})
            assert answer.status_code == 403

    asyncio.run(scenario())


def test_a_worker_gets_a_page_without_readings(world: World) -> None:
    key = make_key(world.database, Role.WORKER)
    said = text(world, "/", authorization=f"Bearer {key}")
    assert "Your role opens no readings" in said
    assert "Alarms" not in said
