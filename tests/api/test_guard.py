"""What one caller may cost, over real sockets against the real process."""

from __future__ import annotations

import http.client
import json
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from tests.api.process import Served, read_all, served, status_of, until

HEAD = b"GET /livez HTTP/1.1\r\nhost: 127.0.0.1\r\n"
MIB = 1024 * 1024


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    limits = {
        "header_timeout_s": 1.0,
        "body_timeout_s": 1.0,
        "idle_timeout_s": 1,
        "write_timeout_s": 1.0,
        "max_connections": 500,
    }
    with served(tmp_path_factory.mktemp("guard"), **limits) as running:
        yield running


def problem(answer: bytes) -> dict[str, object]:
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"content-type: application/problem+json" in head
    found: dict[str, object] = json.loads(body)
    return found


def post(length: bytes) -> bytes:
    return b"POST /livez HTTP/1.1\r\nhost: 127.0.0.1\r\n" + length + b"\r\n\r\n"


def test_a_body_of_300_mb_is_refused_while_memory_stays(api: Served) -> None:
    before = api.rss()
    peak = before
    caller = http.client.HTTPConnection("127.0.0.1", api.port, timeout=30)
    caller.putrequest("POST", "/livez")
    caller.putheader("content-length", str(300 * MIB))
    caller.endheaders()
    piece = b"x" * MIB
    with suppress(BrokenPipeError, ConnectionResetError):
        for _ in range(300):
            caller.send(piece)
            peak = max(peak, api.rss())
    answer = caller.getresponse()
    assert answer.status == 413
    assert json.loads(answer.read())["type"] == "urn:metergate:problem:body-too-large"
    caller.close()
    assert peak - before < 30 * MIB


def test_a_body_without_a_length_is_counted_while_it_comes(api: Served) -> None:
    before = api.rss()
    peak = before
    with api.connect() as caller:
        caller.sendall(post(b"transfer-encoding: chunked"))
        piece = b"10000\r\n" + b"y" * 65536 + b"\r\n"
        with suppress(BrokenPipeError, ConnectionResetError):
            for _ in range(1600):  # 100 MB
                caller.sendall(piece)
                peak = max(peak, api.rss())
            caller.sendall(b"0\r\n\r\n")
        answer = read_all(caller)
    assert status_of(answer) == 413
    assert peak - before < 30 * MIB


def test_a_body_of_the_largest_size_is_taken_and_the_connection_goes_on(api: Served) -> None:
    caller = http.client.HTTPConnection("127.0.0.1", api.port, timeout=30)
    for _ in range(2):
        caller.request("POST", "/livez", body=b"z" * MIB, headers={"authorization": f"Bearer {api.key}"})
        answer = caller.getresponse()
        assert answer.status == 405
        answer.read()
    caller.close()


def test_a_length_that_is_no_number_or_comes_twice_is_refused(api: Served) -> None:
    for length in (b"content-length: -1", b"content-length: 1e9", b"content-length: 3\r\ncontent-length: 4"):
        status, answer = api.ask(post(length) + b"abc")
        assert (status, problem(answer)["type"]) == (400, "urn:metergate:problem:not-http")


def test_a_length_and_chunks_together_are_refused(api: Served) -> None:
    status, _ = api.ask(post(b"content-length: 3\r\ntransfer-encoding: chunked") + b"0\r\n\r\n")
    assert status == 400


def test_headers_that_come_byte_by_byte_end_with_408(api: Served) -> None:
    with api.connect() as caller:
        answer = b""
        caller.settimeout(0.1)
        end = time.monotonic() + 20
        for byte in HEAD + b"x: " + b"a" * 10_000:
            with suppress(OSError):
                caller.send(bytes([byte]))
            with suppress(TimeoutError):
                answer += caller.recv(65536)
            if answer or time.monotonic() > end:
                break
    assert status_of(answer) == 408
    assert problem(answer)["type"] == "urn:metergate:problem:slow-headers"


def test_empty_lines_do_not_keep_a_connection(api: Served) -> None:
    with api.connect() as caller:
        caller.sendall(HEAD + b"\r\n")
        caller.settimeout(0.2)
        answer = b""
        end = time.monotonic() + 20
        closed = False
        while not closed and time.monotonic() < end:
            with suppress(TimeoutError, ConnectionResetError):
                piece = caller.recv(65536)
                answer += piece
                closed = not piece
            with suppress(OSError):
                caller.send(b"\r\n")
    assert status_of(answer) == 200
    assert closed


def test_a_connection_that_says_nothing_is_closed(api: Served) -> None:
    with api.connect() as caller:
        assert status_of(read_all(caller)) == 408


def test_a_connection_that_asks_nothing_more_is_closed(api: Served) -> None:
    with api.connect() as caller:
        caller.sendall(HEAD + b"\r\n")
        assert status_of(read_all(caller)) == 200


def test_a_body_that_comes_too_slowly_ends_with_408(api: Served) -> None:
    status, answer = api.ask(post(b"content-length: 100") + b"abc")
    assert (status, problem(answer)["type"]) == (408, "urn:metergate:problem:slow-body")


def test_800_half_open_requests_do_not_stay_and_shut_nobody_out(api: Served) -> None:
    with ExitStack() as stack:
        for _ in range(800):
            caller = stack.enter_context(api.connect())
            with suppress(OSError):
                caller.sendall(HEAD)
        assert api.get("/api/v1/latest")[0] == 200
        assert until(lambda: api.connections() == 0)
    assert api.get("/livez")[0] == 200


def test_when_all_connections_are_taken_those_that_ask_nothing_make_room(tmp_path: Path) -> None:
    with served(tmp_path, max_connections=50, header_timeout_s=120.0) as api, ExitStack() as stack:
        callers = [stack.enter_context(api.connect()) for _ in range(200)]
        for caller in callers:
            with suppress(OSError):
                caller.sendall(HEAD)
        assert until(lambda: api.connections() <= 50)
        assert api.get("/livez")[0] == 200
        assert status_of(read_all(callers[0])) in (503, 0)  # 0: the answer was lost with the unread bytes
        assert b'metergate_api_refused_total{reason="too-many-connections"}' in api.get("/metrics")[1]
        callers[-1].sendall(b"connection: close\r\n\r\n")
        assert status_of(read_all(callers[-1])) == 200


@pytest.mark.parametrize(
    ("request_bytes", "status", "sort"),
    [
        (HEAD + b"x: " + b"a" * 20_000 + b"\r\n\r\n", 431, "headers-too-large"),
        (HEAD + b"x: " + b"a" * 5_000_000, 431, "headers-too-large"),
        (HEAD + b"x: 1\r\n" * 100 + b"\r\n", 431, "too-many-headers"),
        (b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n", 414, "address-too-long"),
        (b"GET /" + b"a" * 5_000_000, 414, "address-too-long"),
        (b"nonsense\r\n\r\n", 400, "not-http"),
        (b"\x16\x03\x01\x02\x00\x01\x00", 400, "not-http"),
        (b"GET /livez HTTP/1.1\r\nhost: 127.0.0.1\r\nbad header\r\n\r\n", 400, "not-http"),
        (b"GET /livez HTTP/1.1\r\nhost: 127.0.0.1\r\nx: a\x00b\r\n\r\n", 400, "not-http"),
        (b"GET /\xff\xfe HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n", 400, "not-http"),
        (b"CONNECT evil.example:443 HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n", 400, "not-http"),
        (b"GET /livez HTTP/1.1\r\nhost: evil.example\r\n\r\n", 421, "foreign-host"),
        (b"GET /livez HTTP/1.1\r\nhost: 127.0.0.1.evil.example\r\n\r\n", 421, "foreign-host"),
        (b"GET /livez HTTP/1.1\r\nhost: 127.0.0.1\r\nhost: evil.example\r\n\r\n", 421, "foreign-host"),
        (b"GET /livez HTTP/1.1\r\nhost: 192.168.1.1\r\n\r\n", 421, "foreign-host"),
        (b"GET /livez HTTP/1.0\r\n\r\n", 421, "foreign-host"),
    ],
)
def test_a_request_that_cannot_be_one_is_refused_with_a_problem(
    api: Served, request_bytes: bytes, status: int, sort: str
) -> None:
    before = api.rss()
    found, answer = api.ask(request_bytes)
    assert found == status
    assert problem(answer)["type"] == f"urn:metergate:problem:{sort}"
    assert b"connection: close" in answer.lower()
    assert api.rss() - before < 20 * MIB


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1", "127.0.0.1:8080", "127.9.9.9", "[::1]", "[::1]:80"])
def test_names_of_this_machine_are_answered(api: Served, host: str) -> None:
    request = f"GET /livez HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n"
    assert api.ask(request.encode())[0] == 200


def test_an_upgrade_is_answered_as_a_plain_request(api: Served) -> None:
    status, _ = api.ask(HEAD + b"connection: upgrade, close\r\nupgrade: websocket\r\nsec-websocket-key: x\r\n\r\n")
    assert status == 200


def test_chunks_that_are_all_overhead_are_cut_off(api: Served) -> None:
    with api.connect() as caller:
        caller.sendall(post(b"transfer-encoding: chunked"))
        with suppress(OSError):
            for _ in range(100):
                caller.sendall(b"1;" + b"e" * 60_000 + b"\r\nx\r\n")
        assert read_all(caller) == b""


def test_pipelined_requests_are_answered_in_order_and_a_flood_of_them_is_not(api: Served) -> None:
    with api.connect() as caller:
        last = HEAD + b"connection: close\r\n\r\n"
        caller.sendall((HEAD + b"\r\n") * 9 + last)
        assert read_all(caller).count(b'{"status":"ok"}') == 10
    with api.connect() as caller:
        with suppress(OSError):
            caller.sendall((HEAD + b"\r\n") * 5000)
        assert read_all(caller).count(b'{"status":"ok"}') < 5000


def test_garbage_behind_a_good_request_does_not_spoil_its_answer(api: Served) -> None:
    status, answer = api.ask(HEAD + b"\r\n\x00\x01\x02garbage\r\n\r\n")
    assert status == 200
    assert answer.count(b"HTTP/1.1 ") == 1


def test_a_caller_who_does_not_read_is_cut_off(api: Served) -> None:
    with socket.socket() as caller:
        caller.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        caller.connect(("127.0.0.1", api.port))
        # more than the sockets' buffers hold, asked for on one connection and never read
        known = b"host: 127.0.0.1\r\nauthorization: Bearer " + api.key.encode()
        ask = b"GET /docs/swagger-ui-bundle.js HTTP/1.1\r\n" + known + b"\r\n\r\n"
        caller.sendall(ask * 8)
        assert until(lambda: b'reason="unread-answer"' in api.get("/metrics")[1])
        assert until(lambda: api.connections() == 0)


def test_refusals_are_counted_by_reason(api: Served) -> None:
    page = api.get("/metrics")[1].decode()
    for reason in ("body-too-large", "slow-headers", "headers-too-large", "foreign-host", "unread-answer"):
        assert f'metergate_api_refused_total{{reason="{reason}"}}' in page
    assert until(lambda: b"metergate_api_connections 1.0" in api.get("/metrics")[1])
