"""Limits in front of the routes, without sockets."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import httpx
import pytest
from pydantic import ValidationError

from api.settings import ApiSettings
from metering.clock import SystemClock
from metering.reading import Reading
from metering.store import Key
from tests.api.world import World, client, make_world


class HeldStore:
    """A store whose answers are held back until `go` is set."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.asked = threading.Event()

    def get(self, keys: object) -> dict[Key, Reading]:
        self.asked.set()
        self.go.wait(30)
        return {}

    def __getattr__(self, name: str) -> object:
        raise AssertionError(f"nobody should call {name}")


def held_world(tmp_path: Path, **settings: float) -> tuple[World, HeldStore]:
    store = HeldStore()
    chosen = ApiSettings.model_validate(settings)
    world = make_world(tmp_path, settings=chosen, store=store)  # type: ignore[arg-type]  # only get() is called
    world.app.state.house.workers._clock = SystemClock()
    return world, store


def test_more_requests_than_allowed_are_told_to_come_again_and_livez_is_not(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with client(world.app) as caller:
            slow = [asyncio.create_task(caller.get("/readyz")) for _ in range(2)]
            assert await asyncio.to_thread(store.asked.wait, 30)
            busy = await caller.get("/api/v1/latest")
            assert (busy.status_code, busy.json()["type"]) == (503, "urn:metergate:problem:busy")
            assert (busy.headers["retry-after"], busy.headers["connection"]) == ("1", "close")
            assert (await caller.get("/livez")).status_code == 200
            store.go.set()
            assert {(await task).status_code for task in slow} == {200}
            assert (await caller.get("/api/v1/latest")).status_code == 200

    world, store = held_world(tmp_path, max_requests=2)
    asyncio.run(scenario())
    store.go.set()
    world.database.close()


def test_a_store_that_hangs_is_a_503_within_the_time_for_answers(tmp_path: Path) -> None:
    world, store = held_world(tmp_path, response_timeout_s=0.2)
    answer = world.get("/readyz")
    assert (answer.status_code, answer.json()["type"]) == (503, "urn:metergate:problem:too-slow")
    store.go.set()
    world.database.close()


def test_a_body_is_counted_whatever_its_header_says(world: World) -> None:
    async def pieces() -> object:
        for _ in range(20):
            yield b"x" * 65_536

    answer = world.request("GET", "/livez", content=pieces())
    assert (answer.status_code, answer.json()["type"]) == (413, "urn:metergate:problem:body-too-large")


def test_every_answer_carries_the_headers_that_keep_browsers_careful(world: World) -> None:
    answers: list[httpx.Response] = [
        world.get("/"),
        world.get("/api/v1/latest"),
        world.get("/nowhere"),
        world.get("/api/v1/latest?format=csv"),
        world.get("/livez", headers={"host": "evil.example"}),
    ]
    for answer in answers:
        assert answer.headers["x-content-type-options"] == "nosniff"
        # with no-referrer a browser would send `Origin: null` with the form of the home page
        careful = "same-origin" if answer.request.url.path == "/" else "no-referrer"
        assert answer.headers["referrer-policy"] == careful
        assert answer.headers["cross-origin-resource-policy"] == "same-origin"
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert "cache-control" in answer.headers
        assert "access-control-allow-origin" not in answer.headers


def test_further_names_are_ours_when_the_settings_say_so(tmp_path: Path) -> None:
    world = make_world(tmp_path, settings=ApiSettings(names=("metergate.example", "192.0.2.1")))
    for host in ("metergate.example", "Metergate.EXAMPLE:8080", "metergate.example.", "192.0.2.1:443", "localhost"):
        assert world.get("/livez", headers={"host": host}).status_code == 200, host
    for host in ("evil.example", "metergate.example.evil.example", "metergate.example:x", ""):
        answer = world.get("/livez", headers={"host": host})
        assert answer.status_code == 421, host
    assert "metergate.example" in answer.json()["detail"]
    world.close()


def test_a_name_that_is_an_address_of_a_page_is_refused_in_the_settings() -> None:
    with pytest.raises(ValidationError, match="is not a host name"):
        ApiSettings(names=("https://metergate.example",))
