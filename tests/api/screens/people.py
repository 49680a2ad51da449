"""Somebody who has logged in, for tests of pages with forms."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import httpx

from registry.roles import Role
from tests.api.routes.test_pages import Tags
from tests.api.world import World, client, make_user

PASSWORD = "a new and long password"
ENGLISH = {"accept-language": "en"}


@dataclass
class Person:
    """A browser with a login."""

    browser: httpx.AsyncClient
    token: str

    async def look(self, path: str, status: int = 200) -> str:
        """Return the text of a page."""
        answer = await self.browser.get(path)
        assert answer.status_code == status, answer.text[:500]
        return plain(answer.text)

    async def post(self, path: str, status: int = 303, **fields: Any) -> httpx.Response:
        """Send a form with the login's token."""
        answer = await self.browser.post(path, data={"csrf_token": self.token, **fields})
        assert answer.status_code == status, plain(answer.text)[:500]
        return answer


def plain(html: str) -> str:
    """The text of a page in one line."""
    return " ".join(Tags(html.replace("<", " <")).text.split())


async def enter(browser: httpx.AsyncClient, name: str, once: str) -> Person:
    """Log in with a one-time password and replace it."""
    browser.headers.update(ENGLISH)
    entered = await browser.post("/api/v1/session", json={"name": name, "password": once})
    token = entered.json()["csrf_token"]
    body = {"old": once, "new": PASSWORD}
    changed = await browser.post("/api/v1/session/password", json=body, headers={"x-csrf-token": token})
    assert changed.status_code == 204, changed.text
    return Person(browser, token)


def as_person(
    world: World,
    name: str,
    *roles: Role,
    work: Callable[[Person], Awaitable[None]],
    areas: frozenset[str] | None = None,
) -> None:
    """Run `work` as a new user with these roles."""
    once = make_user(world.database, name, *roles, areas=areas)

    async def scenario() -> None:
        async with client(world.app, "") as browser:
            await work(await enter(browser, name, once))

    asyncio.run(scenario())
