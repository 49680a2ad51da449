"""`metergate ca`: certificates that OpenSSL accepts, keys for nobody else, nothing overwritten unasked."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from cryptography import x509

from metergate import authority
from metering.errors import SettingsError
from tests.guarded import CLOCK, metergate, refused

DAY_MS = 86_400_000


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    metergate("ca", "init", "--folder", tmp_path / "ca", "--title", "Gas company")
    return tmp_path / "ca"


def openssl(*words: str | Path) -> str:
    done = subprocess.run(["openssl", *map(str, words)], capture_output=True, text=True, timeout=60)
    return done.stdout + done.stderr


def test_openssl_accepts_what_is_issued_for_its_names_and_no_other(folder: Path) -> None:
    metergate("ca", "issue", "broker.example", "192.0.2.7", "2001:db8::7", "--folder", folder, "--file", "broker")
    check = ("verify", "-CAfile", folder / "ca.pem", "-x509_strict", "-purpose", "sslserver")
    for name in (("-verify_hostname", "broker.example"), ("-verify_ip", "192.0.2.7"), ("-verify_ip", "2001:db8::7")):
        assert openssl(*check, *name, folder / "broker.pem").endswith("broker.pem: OK\n"), name
    assert "mismatch" in openssl(*check, "-verify_hostname", "other.example", folder / "broker.pem")
    assert "mismatch" in openssl(*check, "-verify_ip", "192.0.2.8", folder / "broker.pem")
    text = openssl("x509", "-in", folder / "broker.pem", "-noout", "-text")
    for words in ("CA:FALSE", "TLS Web Server Authentication", "TLS Web Client Authentication", "CN = Gas company"):
        assert words in text


def test_keys_are_for_their_owner_alone_and_certificates_for_everybody(folder: Path) -> None:
    metergate("ca", "issue", "a.example", "--folder", folder)
    modes = {path.name: path.stat().st_mode & 0o777 for path in folder.iterdir()}
    assert modes == {
        "ca.key": 0o600,
        "ca.pem": 0o644,
        "a.example.key": 0o600,
        "a.example.pem": 0o644,
        "issued.jsonl": 0o600,
    }
    assert folder.stat().st_mode & 0o777 == 0o700


def test_nothing_is_overwritten_unasked(folder: Path) -> None:
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert "has an authority already" in refused("ca", "init", "--folder", folder).replace("\n", " ")
    metergate("ca", "issue", "a.example", "--folder", folder)
    assert "--renew replaces it" in refused("ca", "issue", "a.example", "--folder", folder).replace("\n", " ")
    assert {name: (folder / name).read_bytes() for name in before} == before


def test_a_renewal_has_another_serial_and_key_and_the_list_tells_both(folder: Path) -> None:
    metergate("ca", "issue", "a.example", "--folder", folder)
    first = x509.load_pem_x509_certificate((folder / "a.example.pem").read_bytes())
    metergate("ca", "issue", "a.example", "--folder", folder, "--renew", "--days", "20")
    second = x509.load_pem_x509_certificate((folder / "a.example.pem").read_bytes())
    assert first.serial_number != second.serial_number
    assert first.public_key() != second.public_key()
    listed = [json.loads(line) for line in metergate("ca", "list", "--folder", folder).splitlines()]
    assert [int(row["serial"], 16) for row in listed] == [first.serial_number, second.serial_number]
    assert [row["replaced"] for row in listed] == [True, False]
    assert [days - row["days_left"] in (0, 1) for days, row in zip((397, 20), listed, strict=True)] == [True, True]


@pytest.mark.parametrize(
    "name", ["", "a b", "-a.example", "a..example", "a/b", "x" * 64, "*.*.example", "a\n", "ä.example"]
)
def test_names_that_are_none_are_refused(folder: Path, name: str) -> None:
    with pytest.raises(SettingsError, match="neither a DNS name nor an IP address"):
        authority.issue(folder, ["ok.example", name], CLOCK.now_ms(), file="x")
    assert not (folder / "x.pem").exists()


@pytest.mark.parametrize("file", ["ca", "../x", "a/b", ".hidden"])
def test_files_stay_in_their_folder_and_never_replace_the_authority(folder: Path, file: str) -> None:
    with pytest.raises(SettingsError, match="cannot be the name of a file here"):
        authority.issue(folder, ["a.example"], CLOCK.now_ms(), file=file, renew=True)


def test_nothing_outlives_the_authority(folder: Path) -> None:
    with pytest.raises(SettingsError, match="go beyond the authority's own end"):
        authority.issue(folder, ["a.example"], CLOCK.now_ms() + 3500 * DAY_MS, days=397)


def test_an_authority_that_is_away_or_not_itself_is_named(folder: Path, tmp_path: Path) -> None:
    assert "metergate ca init makes one" in refused("ca", "issue", "a", "--folder", tmp_path / "no").replace(
        "\n", " "
    )
    other = tmp_path / "other"
    authority.create(other, "x", CLOCK.now_ms())
    (folder / "ca.key").write_bytes((other / "ca.key").read_bytes())
    assert "is not the key of ca.pem" in refused("ca", "issue", "a", "--folder", folder).replace("\n", " ")
