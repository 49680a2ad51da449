"""TLS and logins at the broker: what is refused, and in which words; secrets never print."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr, ValidationError

from metergate import authority
from metering.broker_settings import BrokerSettings, read_credential
from metering.errors import BrokerError
from tests.brokers import BrokerProcess, free_port, mosquitto, running
from tests.guarded import CLOCK, connected, problem

DAY_MS = 86_400_000
NOW = CLOCK.now_ms()


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ca")
    authority.create(folder, "Test", NOW - 1000 * DAY_MS)
    for file, names, issued in (
        ("broker", ["127.0.0.1", "localhost", "broker.example"], NOW),
        ("elsewhere", ["elsewhere.example"], NOW),
        ("expired", ["127.0.0.1"], NOW - 500 * DAY_MS),
        ("early", ["127.0.0.1"], NOW + 10 * DAY_MS),
        ("gateway", ["gw-1"], NOW),
    ):
        authority.issue(folder, names, issued, file=file)
    authority.create(folder / "other", "Test", NOW)
    return folder


@contextmanager
def encrypted(folder: Path, ca: Path, file: str = "broker", extra: str = "") -> Iterator[BrokerProcess]:
    lines = f"certfile {ca}/{file}.pem\nkeyfile {ca}/{file}.key\n{extra}"
    with running(mosquitto(folder / "broker", lines)) as broker:
        yield broker


def settings(broker: BrokerProcess, ca: Path | None, **options: Any) -> BrokerSettings:
    return BrokerSettings(port=broker.port, tls_ca=ca and ca / "ca.pem", **options)


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
def test_the_session_is_encrypted_with_tls_1_2_or_newer(tmp_path: Path, ca: Path, protocol: str) -> None:
    with encrypted(tmp_path, ca) as broker:

        async def scenario() -> None:
            async with connected(settings(broker, ca, protocol=protocol, host="localhost"), "a") as client:
                assert await client.may("t")
                link = client.session._link
                assert link is not None
                assert isinstance(link._socket, ssl.SSLSocket)
                assert link._socket.version() in ("TLSv1.2", "TLSv1.3")

        asyncio.run(scenario())


def test_every_fault_is_told_with_what_mends_it(tmp_path: Path, ca: Path) -> None:
    words = {
        "elsewhere": 'is not for "127.0.0.1": correct host',
        "expired": "has expired",
        "early": "is not valid yet",
    }
    for file, expected in words.items():
        with encrypted(tmp_path / file, ca, file) as broker:
            assert expected in asyncio.run(problem(settings(broker, ca))), file
    with encrypted(tmp_path / "stranger", ca) as broker:
        said = asyncio.run(problem(settings(broker, ca / "other")))
        assert "signed by an authority that tls_ca does not hold" in said
        assert asyncio.run(problem(settings(broker, None, protocol="5")))  # without TLS nobody gets in either
    with running(mosquitto(tmp_path / "plain")) as broker:
        assert "speak TLS on this port" in asyncio.run(problem(settings(broker, ca)))


def test_a_broker_that_only_speaks_old_tls_is_refused(ca: Path) -> None:
    context = BrokerSettings(tls_ca=ca / "ca.pem").tls_context()
    assert context is not None
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2
    assert context.check_hostname
    assert context.verify_mode == ssl.CERT_REQUIRED


def test_a_broker_that_asks_for_our_certificate_gets_it(tmp_path: Path, ca: Path) -> None:
    extra = f"cafile {ca}/ca.pem\nrequire_certificate true\nuse_identity_as_username true"
    with encrypted(tmp_path, ca, extra=extra) as broker:
        mine = {"tls_cert": ca / "gateway.pem", "tls_key": ca / "gateway.key"}

        async def scenario() -> None:
            async with connected(settings(broker, ca, **mine), "a") as client:
                assert await client.may("t")

        asyncio.run(scenario())
        assert asyncio.run(problem(settings(broker, ca)))


@pytest.mark.parametrize(
    ("files", "words"),
    [
        ({"tls_ca": "none.pem"}, "tls_ca = .*none.pem cannot be read: No such file"),
        ({"tls_ca": "broker.key"}, "tls_ca = .*broker.key: not a PEM file that fits"),
        ({"tls_ca": "ca.pem", "tls_cert": "broker.pem", "tls_key": "gateway.key"}, "tls_cert = .*: not a PEM file"),
        ({"tls_ca": "ca.pem", "tls_cert": "none.pem", "tls_key": "broker.key"}, "tls_cert = .* cannot be read"),
    ],
)
def test_a_file_that_does_not_do_is_named(ca: Path, files: dict[str, str], words: str) -> None:
    made = BrokerSettings(port=free_port(), **{name: ca / file for name, file in files.items()})  # type: ignore[arg-type]  # only paths
    with pytest.raises(BrokerError, match=words):
        made.tls_context()
    assert "tls_" in asyncio.run(problem(made))  # the session says so too, and goes on trying


def test_a_key_with_a_passphrase_does_not_ask_on_the_terminal(tmp_path: Path, ca: Path) -> None:
    from cryptography.hazmat.primitives.serialization import (
        BestAvailableEncryption,
        Encoding,
        PrivateFormat,
        load_pem_private_key,
    )

    key = load_pem_private_key((ca / "gateway.key").read_bytes(), None)
    locked = tmp_path / "locked.key"
    locked.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret")))
    made = BrokerSettings(tls_ca=ca / "ca.pem", tls_cert=ca / "gateway.pem", tls_key=locked)
    with pytest.raises(BrokerError, match="not a PEM file that fits"):
        made.tls_context()


@pytest.mark.parametrize("given", [{"tls_cert": "a"}, {"tls_key": "a"}, {"tls_cert": "a", "tls_key": "b"}])
def test_half_a_certificate_is_refused_by_the_settings(given: dict[str, str]) -> None:
    with pytest.raises(ValidationError, match=r"tls_cert"):
        BrokerSettings(**{name: Path(file) for name, file in given.items()})  # type: ignore[arg-type]  # only paths


def test_a_credential_file_has_two_lines_and_its_content_is_never_told(tmp_path: Path) -> None:
    path = tmp_path / "credential"
    for text in ("gw-1.1\nhunter2", "gw-1.1\nhunter2\n", "gw-1.1\r\nhunter2\r\n"):
        path.write_text(text, newline="")
        found = read_credential(path)
        assert (found.username, found.password) == ("gw-1.1", "hunter2")
        assert "hunter2" not in repr(found)
    for raw in (
        b"",
        b"hunter2",
        b"\nhunter2\n",
        b"a\nhunter2\nb\n",
        b"a\n\n",
        b"a\n" + b"hunter2" * 1000,
        b"\xff\n\xfe",
    ):
        path.write_bytes(raw)
        with pytest.raises(BrokerError) as refused:
            read_credential(path)
        assert str(path) in str(refused.value)
        assert "hunter2" not in str(refused.value)
    with pytest.raises(BrokerError, match="cannot be read"):
        read_credential(tmp_path / "none")


def test_settings_never_print_a_password() -> None:
    made = BrokerSettings(username="u", password=SecretStr("hunter2"))
    assert "hunter2" not in repr(made) + str(made) + str(made.model_dump()) + repr(made.credential())
