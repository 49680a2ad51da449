"""Pages speak the reader's language: no English sentence stands unmarked on a Chinese page."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from registry.roles import Role
from tests.api.billing_world import PERIOD
from tests.api.screens.english import english
from tests.api.screens.people import Person, as_person
from tests.api.screens.reader_world import make_talkative
from tests.api.world import World, client, make_key, make_world

CHINESE = {"accept-language": "zh-CN", "accept": "text/html"}
PAGES = (
    "/", "/alarms?view=all", "/alarms/1", "/alarms/2", "/alarms/3", "/alarms/4", "/alarms/5", "/shift", "/shift/1",
    "/meters", "/meters/G-0001", "/meters/W-0001", "/meters/G-0001/why?period=2026-03",
    "/meters/W-0001/why?period=2026-03", "/meters/E-0001/why?period=2026-03", "/meters/E-0001/why?period=2020-03",
    "/field", "/field/gw-1", "/field/gw-2", "/field/gw-3", "/field/gw-4", "/field/gw-9",
    "/field/quarantine?view=all", "/field/quarantine/1", "/field/quarantine/3",
    "/orders", "/orders?view=list", "/orders/1", "/orders/2", "/orders/new",
    "/billing", f"/billing/{PERIOD}", f"/billing/{PERIOD}?view=all", f"/billing/{PERIOD}/close",
    f"/billing/{PERIOD}/points/UP-1", f"/billing/{PERIOD}/points/UP-2", f"/billing/{PERIOD}/points/UP-3",
    "/billing/deltas", "/billing/deltas/1", "/jobs", "/jobs/1", "/jobs/2", "/jobs/3",
    "/admin", "/admin/users", "/admin/users/li", "/admin/keys", "/admin/audit", "/admin/thresholds",
    "/admin/thresholds/changes/1", "/admin/outbound?state=all", "/admin/storage", "/account",
)  # fmt: skip
NOT_THERE = (
    "/alarms/999", "/meters/none", "/meters/none/why", "/field/gw-none", "/field/quarantine/99", "/orders/99",
    f"/billing/{PERIOD}/points/none", "/billing/deltas/99", "/jobs/99", "/jobs/imports/9", "/shift/99", "/nowhere",
    "/admin/users/none", "/admin/thresholds/changes/9", "/alarms?priority=none-such", "/billing/2026-99",
)  # fmt: skip
WITH_FORMS = (
    "/alarms", "/alarms/1", "/shift", "/field/quarantine", "/orders/1", "/orders/new", f"/billing/{PERIOD}",
    f"/billing/{PERIOD}/close", f"/billing/{PERIOD}/points/UP-2", "/billing/deltas/1", "/jobs", "/admin/users/li",
    "/admin/keys", "/admin/thresholds", "/account", "/password",
)  # fmt: skip
"""Where a person has forms, and a key has none."""
FORMS: tuple[tuple[str, dict[str, str]], ...] = (
    ("/field/quarantine/1/adopt", {"note": "believed"}),
    ("/field/quarantine/1/discard", {"note": ""}),
    ("/orders/2/recall", {"version": "9", "note": "done"}),
    ("/orders/2/cancel", {"version": "1"}),
    ("/orders/1/dispatch", {"version": "9", "assignee": "nobody"}),
    ("/orders", {"usage_point": "none", "type": "meter_test", "priority": "soon", "reason": "looks odd"}),
    (f"/billing/{PERIOD}/points/UP-1/decide", {"kind": "accept", "version": "1"}),
    (f"/billing/{PERIOD}/points/UP-3/decide", {"kind": "accept", "version": "2"}),
    (f"/billing/{PERIOD}/points/UP-3/decide", {"kind": "reread", "version": "99"}),
    ("/billing/deltas/1/approve", {"word": "approved", "capacity": "team_lead", "version": "1"}),
    ("/jobs/2/cancel", {}),
    ("/admin/users", {"name": "A B", "role": "viewer"}),
    ("/admin/users", {"name": "li", "role": "viewer", "areas": "*"}),
    ("/admin/keys", {"name": "", "role": "viewer", "areas": "*", "days": "9"}),
    ("/admin/thresholds", {"threshold": "none", "value": "x", "effective": "", "reason": ""}),
    ("/admin/thresholds/changes/1/confirm", {"version": "1"}),
    ("/account/totp/confirm", {"code": "123456"}),
    ("/password", {"old": "not this", "new": "a sentence of its own", "again": "a sentence of its own"}),
    ("/shift/1/take-over", {"version": "1"}),
    ("/alarms/1/out-of-service", {"until": "", "note": ""}),
)
ALLOWED = (
    "customer asks for a test",  # what a person wrote: the reason of a work order opened by hand
    "seal looks broken",  # the same
    "the meter ran fast",  # the same: the written account of a delta
    "metergate command tap",  # a command to type
)


@pytest.fixture(scope="module")
def talkative(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    made = make_talkative(tmp_path_factory.mktemp("reader"))
    yield made
    made.close()


def unmarked(answer: httpx.Response) -> list[str]:
    """English sentences of a page that are not marked."""
    assert answer.status_code < 500, answer.text[:300]
    assert answer.headers["content-type"].startswith("text/html")
    return english(answer.text, ALLOWED)


def test_no_page_speaks_english_to_a_chinese_reader(talkative: World) -> None:
    async def look() -> dict[str, list[str]]:
        async with client(talkative.app) as browser:
            pages = {path: await browser.get(path, headers=CHINESE) for path in (*PAGES, *NOT_THERE)}
        async with client(talkative.app, make_key(talkative.database, Role.VIEWER)) as browser:
            pages["not for him"] = await browser.get("/admin/users", headers=CHINESE)
            assert "须有以下角色之一：" in pages["not for him"].text
        return {path: left for path, answer in pages.items() if (left := unmarked(answer))}

    assert asyncio.run(look()) == {}


def test_no_refusal_of_a_form_speaks_english_to_a_chinese_reader(talkative: World) -> None:
    found: dict[str, list[str]] = {}

    async def work(person: Person) -> None:
        person.browser.headers.update(CHINESE)
        for path in WITH_FORMS:
            if left := unmarked(await person.browser.get(path)):
                found[path] = left
        for path, fields in FORMS:
            answer = await person.browser.post(path, data={"csrf_token": person.token, **fields})
            assert answer.status_code in (403, 404, 409, 412, 415, 422), f"{path}: {answer.status_code}"
            if left := unmarked(answer):
                found[path] = left

    as_person(talkative, "wang", *Role, work=work)
    assert found == {}


def test_a_registry_that_cannot_be_read_is_told_in_chinese_with_its_own_words_marked(tmp_path: Path) -> None:
    world = make_world(tmp_path)
    with world.database.begin() as connection:
        for table in ("latest", "finding", "position"):
            connection.exec_driver_sql(f"ALTER TABLE {table} RENAME TO away_{table}")
    for path in ("/", "/alarms", "/alarms/1", "/meters/G-0001", "/field"):
        answer = world.get(path, headers=CHINESE)
        assert '<span lang="en">no such table' in answer.text, path
        assert unmarked(answer) == [], path
    world.close()


def test_english_on_a_page_is_found_unless_it_is_marked_or_allowed() -> None:
    html = (
        '<html lang="zh-CN"><p>自 08:00 起 not heard since noon</p><p lang="en">it was said <b>so very often</b></p>'
    )
    assert english(html) == ["自 08:00 起 not heard since noon"]
    assert english(html, ["not heard since noon"]) == []
    assert english('<img alt="a picture of it"><br><p title="three words here">gw-1 m³ kWh</p>') == [
        "a picture of it",
        "three words here",
    ]
