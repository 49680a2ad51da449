"""Generated requests (schemathesis) for every operation of the document, each sent with a key of every role."""

from __future__ import annotations

import asyncio
import itertools
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import httpx
import pytest
import schemathesis
from fastapi import FastAPI
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import Case
from schemathesis.core import NOT_SET

from api.app import close, create_app
from api.settings import ApiSettings
from ingest.store_sqlite import SqliteStore
from metering.clock import ManualClock
from registry.database import Database
from registry.roles import Role
from tests.api.access.test_every_role import PLACES, refused_by_role, roles_of
from tests.api.world import World, client, make_key, make_world

_NO_OFFICE: Final = "urn:metergate:problem:no-office"  # this world has no broker to send commands through


def _document() -> dict[str, Any]:
    store = SqliteStore(Path(tempfile.gettempdir()) / "none", mode="read")
    app = create_app(ApiSettings(), database=Database("sqlite://"), store=store, clock=ManualClock())
    close(app)
    made: dict[str, Any] = app.openapi()
    return made


DOCUMENT: Final = _document()
SCHEMA: Final = schemathesis.openapi.from_dict(DOCUMENT)
OPERATIONS: Final = sorted(
    (method.upper(), path) for path, methods in DOCUMENT["paths"].items() for method in methods
)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    made = make_world(tmp_path_factory.mktemp("document"))
    yield made
    made.close()


@pytest.fixture(scope="module")
def keys_by_role(world: World) -> dict[Role, str]:
    return {role: make_key(world.database, role) for role in Role}


async def send(app: FastAPI, case: Case, keys: dict[Role, str], *, real: bool) -> dict[Role, httpx.Response]:
    """Send one generated request with every key. real: to an object that there is, where we know one."""
    path = case.path
    for name, value in case.path_parameters.items():
        chosen = PLACES.get(name, value) if real else value
        path = path.replace("{" + name + "}", quote(str(chosen).encode("utf-8", "surrogatepass"), safe=""))
    body: dict[str, Any] = {} if case.body is NOT_SET else {"json": case.body}
    headers = {
        name: value
        for name, value in case.headers.items()
        if name.lower() not in ("authorization", "cookie", "content-type", "host")
    }
    answers = {}
    for role, key in keys.items():
        async with client(app, key, "192.0.2.7") as caller:
            raw = [(k.encode("latin-1"), str(v).encode("latin-1", "replace")) for k, v in headers.items()]
            request = caller.build_request(case.method, path, params=case.query, **body)
            request.headers.update(httpx.Headers(raw))
            answers[role] = await caller.send(request)
    return answers


def judge(method: str, path: str, answers: dict[Role, httpx.Response]) -> None:
    """No 5xx, no undocumented status, and nothing for a role that the hand-written file does not name."""
    documented = DOCUMENT["paths"][path][method.lower()]["responses"]
    who = roles_of(f"{method} {path}")
    look = roles_of("GET /api/v1/latest")
    for role, answer in answers.items():
        told = f"{role} {method} {answer.request.url}: {answer.status_code} {answer.text[:300]}"
        if answer.status_code >= 500:
            assert answer.json()["type"] == _NO_OFFICE, told
        assert str(answer.status_code) in documented, told
        allowed = look if who == "loopback" else who
        if isinstance(allowed, frozenset) and role not in allowed:
            assert refused_by_role(answer), told


def run(world: World, keys: dict[Role, str], method: str, path: str, examples: int) -> None:
    turns = itertools.cycle((True, True, False))

    @settings(
        max_examples=examples,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=SCHEMA[path][method].as_strategy())
    def each(case: Case) -> None:
        judge(method, path, asyncio.run(send(world.app, case, keys, real=next(turns))))

    each()


@pytest.mark.parametrize(("method", "path"), OPERATIONS)
def test_no_generated_request_makes_a_500_or_gets_what_the_table_forbids(
    world: World, keys_by_role: dict[Role, str], method: str, path: str
) -> None:
    run(world, keys_by_role, method, path, 3)


@pytest.mark.long
@pytest.mark.parametrize(("method", "path"), OPERATIONS)
def test_the_same_with_many_more(world: World, keys_by_role: dict[Role, str], method: str, path: str) -> None:
    run(world, keys_by_role, method, path, 200)


def test_the_document_says_who_must_show_what_and_how_it_is_refused() -> None:
    schemes = DOCUMENT["components"]["securitySchemes"]
    assert schemes["key"]["scheme"] == "bearer"
    assert (schemes["login"]["in"], schemes["login"]["type"]) == ("cookie", "apiKey")
    for method, path in OPERATIONS:
        operation = DOCUMENT["paths"][path][method.lower()]
        assert {"401", "403", "429"} <= set(operation["responses"]), path
        who = roles_of(f"{method} {path}")
        known = [{"key": []}, {"login": []}]
        assert operation["security"] == ([] if who == "anybody" else [{}, *known] if who == "loopback" else known)
