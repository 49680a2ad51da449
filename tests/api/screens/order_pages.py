"""A person before the pages of work orders: the login, and what stands in a page."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import sqlalchemy as sa

from api.access.credentials import COOKIE
from api.orders import teams
from registry import sessions, users
from registry.models_access import User
from registry.roles import Role
from registry.settings import AccessSettings
from tests.api.orders_world import BOSS
from tests.api.routes.test_pages import Tags
from tests.api.routes.test_screens import ENGLISH
from tests.api.world import HOUR, T0, World, client, make_user

NOW = T0 + 24 * HOUR
ARRIVED = "2026-03-01T23:30"  # the city of these tests keeps UTC; its clock stands half an hour later


def run(world: World, scenario: Callable[[httpx.AsyncClient, str], Awaitable[None]], name: str) -> None:
    """Let one user (called like his role) use a browser without scripts."""

    async def whole() -> None:
        async with client(world.app, "") as browser:
            token = enter(browser, world, name)
            browser.headers.update(ENGLISH)
            await scenario(browser, token)

    asyncio.run(whole())


def enter(browser: httpx.AsyncClient, world: World, name: str) -> str:
    """Make a user who is logged in already (a real password costs a second); return his page's token."""
    make_user(world.database, name, Role(name))
    with world.database.begin() as connection:
        connection.execute(sa.update(User).where(User.name == name).values(one_time=False))
        user = users.need(connection, name)
        token, csrf = sessions.open_session(connection, user.id, "", NOW, AccessSettings())[:2]
    browser.cookies.set(COOKIE, token)
    return csrf


def dispatched(world: World, number: int, who: str) -> None:
    with world.database.begin() as connection:
        teams.dispatch(connection, BOSS, number, who, now_ms=NOW - HOUR)


def words(page: str) -> str:
    return " ".join(Tags(page.replace("<", " <")).text.split())


def hidden(page: str, name: str) -> str:
    found = re.search(rf'name="{name}" value="([^"]*)"', page)
    assert found, name
    return found[1]


def actions(page: str) -> set[str]:
    found = {str(a["action"]) for tag, a in Tags(page).tags if tag == "form" and a.get("method") == "post"}
    return {action for action in found if action.startswith("/orders")}


def multipart(fields: dict[str, str], photo: bytes | None) -> dict[str, Any]:
    return {"data": fields, "files": {"photo": ("a.png", photo or b"", "image/png")}}
