"""TLS of the API: 1.2 or newer, handshakes with a deadline, new certificates at once, others only when it is safe."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
import sqlalchemy as sa
from cryptography import x509
from pydantic import ValidationError

from api.service import _refuse_strangers, bind
from api.settings import ApiSettings
from api.tls import Certificate, certificate, follow
from metergate import authority
from metering.clock import ManualClock
from metering.errors import SettingsError
from metering.settings import parse
from registry.database import Database
from registry.models_access import User
from tests.api.process import Served, read_all, served, status_of, until
from tests.guarded import CLOCK


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ca")
    authority.create(folder, "Test", CLOCK.now_ms())
    authority.issue(folder, ["127.0.0.1", "localhost"], CLOCK.now_ms(), file="api")
    authority.issue(folder, ["127.0.0.1"], CLOCK.now_ms(), file="other")
    return folder


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory, ca: Path) -> Iterator[Served]:
    files = {"tls_cert": str(ca / "api.pem"), "tls_key": str(ca / "api.key")}
    with served(tmp_path_factory.mktemp("api"), header_timeout_s=5.0, **files) as found:
        yield found


def client(ca: Path) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(ca / "ca.pem"))


def ask(api: Served, context: ssl.SSLContext, path: str = "/livez") -> tuple[int, str]:
    """GET over TLS; returns the status and the version of TLS."""
    with api.connect() as plain, context.wrap_socket(plain, server_hostname="127.0.0.1") as caller:
        caller.sendall(f"GET {path} HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n\r\n".encode())
        return status_of(read_all(caller)), str(caller.version())


def test_it_answers_over_tls_and_says_so_in_its_address(api: Served, ca: Path) -> None:
    assert api.address.startswith("https://127.0.0.1:")
    assert ask(api, client(ca)) == (200, "TLSv1.3")
    context = client(ca)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    assert ask(api, context) == (200, "TLSv1.2")


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion")
def test_older_tls_and_no_tls_get_nothing(api: Served, ca: Path) -> None:
    context = client(ca)
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_1
    with pytest.raises(ssl.SSLError):
        ask(api, context)
    assert api.get("/livez") == (0, b"")


def test_a_strangers_authority_is_not_believed_by_callers(api: Served) -> None:
    with pytest.raises(ssl.SSLCertVerificationError):
        ask(api, ssl.create_default_context())


def test_handshakes_that_never_end_do_not_pile_up(api: Served, ca: Path) -> None:
    before = api.connections()
    idle = [api.connect() for _ in range(150)]
    try:
        for number, caller in enumerate(idle):
            if number % 2:
                caller.sendall(b"\x16\x03\x01\x02\x00\x01")  # the beginning of a ClientHello
        assert until(lambda: api.connections() >= before + 100)
        assert ask(api, client(ca))[0] == 200
        assert until(lambda: api.connections() <= before + 1), api.connections()
    finally:
        for caller in idle:
            with suppress(OSError):
                caller.close()


def test_limits_hold_inside_tls_too(api: Served, ca: Path) -> None:
    with api.connect() as plain, client(ca).wrap_socket(plain, server_hostname="127.0.0.1") as caller:
        caller.sendall(b"GET /livez HTTP/1.1\r\nhost: 127.0.0.1\r\n")  # and no more
        assert status_of(read_all(caller)) == 408


def serial(port: int, ca: Path) -> int:
    context = client(ca)
    with (
        socket.create_connection(("127.0.0.1", port), timeout=60) as plain,
        context.wrap_socket(plain, server_hostname="127.0.0.1") as caller,
    ):
        raw = caller.getpeercert(binary_form=True)
    assert raw
    return x509.load_der_x509_certificate(raw).serial_number


def test_a_new_certificate_is_taken_over_and_open_connections_stay(tmp_path: Path, ca: Path) -> None:
    cert, key = tmp_path / "api.pem", tmp_path / "api.key"

    def take(file: str) -> None:
        cert.write_bytes((ca / f"{file}.pem").read_bytes())
        key.write_bytes((ca / f"{file}.key").read_bytes())

    async def scenario() -> None:
        take("api")
        made, clock = Certificate(cert, key), ManualClock(0)
        server = await asyncio.start_server(echo, "127.0.0.1", 0, ssl=made.context)
        port = server.sockets[0].getsockname()[1]
        following = asyncio.create_task(follow(made, clock))
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=client(ca))
            first = await asyncio.to_thread(serial, port, ca)
            take("other")
            await clock.advance(11)
            assert await asyncio.to_thread(serial, port, ca) != first
            cert.write_text("not a certificate")
            await clock.advance(11)
            assert await asyncio.to_thread(serial, port, ca) != first  # the last good one goes on
            writer.write(b"still here\n")
            assert await reader.readline() == b"still here\n"
            writer.close()
            with suppress(ssl.SSLError, OSError):
                await writer.wait_closed()
        finally:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)
            server.close()

    asyncio.run(scenario())


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(ssl.SSLError, OSError):
        while line := await reader.readline():
            writer.write(line)
        writer.close()


@pytest.mark.parametrize(
    ("cert", "key", "words"),
    [
        ("none.pem", "api.key", r"api\.tls_cert = .*none\.pem cannot be read"),
        ("api.pem", "none.key", r"api\.tls_key = .*none\.key cannot be read"),
        ("api.pem", "other.key", r"do not fit together: KEY_VALUES_MISMATCH"),
        ("api.key", "api.key", r"do not fit together"),
    ],
)
def test_a_file_that_does_not_do_is_named(ca: Path, cert: str, key: str, words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        certificate(ApiSettings(tls_cert=ca / cert, tls_key=ca / key))


def test_half_a_certificate_is_refused_by_the_settings() -> None:
    with pytest.raises(ValidationError, match="tls_cert and tls_key belong together"):
        ApiSettings(tls_cert=Path("a"))
    with pytest.raises(SettingsError, match=r'x\.toml:3: host = "0\.0\.0\.0": must be a loopback address'):
        parse('port = 1\ntls_cert = "a"\nhost = "0.0.0.0"\n', ApiSettings, name="x.toml")


@pytest.mark.parametrize("how", [{"tls_cert": "a", "tls_key": "b"}, {"front": "proxy"}])
def test_an_address_for_others_is_possible_where_something_encrypts(how: dict[str, str]) -> None:
    text = "".join(f'{name} = "{value}"\n' for name, value in how.items())
    for host in ("0.0.0.0", "::", "192.0.2.1"):
        assert parse(f'{text}host = "{host}"\n', ApiSettings, name="x").host == host
    for host in ("example.org", "", "::1%lo", "127.0.0.1.evil"):
        with pytest.raises(SettingsError, match="an IP address of this machine"):
            parse(f'{text}host = "{host}"\n', ApiSettings, name="x")


@pytest.mark.parametrize(
    ("user", "open_to_others"),
    [
        (None, False),
        ({"one_time": True}, False),
        ({"password_hash": ""}, False),
        ({"enabled": False}, False),
        ({"roles": ["viewer"]}, False),
        ({}, True),
    ],
)
def test_others_are_served_only_after_an_administrator_chose_a_password(
    tmp_path: Path, user: dict[str, object] | None, open_to_others: bool
) -> None:
    database = Database(f"sqlite:///{tmp_path}/registry.db")
    database.upgrade()
    if user is not None:
        facts = {"name": "li", "password_hash": "x", "one_time": False, "enabled": True, "roles": ["admin"]}
        rest = {"display_name": "", "ranks": [], "areas": ["*"], "totp_secret": "", "totp_step": 0, "failed": 0}
        times = {"locked_until": 0, "created_at": 0, "changed_at": 0, "version": 1}
        with database.begin() as connection:
            connection.execute(sa.insert(User).values({**facts, **rest, **times, **user}))
    settings = ApiSettings(host="0.0.0.0", port=0, front="proxy")
    with bind(settings) as listener:  # bound, and never listening
        if open_to_others:
            _refuse_strangers(settings, listener, database)
            assert listener.fileno() >= 0
        else:
            with pytest.raises(SettingsError, match="no administrator has a password of his own yet"):
                _refuse_strangers(settings, listener, database)
            assert listener.fileno() == -1
    database.close()
