"""The door of docker-compose.yml on a real nginx, before a real API."""

from __future__ import annotations

import http.client
import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from registry.database import Database
from tests.api.process import real_key
from tests.brokers import free_port, wait_for_port
from tests.deploy.tools import DEPLOY, program


@contextmanager
def door(folder: Path) -> Iterator[tuple[int, int]]:
    """Open the door; hand out its port and the port that it expects the API on."""
    port, behind = free_port(), free_port()
    text = (DEPLOY / "door" / "nginx.conf").read_text("utf-8")
    for said, here in {
        "listen 8081;": f"listen 127.0.0.1:{port};",
        "http://127.0.0.1:8080;": f"http://127.0.0.1:{behind};",
    }.items():
        assert text.count(said) == 1, said
        text = text.replace(said, here)
    config = folder / "nginx.conf"
    config.write_text(text.replace("/tmp/", f"{folder}/").replace("/dev/stderr", f"{folder}/error.log"))
    if os.geteuid() == 0:
        for path in (folder, *folder.parents):  # nginx lends its work to nobody, who must reach the folder
            if path.is_relative_to("/tmp") and path != Path("/tmp"):
                path.chmod(path.stat().st_mode | 0o011)
    process = subprocess.Popen([program("nginx"), "-c", str(config), "-g", "daemon off;"], stdin=subprocess.DEVNULL)
    try:
        wait_for_port(port)
        yield port, behind
    finally:
        process.terminate()
        process.wait(60)


@dataclass(frozen=True)
class Behind:
    """The port of a door, and a key of the API behind it."""

    port: int
    key: str


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Behind]:
    """A door with an API behind it."""
    folder = tmp_path_factory.mktemp("house")
    with door(tmp_path_factory.mktemp("door")) as (port, behind):
        env = {
            **os.environ,
            "METERGATE__REGISTRY__URL": f"sqlite:///{folder / 'registry.db'}",
            "METERGATE__STORE__PATH": str(folder / "readings.db"),
            "METERGATE__API__PORT": str(behind),
        }
        with (folder / "api.log").open("wb") as log:
            process = subprocess.Popen([program("metergate"), "api"], cwd=folder, env=env, stdout=log, stderr=log)
        try:
            wait_for_port(behind)
            yield Behind(port, real_key(Database(env["METERGATE__REGISTRY__URL"])))
        finally:
            process.terminate()
            process.wait(60)


def ask(port: int, path: str, **headers: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def test_the_door_is_well_without_the_api(tmp_path: Path) -> None:
    with door(tmp_path) as (port, _):
        assert ask(port, "/door-health")[0] == 204
        assert ask(port, "/livez")[0] == 502


def test_what_asks_on_loopback_gets_through_with_a_key(api: Behind) -> None:
    known = {"Authorization": f"Bearer {api.key}"}
    status, body = ask(api.port, "/api/v1/gateways", **known)
    assert (status, json.loads(body)["items"]) == (200, [])
    assert b"metergate_api_requests_total" in ask(api.port, "/metrics", **known)[1]


def test_nobody_is_taken_for_this_machine_behind_the_door(api: Behind) -> None:
    """The door shares the API's loopback: what it hands on says so, and is not open as on loopback."""
    for path in ("/livez", "/readyz", "/metrics", "/api/v1/gateways"):
        assert ask(api.port, path)[0] == 401, path
        assert ask(api.port, path, **{"X-Forwarded-For": "127.0.0.1"})[0] == 401, path


def test_a_neighbour_on_the_network_is_refused_by_the_api(api: Behind) -> None:
    """Another container would have to call the door by its name, and the API answers to no name but loopback."""
    status, body = ask(api.port, "/livez", Host="door:8081")
    assert status == 421
    assert b"foreign-host" in body
