"""Every address of the OpenAPI document: what it says is true, and nothing sent to it makes a 500."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from api.app import close, create_app
from api.settings import ApiSettings
from ingest.store_sqlite import SqliteStore
from metering.clock import ManualClock
from metering.reading import Reading
from registry.database import Database
from tests.api.access.test_every_role import PLACES as OBJECTS
from tests.api.world import World, make_world


def _document() -> dict[str, Any]:
    database = Database("sqlite://")
    app = create_app(
        ApiSettings(), database=database, store=SqliteStore(Path("none"), mode="read"), clock=ManualClock()
    )
    close(app)
    made: dict[str, Any] = app.openapi()
    return made


DOCUMENT = _document()
PATHS = sorted(path for path, methods in DOCUMENT["paths"].items() if "get" in methods)
PLACES = {"{" + name + "}": value for name, value in OBJECTS.items()}
NOT_THERE = {
    "/api/v1/imports/{batch}",
    "/api/v1/imports/{batch}/rows",
    "/api/v1/office-readings/{number}",
    "/api/v1/jobs/{number}/result",
    "/api/v1/webhooks/{number}",
    "/api/v1/webhook-deliveries/{delivery}",
    "/api/v1/notification-rules/{number}",
    "/api/v1/billing/reconciliation/{kind}/usage-points/{usage_point}/{period}",
}
"""Addresses of objects that the world of these tests does not have."""


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """One for all: nothing here changes anything."""
    made = make_world(tmp_path_factory.mktemp("every"))
    yield made
    made.close()


NASTY = [
    "' OR '1'='1",
    '"; DROP MEASUREMENT reading; --',
    "|> drop()",
    "a\nb",
    "a\x00b",
    "=cmd|' /C calc'!A0",
    "<script>alert(1)</script>",
    "../../etc/passwd",
    "..\\..\\x",
    "%",
    "%zz",
    "\ud800",
    "\u202e",
    "表底数",
    "🔥" * 64,
    "a" * 65,
    "a" * 5000,
    "-1",
    "1e999",
    "NaN",
    "0x10",
    "9" * 400,
    "{}",
    "[]",
    "null",
    "${jndi:ldap://x}",
    "{{7*7}}",
    " ",
    "",
]


def filled(path: str) -> str:
    for place, value in PLACES.items():
        path = path.replace(place, value)
    assert "{" not in path, f"{path}: say in [places] of tests/api/access/routes.toml what stands there"
    return path


def escape(text: str) -> str:
    return quote(text.encode("utf-8", "surrogatepass"), safe="")


@pytest.mark.parametrize("path", PATHS)
def test_every_address_answers_and_its_success_is_the_documented_one(world: World, path: str) -> None:
    answer = world.get(filled(path))
    if path in NOT_THERE:
        assert answer.status_code == 404
        return
    assert answer.status_code == 200
    documented = DOCUMENT["paths"][path]["get"]["responses"]["200"]["content"]
    assert answer.headers["content-type"].partition(";")[0] in documented


@pytest.mark.parametrize("path", PATHS)
def test_every_refusal_of_every_address_is_a_problem_document(world: World, path: str) -> None:
    address = filled(path)
    methods = {method.upper() for method in DOCUMENT["paths"][path]}
    missing = sorted({"POST", "DELETE", "PUT"} - methods)[:2]
    refused = [
        (world.get(f"{address}?limitt=1"), 422),
        (world.get(f"{address}?limit=1&limit=1"), 422),
        (world.get(f"{address}/nothing/here"), 404),
        (world.get(f"{address}/"), 404),
        *((world.request(method, address), 405) for method in missing),
        (world.get(address, headers={"host": "evil.example"}), 421),
        (world.request("GET", address, content=b"x" * (ApiSettings().max_body_bytes + 1)), 413),
    ]
    for answer, status in refused:
        assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
        problem = answer.json()
        assert problem["status"] == status
        assert problem["type"].startswith("urn:metergate:problem:")
        assert problem["title"]
        assert problem["detail"]
        assert answer.headers["x-content-type-options"] == "nosniff"
    assert refused[4][0].headers["allow"] in methods


@pytest.mark.parametrize("path", [path for path in PATHS if "{" in path])
def test_a_nasty_name_in_the_path_is_a_404_or_422(world: World, path: str) -> None:
    for nasty in NASTY:
        address = path
        for place in PLACES:
            address = address.replace(place, escape(nasty))
        answer = world.get(address)
        assert answer.status_code in (404, 422), f"{nasty!r} in {path}"
        assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("path", PATHS)
def test_no_value_of_any_parameter_makes_a_500(world: World, path: str) -> None:
    chance = random.Random(f"metergate {path}")
    names = [p["name"] for p in DOCUMENT["paths"][path]["get"].get("parameters", ()) if p["in"] == "query"]
    alphabet = "aZ09 -+=:&;%'\"<>|\\/\n\t\0\x7fé表\u2028\ufffd{}[]"
    for name in [*names, "unknown"]:
        random_texts = ["".join(chance.choices(alphabet, k=chance.randint(1, 40))) for _ in range(8)]
        for value in [*NASTY, *random_texts]:
            answer = world.get(f"{filled(path)}?{name}={escape(value)}")
            allowed = (404, 422) if path in NOT_THERE else (422,) if "\0" in value else (200, 422)
            assert answer.status_code in allowed, f"{name}={value!r}"
            if answer.status_code == 422:
                assert answer.headers["content-type"] == "application/problem+json"
                assert answer.json()["errors"][0]["name"] == name


@pytest.mark.parametrize("path", PATHS)
def test_head_answers_like_get_without_a_body(world: World, path: str) -> None:
    answer = world.request("HEAD", filled(path))
    assert (answer.status_code, answer.content) == (404 if path in NOT_THERE else 200, b"")


def test_head_of_a_stream_reads_only_its_first_page(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.formats.STREAM_PAGE", 5)
    asked: list[int] = []
    real = world.store.range

    def counted(*arguments: Any, **more: Any) -> Iterator[Reading]:
        asked.append(1)
        return real(*arguments, **more)

    monkeypatch.setattr(world.store, "range", counted)
    answer = world.request("HEAD", "/api/v1/meters/G-0001/readings?format=csv")
    assert (answer.status_code, answer.content, len(asked)) == (200, b"", 1)
    assert world.get("/api/v1/meters/G-0001/readings?format=csv").text.count("volume_standard") == 24
    assert len(asked) == 1 + 5


def test_every_operation_is_described_with_all_its_refusals() -> None:
    for path, methods in DOCUMENT["paths"].items():
        for operation in methods.values():
            assert operation["summary"], path
            assert operation["description"], path
            assert operation["tags"], path
            refusals = {"401", "403", "404", "413", "421", "422", "429", "500", "503"}
            assert refusals <= set(operation["responses"]), path
            refusal = operation["responses"]["422"]["content"]["application/problem+json"]
            assert refusal["schema"] == {"$ref": "#/components/schemas/Problem"}


def test_every_reference_of_the_document_leads_somewhere() -> None:
    def references(node: Any) -> list[str]:
        if isinstance(node, dict):
            own = [node["$ref"]] if isinstance(node.get("$ref"), str) else []
            return own + [found for inner in node.values() for found in references(inner)]
        return [found for inner in node for found in references(inner)] if isinstance(node, list) else []

    schemas = DOCUMENT["components"]["schemas"]
    found = references(DOCUMENT)
    assert len(found) > 50
    assert all(reference.removeprefix("#/components/schemas/") in schemas for reference in found)
    assert not {"HTTPValidationError", "ValidationError"} & set(schemas)


def test_names_of_operations_are_words_and_no_parameter_is_ever_null() -> None:
    operations = [operation for methods in DOCUMENT["paths"].values() for operation in methods.values()]
    names = [operation["operationId"] for operation in operations]
    assert len(set(names)) == len(names)
    assert "list_readings" in names
    parameters = [parameter for operation in operations for parameter in operation.get("parameters", ())]
    assert len(parameters) > 30
    assert all("type" in parameter["schema"] and "anyOf" not in parameter["schema"] for parameter in parameters)
