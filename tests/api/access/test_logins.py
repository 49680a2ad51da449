"""Logins as a browser or an attacker sees them: pages, cookies, tokens, and when it is too often."""

from __future__ import annotations

import asyncio
import re
import sqlite3
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, Final

import httpx
import pyotp
import pytest

from api.access.table import FORMS
from api.settings import ApiSettings
from registry import audit, keys, users
from registry.roles import Role, console
from tests.api.access.test_every_role import ROUTES, address_of
from tests.api.world import T0, World, client, make_key, make_user, make_world

PASSWORD: Final = "three blue herons at dawn"
Scenario = Callable[[httpx.AsyncClient], Awaitable[None]]


@pytest.fixture
def lively(tmp_path: Path) -> Iterator[World]:
    """A world with the limits that a real one has."""
    world = make_world(tmp_path, settings=ApiSettings(tries_burst=8, tries_per_min=6.0, unknown_burst=60))
    yield world
    world.close()


def browse(world: World, scenario: Scenario, *, peer: str = "127.0.0.1", base: str = "http://127.0.0.1:8080") -> None:
    """Let a browser (a jar of cookies, no key) do something."""

    async def run() -> None:
        async with client(world.app, "", peer) as browser:
            browser.base_url = httpx.URL(base)
            await scenario(browser)

    asyncio.run(run())


async def log_in(browser: httpx.AsyncClient, name: str, password: str, code: str = "") -> httpx.Response:
    body = {"name": name, "password": password, "code": code}
    return await browser.post("/api/v1/session", json=body)


async def settled(browser: httpx.AsyncClient, name: str, one_time: str) -> str:
    """Log in with a one-time password, replace it, return the token for changes."""
    token = str((await log_in(browser, name, one_time)).json()["csrf_token"])
    body = {"old": one_time, "new": PASSWORD}
    changed = await browser.post("/api/v1/session/password", json=body, headers={"x-csrf-token": token})
    assert changed.status_code == 204
    return token


def field(page: httpx.Response, name: str) -> str:
    found = re.search(rf'name="{name}" value="([^"]+)"', page.text)
    assert found
    return found[1]


def rows(world: World) -> dict[str, list[Any]]:
    """Everything that the registry holds."""
    with sqlite3.connect(world.folder / "registry.db") as file:
        names = [name for (name,) in file.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        found = {name: file.execute(f'SELECT * FROM "{name}" ORDER BY 1').fetchall() for name in names}
    file.close()
    return found


def test_a_person_logs_in_by_the_page_changes_the_one_time_password_and_logs_out(world: World) -> None:
    one_time = make_user(world.database, "wang", Role.OPERATOR)

    async def scenario(browser: httpx.AsyncClient) -> None:
        sent_away = await browser.get("/", headers={"accept": "text/html"})
        assert (sent_away.status_code, sent_away.headers["location"]) == (303, "/login")
        page = await browser.get("/login")
        assert "form-action 'self'" in page.headers["content-security-policy"]
        assert "script" not in page.text
        form = {"token": field(page, "token"), "name": "wang", "password": one_time}
        wrong = await browser.post("/login", data={**form, "password": "not this one"})
        assert (wrong.status_code, "用户名、密码或验证码错误" in wrong.text) == (401, True)
        entered = await browser.post("/login", data=form)
        assert (entered.status_code, entered.headers["location"]) == (303, "/")
        home = await browser.get("/", headers={"accept": "text/html"})
        assert (home.status_code, home.headers["location"]) == (303, "/password")
        assert (await browser.get("/api/v1/meters")).json()["type"] == "urn:metergate:problem:password-must-change"
        page = await browser.get("/password")
        new = {"csrf_token": field(page, "csrf_token"), "old": one_time, "new": PASSWORD, "again": PASSWORD}
        short = await browser.post("/password", data={**new, "new": "short", "again": "short"})
        assert (short.status_code, "密码至少 10 个字符" in short.text) == (422, True)
        assert (await browser.post("/password", data=new)).status_code == 303
        home = await browser.get("/")
        assert (home.status_code, ">south</a>" in home.text, "wang" in home.text) == (200, True, True)
        left = await browser.post("/logout", data={"csrf_token": field(home, "csrf_token")})
        assert (left.status_code, left.headers["location"]) == (303, "/login")
        assert (await browser.get("/api/v1/meters")).status_code == 401

    browse(world, scenario)
    with world.database.read() as connection:
        told = [row["action"] for row in audit.records(connection, actor="user:wang")]
    assert told == ["user.set_password", "user.login", "user.login_failed"]


def test_a_form_from_elsewhere_logs_nobody_in(world: World) -> None:
    one_time = make_user(world.database, "wang", Role.OPERATOR)

    async def scenario(browser: httpx.AsyncClient) -> None:
        page = await browser.get("/login")
        form = {"token": field(page, "token"), "name": "wang", "password": one_time}
        for headers in ({"origin": "https://evil.example"}, {"origin": "null"}, {"sec-fetch-site": "cross-site"}):
            assert (await browser.post("/login", data=form, headers=headers)).status_code == 403, headers
        assert (await browser.post("/login", data={**form, "token": "x" * 32})).status_code == 403
        browser.cookies.clear()
        assert (await browser.post("/login", data=form)).status_code == 403
        assert "metergate" not in browser.cookies

    browse(world, scenario)


@pytest.mark.parametrize(
    ("base", "name", "secure"),
    [("http://127.0.0.1:8080", "metergate", False), ("https://localhost", "__Host-metergate", True)],
)
def test_the_cookie_is_only_ours_only_here_and_under_tls_only_there(
    world: World, base: str, name: str, secure: bool
) -> None:
    one_time = make_user(world.database, "wang", Role.OPERATOR)

    async def scenario(browser: httpx.AsyncClient) -> None:
        answer = await log_in(browser, "wang", one_time)
        first, *flags = answer.headers["set-cookie"].split("; ")
        assert first.startswith(f"{name}=")
        assert set(flags) == {"Path=/", "HttpOnly", "SameSite=Strict"} | ({"Secure"} if secure else set())
        assert first.partition("=")[2] not in answer.text

    browse(world, scenario, base=base)


def test_a_stolen_login_without_its_token_changes_nothing(world: World) -> None:
    """The thief has the cookie of somebody who may do everything, and tries every route that changes something."""
    one_time = make_user(world.database, "wang", *Role)
    stolen: list[httpx.Cookies] = []

    async def owner(browser: httpx.AsyncClient) -> None:
        await settled(browser, "wang", one_time)
        stolen.append(browser.cookies)

    async def thief(browser: httpx.AsyncClient) -> None:
        browser.cookies = stolen[0]
        before = rows(world)
        for route in sorted(ROUTES):
            method, path = address_of(route)
            if method == "GET" or (path in ("/login", "/preferences", "/api/v1/session") and method == "POST"):
                continue
            for headers in ({}, {"x-csrf-token": "x" * 43}, {"x-csrf-token": ""}):
                kind = "application/x-www-form-urlencoded"
                answer = (
                    await browser.request(method, path, headers={**headers, "content-type": kind}, content="a=1")
                    if (method, route.partition(" ")[2]) in FORMS
                    else await browser.request(method, path, headers=headers, json={})
                )
                assert (answer.status_code, answer.json()["type"].rpartition(":")[2]) == (403, "csrf-token"), route
        assert rows(world) == before
        assert (await browser.get("/api/v1/session")).status_code == 200

    browse(world, owner)
    browse(world, thief, peer="192.0.2.7")


def test_with_its_token_the_same_login_does_change_something(world: World) -> None:
    one_time = make_user(world.database, "wang", *Role)

    async def scenario(browser: httpx.AsyncClient) -> None:
        token = await settled(browser, "wang", one_time)
        known = {"x-csrf-token": token}
        foreign = {**known, "origin": "https://evil.example"}
        assert (await browser.post("/api/v1/users/li/unlock", headers=foreign)).status_code == 403
        assert (await browser.post("/api/v1/users/li/unlock", headers=known)).status_code == 200
        ours = {**known, "origin": "http://127.0.0.1:8080", "sec-fetch-site": "same-origin"}
        assert (await browser.post("/api/v1/users/li/unlock", headers=ours)).status_code == 200
        assert (await browser.delete("/api/v1/session", headers=known)).status_code == 204
        assert (await browser.get("/api/v1/session")).status_code == 401

    browse(world, scenario)


def test_wrong_passwords_lock_the_account_for_everybody_and_a_while(lively: World) -> None:
    one_time = make_user(lively.database, "wang", Role.OPERATOR)

    async def attacker(browser: httpx.AsyncClient) -> None:
        found = [await log_in(browser, "wang", f"guess number {number}") for number in range(6)]
        assert [answer.status_code for answer in found] == [401, 401, 401, 401, 401, 429]
        assert found[5].headers["retry-after"] == "30"

    async def owner(browser: httpx.AsyncClient) -> None:
        assert (await log_in(browser, "wang", one_time)).status_code == 429
        lively.clock.pause(31)
        assert (await log_in(browser, "wang", one_time)).status_code == 200

    browse(lively, attacker, peer="192.0.2.7")
    browse(lively, owner, peer="192.0.2.8")


def test_an_address_that_tries_many_names_must_wait_and_others_need_not(lively: World) -> None:
    one_time = make_user(lively.database, "wang", Role.OPERATOR)

    async def attacker(browser: httpx.AsyncClient) -> None:
        found = [await log_in(browser, f"name{number}", "Winter2026!") for number in range(9)]
        assert [answer.status_code for answer in found] == [401] * 8 + [429]
        assert found[8].headers["retry-after"] == "10"  # six a minute
        assert (await log_in(browser, "wang", one_time)).status_code == 429

    async def owner(browser: httpx.AsyncClient) -> None:
        assert (await log_in(browser, "wang", one_time)).status_code == 200

    browse(lively, attacker, peer="192.0.2.7")
    browse(lively, owner, peer="192.0.2.8")


def test_keys_that_are_tried_are_limited_and_stand_in_the_audit(lively: World) -> None:
    guess = "mg_aaaaaaaa_" + "b" * 43

    async def attacker(browser: httpx.AsyncClient) -> None:
        known = {"authorization": f"Bearer {guess}"}
        found = [(await browser.get("/api/v1/meters", headers=known)).status_code for _ in range(10)]
        assert found == [401] * 8 + [429] * 2

    browse(lively, attacker, peer="192.0.2.7")
    with lively.database.read() as connection:
        written = audit.records(connection, action="access.refused")
    assert {row["address"] for row in written} == {"192.0.2.7"}
    assert len(written) == 5  # a flood does not fill the audit
    assert guess not in str(written)


def test_a_caller_who_asks_too_often_waits_and_others_do_not(tmp_path: Path) -> None:
    world = make_world(tmp_path, settings=ApiSettings(rate_burst=3, rate_per_s=2.0))
    other = make_key(world.database, Role.VIEWER)
    found = [world.get("/api/v1/meters") for _ in range(4)]
    assert [answer.status_code for answer in found] == [200, 200, 200, 429]
    assert found[3].headers["retry-after"] == "1"
    assert world.get("/api/v1/meters", headers={"authorization": f"Bearer {other}"}).status_code == 200
    world.clock.pause(1)
    assert world.get("/api/v1/meters").status_code == 200
    world.close()


def test_nobody_known_who_asks_too_often_waits(lively: World) -> None:
    async def scenario(browser: httpx.AsyncClient) -> None:
        found = [(await browser.get("/api/v1/meters")).status_code for _ in range(61)]
        assert found == [401] * 60 + [429]
        assert (await browser.get("/style.css")).status_code == 429

    browse(lively, scenario, peer="192.0.2.7")


@pytest.mark.parametrize("form", ["api_key={}", "token={}", "ACCESS_TOKEN={}", "x={}", "limit=1&q={}", "{}"])
def test_a_key_in_the_address_is_refused_not_used_and_recorded_without_its_secret(world: World, form: str) -> None:
    answer = world.get(f"/api/v1/meters?{form.format(world.key)}")
    assert (answer.status_code, answer.json()["type"]) == (401, "urn:metergate:problem:key-in-address")
    assert "rotate" in answer.json()["detail"]
    assert world.get(f"/livez?{form.format(world.key)}").status_code == 401
    with world.database.read() as connection:
        (first, *_) = audit.records(connection, action="access.refused")
    assert first["detail"]["after"] == {"reason": "key-in-address", "keys": [world.key[:11]]}
    assert world.key not in str(first)


def test_a_word_that_is_a_secrets_name_is_refused_whatever_it_holds(world: World) -> None:
    assert world.get("/api/v1/meters?access_token=abc").status_code == 401
    assert "rotate" not in world.get("/api/v1/meters?api_key=abc").json()["detail"]


def test_codes_are_asked_for_once_enrolled_and_a_role_that_needs_them_opens_nothing_before(world: World) -> None:
    one_time = make_user(world.database, "wang", Role.OPERATOR)

    async def scenario(browser: httpx.AsyncClient) -> None:
        token = {"x-csrf-token": await settled(browser, "wang", one_time)}
        secret = (await browser.post("/api/v1/session/totp", headers=token)).json()["secret"]
        wrong = await browser.post("/api/v1/session/totp/confirm", headers=token, json={"code": "000000"})
        assert wrong.status_code == 422
        codes = pyotp.TOTP(secret)
        now = world.clock.now_ms() // 1000
        body = {"code": codes.at(now)}
        assert (await browser.post("/api/v1/session/totp/confirm", headers=token, json=body)).status_code == 204
        missing = await log_in(browser, "wang", PASSWORD)
        assert (missing.status_code, missing.json()["type"]) == (401, "urn:metergate:problem:code-needed")
        assert (await log_in(browser, "wang", PASSWORD, codes.at(now))).status_code == 401  # it served already
        assert (await log_in(browser, "wang", PASSWORD, codes.at(now + 30))).status_code == 200

    browse(world, scenario)


def test_what_is_ended_here_ends_at_once(world: World) -> None:
    one_time = make_user(world.database, "wang", Role.OPERATOR)
    key = make_key(world.database, Role.VIEWER)
    known = {"authorization": f"Bearer {key}"}
    assert world.get("/api/v1/meters", headers=known).status_code == 200
    assert world.request("DELETE", f"/api/v1/keys/{key[:11]}").status_code == 200
    assert world.get("/api/v1/meters", headers=known).status_code == 401

    async def scenario(browser: httpx.AsyncClient) -> None:
        await settled(browser, "wang", one_time)
        assert (await browser.get("/api/v1/meters")).status_code == 200
        admin = {"authorization": f"Bearer {world.key}"}
        user = await browser.get("/api/v1/users/wang", headers=admin)
        shut = {**admin, "if-match": user.headers["etag"]}
        assert (await browser.patch("/api/v1/users/wang", headers=shut, json={"enabled": False})).status_code == 200
        assert (await browser.get("/api/v1/meters")).status_code == 401
        assert (await browser.patch("/api/v1/users/wang", headers=shut, json={})).status_code == 412
        assert (await browser.patch("/api/v1/users/wang", headers=admin, json={})).status_code == 428

    browse(world, scenario)


def test_what_is_ended_elsewhere_ends_within_the_time_of_the_cache(world: World) -> None:

    key = make_key(world.database, Role.VIEWER)
    known = {"authorization": f"Bearer {key}"}
    assert world.get("/api/v1/meters", headers=known).status_code == 200
    with world.database.begin() as connection:
        keys.revoke(connection, console("test"), key[:11], at=T0)
    assert world.get("/api/v1/meters", headers=known).status_code == 200
    world.clock.pause(2.0)  # api.identity_cache_s
    assert world.get("/api/v1/meters", headers=known).status_code == 401


def test_one_key_asks_the_registry_once_for_many_requests(world: World, monkeypatch: pytest.MonkeyPatch) -> None:

    asked: list[str] = []
    real = keys.find

    def counted(*arguments: Any, **more: Any) -> Any:
        asked.append(arguments[1])
        return real(*arguments, **more)

    monkeypatch.setattr(keys, "find", counted)

    async def scenario() -> None:
        async with client(world.app) as caller:
            answers = await asyncio.gather(*(caller.get("/api/v1/session") for _ in range(50)))
        assert {answer.status_code for answer in answers} == {200}

    asyncio.run(scenario())
    assert len(asked) == 1


def test_the_first_administrator_can_do_nothing_but_choose_a_password(tmp_path: Path) -> None:
    world = make_world(tmp_path, filled=False)
    made = users.first_admin(world.database, world.clock.now_ms())
    assert made

    async def scenario(browser: httpx.AsyncClient) -> None:
        token = (await log_in(browser, *made)).json()["csrf_token"]
        for path in ("/api/v1/users", "/api/v1/keys", "/openapi.json", "/docs"):
            assert (await browser.get(path)).json()["type"] == "urn:metergate:problem:password-must-change", path
        body = {"name": "x", "roles": ["admin"], "areas": ["*"]}
        assert (await browser.post("/api/v1/users", json=body, headers={"x-csrf-token": token})).status_code == 403
        change = {"old": made[1], "new": PASSWORD}
        known = {"x-csrf-token": token}
        assert (await browser.post("/api/v1/session/password", json=change, headers=known)).status_code == 204
        assert (await browser.post("/api/v1/users", json=body, headers=known)).status_code == 201

    browse(world, scenario)
    world.close()
