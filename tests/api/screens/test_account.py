"""One's own page: an authenticator set up, used and given up; logins ended; the way of whoever must enrol."""

from __future__ import annotations

import asyncio
import re
from urllib.parse import unquote

import httpx
import pyotp
import sqlalchemy as sa

from api.app import close, create_app
from registry import audit
from registry.models_access import Session, User
from registry.roles import Role
from registry.settings import AccessSettings
from tests.api.routes.test_pages import Tags
from tests.api.screens.people import ENGLISH, PASSWORD, Person, as_person, enter, plain
from tests.api.world import World, client, make_user


def codes_of(page: httpx.Response) -> pyotp.TOTP:
    """The authenticator of a page that shows a new secret."""
    found = re.search(r'<code id="secret">([A-Z2-7 ]+)</code>', page.text)
    assert found
    return pyotp.TOTP(found[1].replace(" ", ""))


def test_an_authenticator_is_set_up_used_and_given_up(world: World) -> None:
    now = world.clock.now_ms() // 1000

    async def work(him: Person) -> None:
        assert "No authenticator is in use." in await him.look("/account")
        begun = await him.post("/account/totp", 200)
        codes = codes_of(begun)
        picture = next(str(a["src"]) for tag, a in Tags(begun.text).tags if tag == "img")
        assert picture.startswith("data:image/svg+xml")
        assert "<svg" in unquote(picture)
        assert f"otpauth://totp/Metergate:wang?secret={codes.secret}" in plain(begun.text)
        assert codes.secret not in (await him.browser.get("/account")).text
        wrong = await him.post("/account/totp/confirm", 422, code="000000")
        assert "this code is not right" in plain(wrong.text)
        assert codes_of(wrong).secret == codes.secret
        confirmed = await him.post("/account/totp/confirm", code=codes.at(now))
        assert confirmed.headers["location"] == "/account?done=confirmed"
        assert "An authenticator is in use." in await him.look("/account")
        # the same code served already
        assert "used already" in plain((await him.post("/account/totp/remove", 422, code=codes.at(now))).text)
        await him.post("/account/totp/remove", code=codes.at(now + 30))
        assert "No authenticator is in use." in await him.look("/account?done=removed")
        await him.post("/account/totp/remove", 422, code="123456")
        with world.database.read() as connection:
            done = [row["action"] for row in audit.records(connection, actor="user:wang", action="user.")]
        assert done[:3] == ["user.totp_remove", "user.totp_confirm", "user.totp_enrol"]

    as_person(world, "wang", Role.OPERATOR, work=work)


def test_other_logins_are_seen_and_ended(world: World) -> None:
    async def work(him: Person) -> None:
        async with client(world.app, "") as elsewhere:
            for _ in range(2):
                entered = await elsewhere.post("/api/v1/session", json={"name": "wang", "password": PASSWORD})
                assert entered.status_code == 200
            elsewhere.headers.update(ENGLISH)
            assert (await him.look("/account")).count("this one") == 1
            page = (await him.browser.get("/account")).text
            (other,) = re.findall(r'name="login" value="([0-9a-f]{64})"', page)
            await him.post("/account/logins/end", login="f" * 64)  # nobody's
            assert (await elsewhere.get("/api/v1/session")).status_code == 200
            await him.post("/account/logins/end", login=other)
            assert (await elsewhere.get("/api/v1/session")).status_code == 401
            await elsewhere.post("/api/v1/session", json={"name": "wang", "password": PASSWORD})
            await him.post("/account/logins/end")
            assert (await elsewhere.get("/api/v1/session")).status_code == 401
            assert "this one" in await him.look("/account")

    as_person(world, "wang", Role.OPERATOR, work=work)


def test_nobody_ends_the_logins_of_others(world: World) -> None:
    async def owner(him: Person) -> None:
        page = await him.browser.get("/account")
        assert page.status_code == 200
        async with client(world.app, "") as thief:
            once = make_user(world.database, "li2", Role.ADMIN)
            evil = await enter(thief, "li2", once)
            with world.database.read() as connection:
                others = sa.select(Session.id).join(User).where(User.name == "wang")
                (session,) = connection.execute(others).scalars()
            assert session not in (await thief.get("/account")).text
            await evil.post("/account/logins/end", login=session)
        assert (await him.browser.get("/account")).status_code == 200

    as_person(world, "wang", Role.OPERATOR, work=owner)


def test_whose_role_asks_for_codes_is_led_to_enrol_and_sees_nothing_else_before(world: World) -> None:
    access = AccessSettings(require_totp_for=(Role.OPERATOR,))
    settings = world.app.state.house.settings
    app = create_app(settings, database=world.database, store=world.store, clock=world.clock, access=access)
    once, now = make_user(world.database, "wang", Role.OPERATOR), world.clock.now_ms() // 1000

    async def scenario() -> None:
        async with client(app, "") as browser:
            him = await enter(browser, "wang", once)
            browser.headers["accept"] = "text/html"
            led = await browser.get("/alarms")
            assert (led.status_code, led.headers["location"]) == (303, "/account")
            assert "until then nothing else opens" in await him.look("/account")
            await him.post("/account/logins/end", 403)
            codes = codes_of(await him.post("/account/totp", 200))
            await him.post("/account/totp/confirm", code=codes.at(now))
            assert (await browser.get("/alarms")).status_code == 200

    asyncio.run(scenario())
    close(app)


def test_a_key_has_no_account(world: World) -> None:
    answer = world.get("/account")
    assert (answer.status_code, answer.json()["type"]) == (403, "urn:metergate:problem:not-a-login")


def test_hostile_address_and_name_are_text(world: World) -> None:
    async def scenario() -> None:
        once = make_user(world.database, "wang", Role.VIEWER)
        async with client(world.app, "") as browser:
            him = await enter(browser, "wang", once)
            with world.database.begin() as connection:
                connection.exec_driver_sql("UPDATE user_account SET display_name = '<script>alert(1)</script>'")
                connection.exec_driver_sql("UPDATE user_session SET address = '<img src=x>'")
            page = Tags((await him.browser.get("/account")).text)
            assert "<script>alert(1)</script>" in page.text
            assert "<img src=x>" in page.text
            assert "img" not in {tag for tag, _ in page.tags}

    asyncio.run(scenario())
