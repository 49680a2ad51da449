"""Every route with every role, with none, with keys that are over: the application does what routes.toml says."""

from __future__ import annotations

import asyncio
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
from fastapi import FastAPI

from api.access.resolver import TableError, check, routes_of
from api.access.table import TABLE
from registry import keys
from registry.roles import Role, console
from tests.api.world import T0, World, client, make_key, make_world

_FILE: Final[dict[str, Any]] = tomllib.loads((Path(__file__).parent / "routes.toml").read_text("utf-8"))
PLACES: Final[dict[str, str]] = _FILE["places"]
ROUTES: Final[dict[str, Any]] = _FILE["routes"]
ELSEWHERE: Final = "192.0.2.7"
ALL: Final = frozenset(Role)


def roles_of(route: str) -> frozenset[Role] | str:
    """Who may use a route: roles, or one of the words anybody, known, loopback."""
    who = ROUTES[route]
    if who in ("anybody", "known", "loopback"):
        return str(who)
    return frozenset(map(Role, _FILE["who"][who] if isinstance(who, str) else who))


def address_of(route: str) -> tuple[str, str]:
    """(method, address) with the file's objects in the places of names."""
    method, _, path = route.partition(" ")
    for name, value in PLACES.items():
        path = path.replace("{" + name + "}", value)
    assert "{" not in path, f"{route}: say in [places] of routes.toml which object stands there"
    return method, path


@dataclass(frozen=True)
class House:
    """A world and keys for it. over: keys that are good no more."""

    world: World
    by_role: dict[Role, str]
    read_only: str
    limited: str
    over: dict[str, str]


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    world = make_world(tmp_path_factory.mktemp("roles"))
    base = world.database
    expired = make_key(base, *Role, expires_at=T0 + 1)
    revoked = make_key(base, *Role)
    with base.begin() as connection:
        keys.revoke(connection, console("test"), revoked.rpartition("_")[0][:11], at=T0)
    yield House(
        world,
        {role: make_key(base, role) for role in Role},
        make_key(base, *Role, read_only=True),
        make_key(base, *Role, areas=frozenset({"north"})),
        {"expired": expired, "revoked": revoked, "changed": world.key[:-1] + ("A" if world.key[-1] != "A" else "B")},
    )
    world.close()


def ask(app: FastAPI, route: str, key: str, *, peer: str = ELSEWHERE, **headers: str) -> httpx.Response:
    method, path = address_of(route)

    async def once() -> httpx.Response:
        async with client(app, key, peer) as caller:
            return await caller.request(method, path, headers=headers)

    return asyncio.run(once())


def refused_by_role(answer: httpx.Response) -> bool:
    """True when the caller's role (or being nobody) was the reason; what a route says itself is another one."""
    kind = (
        answer.json()["type"].rpartition(":")[2] if "problem+json" in answer.headers.get("content-type", "") else ""
    )
    return answer.status_code == 401 or (answer.status_code == 403 and kind in ("forbidden", "read-only"))


def test_file_table_and_application_name_the_same_routes(house: House) -> None:
    running = {f"{method} {path}" for method, path in routes_of(house.world.app)}
    assert running == set(ROUTES)
    assert running == {f"{method} {path}" for method, path in TABLE}


@pytest.mark.parametrize("route", sorted(ROUTES))
def test_every_role_gets_what_the_file_says(house: House, route: str) -> None:
    who = roles_of(route)
    for role, key in house.by_role.items():
        answer = ask(house.world.app, route, key)
        if who == "loopback":
            allowed = role in frozenset(map(Role, _FILE["who"]["look"]))
        else:
            allowed = isinstance(who, str) or role in who
        assert refused_by_role(answer) != allowed, f"{role} at {route}: {answer.status_code} {answer.text[:200]}"
        assert answer.status_code != 500


@pytest.mark.parametrize("route", sorted(ROUTES))
def test_nobody_and_keys_that_are_over_get_401(house: House, route: str) -> None:
    for sort, key in {"none": "", **house.over}.items():
        answer = ask(house.world.app, route, key)
        if roles_of(route) == "anybody":
            assert answer.status_code != 401 or answer.json()["type"].endswith((":login-failed", ":code-needed"))
            continue
        assert answer.status_code == 401, f"{sort} at {route}"
        assert answer.headers["www-authenticate"].startswith("Bearer")
        assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("route", sorted(ROUTES))
def test_a_read_only_key_changes_nothing(house: House, route: str) -> None:
    answer = ask(house.world.app, route, house.read_only)
    if route.startswith("GET "):
        assert not refused_by_role(answer)
    elif roles_of(route) != "anybody":
        assert (answer.status_code, answer.json()["type"]) == (403, "urn:metergate:problem:read-only")


def test_an_address_that_is_nowhere_tells_nothing_to_nobody(house: House) -> None:
    async def scenario() -> None:
        async with client(house.world.app, "", ELSEWHERE) as nobody:
            assert (await nobody.get("/api/v1/nothing")).status_code == 401
            assert (await nobody.put("/api/v1/meters")).status_code == 401
        async with client(house.world.app, house.by_role[Role.VIEWER], ELSEWHERE) as viewer:
            assert (await viewer.get("/api/v1/nothing")).status_code == 404
            assert (await viewer.put("/api/v1/meters")).status_code == 405

    asyncio.run(scenario())


@pytest.mark.parametrize("route", [route for route in sorted(ROUTES) if roles_of(route) == "loopback"])
def test_what_watches_is_open_on_this_machine_alone(house: House, route: str) -> None:
    app = house.world.app
    assert ask(app, route, "", peer="127.0.0.1").status_code == 200
    assert ask(app, route, "", peer="::1").status_code == 200
    for header in ("Forwarded", "X-Forwarded-For", "X-Real-IP", "Via", "X-Forwarded-Host"):
        assert ask(app, route, "", peer="127.0.0.1", **{header: "127.0.0.1"}).status_code == 401, header
    # it speaks of the whole house
    assert ask(app, route, house.limited).status_code == 403


def test_a_route_without_a_line_and_a_line_without_a_route_stop_the_start(house: House) -> None:
    lines = dict(TABLE)
    del lines["GET", "/api/v1/latest"]
    with pytest.raises(TableError, match="GET /api/v1/latest has no line"):
        check(house.world.app, lines)
    with pytest.raises(TableError, match="GET /api/v1/gone has a line and no route"):
        check(house.world.app, [*TABLE, ("GET", "/api/v1/gone")])


def test_a_route_that_came_in_behind_the_check_is_refused_to_everybody(tmp_path: Path) -> None:
    world = make_world(tmp_path)

    async def secret() -> str:
        return "secret"

    world.app.add_api_route("/api/v1/secret", secret)
    answer = world.get("/api/v1/secret")
    assert (answer.status_code, answer.json()["type"]) == (403, "urn:metergate:problem:forbidden")
    world.close()
