"""Starting and ending: loopback only, quiet, clean and soon."""

from __future__ import annotations

import asyncio
import signal
import socket
import time
from contextlib import suppress
from pathlib import Path
from typing import cast

import httpx
import pytest
from pydantic import ValidationError

from api.service import address, bind, run_api
from api.settings import ApiSettings, is_loopback
from metering.clock import SystemClock
from metering.errors import SettingsError
from metering.settings import parse
from tests.api.process import read_all, real_key, served, until
from tests.api.world import make_world


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.5", "example.org", "", "127.0.0.1.evil", "::1%lo"])
def test_an_address_that_others_can_reach_is_refused(host: str) -> None:
    assert not is_loopback(host)
    with pytest.raises(ValidationError, match="must be a loopback address"):
        ApiSettings(host=host)


def test_the_refusal_names_file_line_and_what_is_allowed() -> None:
    with pytest.raises(SettingsError) as refused:
        parse('port = 1\nhost = "0.0.0.0"\n', ApiSettings, name="x.toml")
    (problem,) = refused.value.problems
    assert problem.startswith('x.toml:2: host = "0.0.0.0": ')
    assert "must be a loopback address (127.0.0.1 or ::1)" in problem


def test_settings_made_past_every_check_still_bind_nothing_else() -> None:
    with pytest.raises(SettingsError, match="must be a loopback address"):
        bind(ApiSettings.model_construct(host="0.0.0.0", port=0, front="none", tls_cert=None, tls_key=None))


@pytest.mark.parametrize(("host", "begin"), [("localhost", "http://127.0.0.1:"), ("127.0.0.2", "http://127.0.0.2:")])
def test_port_0_takes_a_free_port_and_says_which(host: str, begin: str) -> None:
    with bind(ApiSettings(host=host, port=0)) as listener:
        assert address(listener).startswith(begin)
        assert not address(listener).endswith(":0")


def test_answers_are_not_held_back_for_a_fuller_packet() -> None:
    async def scenario() -> int:
        made: asyncio.Queue[asyncio.Transport] = asyncio.Queue()

        class Caller(asyncio.Protocol):
            def connection_made(self, transport: asyncio.BaseTransport) -> None:
                made.put_nowait(cast(asyncio.Transport, transport))

        loop = asyncio.get_running_loop()
        with bind(ApiSettings(port=0)) as listener:
            server = await loop.create_server(Caller, sock=listener)
            with socket.create_connection(listener.getsockname()):
                transport = await made.get()
                answers_leave_at_once: int = transport.get_extra_info("socket").getsockopt(
                    socket.IPPROTO_TCP, socket.TCP_NODELAY
                )
                transport.abort()
            server.close()
        return answers_leave_at_once

    # without it Nagle's algorithm waits for delayed acknowledgements: 44 ms for each answer
    assert asyncio.run(scenario()) == 1


def test_a_port_that_is_taken_is_named() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(SettingsError, match=f"api.port = {port}: taken by another program"):
            bind(ApiSettings(port=port))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_cleanly_and_soon_although_callers_hang_on(tmp_path: Path, number: int) -> None:
    with served(tmp_path) as api:
        with api.connect() as idle, api.connect() as half, api.connect() as deaf, api.connect() as slow:
            idle.sendall(b"GET /livez HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n")
            half.sendall(b"GET /livez HTTP/1.1\r\n")
            slow.sendall(b"POST /livez HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-length: 5\r\n\r\n")
            known = b"host: 127.0.0.1\r\nauthorization: Bearer " + api.key.encode() + b"\r\n\r\n"
            deaf.sendall((b"GET /docs/swagger-ui-bundle.js HTTP/1.1\r\n" + known) * 8)
            assert until(lambda: api.connections() == 4)
            before = time.monotonic()
            code, out, error = api.stop(number)
            took = time.monotonic() - before
            with suppress(OSError):
                read_all(half)
        assert (code, out) == (0, b"")
        assert error == b""
        assert took < 20.0  # 0.8 s when nothing else runs; this machine may be busy


def test_it_prints_nothing_on_stdout_whatever_is_asked(tmp_path: Path) -> None:
    with served(tmp_path) as api:
        for path in ("/", "/api/v1/latest", "/nowhere", "/metrics", "/api/v1/meters?limt=1"):
            api.get(path)
        api.ask(b"nonsense\r\n\r\n")
        assert api.stop()[1] == b""


def test_it_ends_with_the_house_that_runs_it(tmp_path: Path) -> None:
    async def scenario() -> None:
        stop = asyncio.Event()
        found: list[str] = []

        def ready(where: str) -> None:
            found.append(where)

        serving = asyncio.create_task(
            run_api(
                ApiSettings(port=0),
                database=world.database,
                store=world.store,
                clock=SystemClock(),
                stop=stop,
                on_ready=ready,
            )
        )
        while not found:
            await asyncio.sleep(0.01)
            assert not serving.done()
        async with httpx.AsyncClient(base_url=found[0], headers={"authorization": f"Bearer {key}"}) as caller:
            assert (await caller.get("/api/v1/latest")).status_code == 200
        stop.set()
        await asyncio.wait_for(serving, 60)
        async with httpx.AsyncClient(base_url=found[0]) as caller:
            with pytest.raises(httpx.ConnectError):
                await caller.get("/livez")

    world = make_world(tmp_path)
    key = real_key(world.database)
    asyncio.run(scenario())
    world.close()


def test_cancelling_it_frees_the_port(tmp_path: Path) -> None:
    async def scenario() -> int:
        found: list[str] = []
        serving = asyncio.create_task(
            run_api(
                ApiSettings(port=0),
                database=world.database,
                store=world.store,
                clock=SystemClock(),
                stop=asyncio.Event(),
                on_ready=found.append,
            )
        )
        while not found:
            await asyncio.sleep(0.01)
            assert not serving.done()
        serving.cancel()
        with suppress(asyncio.CancelledError):
            await serving
        return int(found[0].rpartition(":")[2])

    world = make_world(tmp_path)
    port = asyncio.run(scenario())
    bind(ApiSettings(port=port)).close()
    world.close()
