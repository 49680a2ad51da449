"""Signed orders: exact bytes, one purpose each, keys that can change, a private key for the office's eyes only."""

from __future__ import annotations

import base64
from pathlib import Path

import msgspec
import pytest

from metering.errors import MessageError, SettingsError
from metering.messages import pack_plan, unpack_plan
from metering.signing import (
    SignatureError,
    load_key,
    load_or_make_key,
    load_verifier,
    make_key,
    new_nonce,
    public_path,
)

_BODY = b'{"name":"read-now"}'


def test_what_is_sealed_opens_byte_for_byte(tmp_path: Path) -> None:
    key = make_key(tmp_path / "office.key")
    verifier = load_verifier([tmp_path / "office.pub"])
    text = '{"a": 1, "a" : 2,\n"ü":"\\u0041"}'.encode()  # no program re-spells it on the way
    assert verifier.open("command", key.seal("command", text)) == text


def test_a_signed_plan_is_no_command(tmp_path: Path) -> None:
    key = make_key(tmp_path / "office.key")
    verifier = load_verifier([tmp_path / "office.pub"])
    with pytest.raises(SignatureError, match="wrong"):
        verifier.open("command", key.seal("plan", _BODY))


def test_any_changed_byte_of_the_body_or_signature_is_noticed(tmp_path: Path) -> None:
    key = make_key(tmp_path / "office.key")
    verifier = load_verifier([tmp_path / "office.pub"])
    sealed = key.seal("command", _BODY)
    accepted = 0
    for at in range(len(sealed)):
        changed = bytearray(sealed)
        changed[at] ^= 1
        try:
            accepted += verifier.open("command", bytes(changed)) != _BODY
        except MessageError:
            continue
    assert accepted == 0


def test_an_unknown_key_opens_nothing_and_two_keys_may_be_good_at_once(tmp_path: Path) -> None:
    old, new = make_key(tmp_path / "old.key"), make_key(tmp_path / "new.key")
    stranger = make_key(tmp_path / "stranger.key")
    verifier = load_verifier([tmp_path / "old.pub", tmp_path / "new.pub"])
    assert verifier.key_ids == sorted((old.id, new.id))
    for key in (old, new):
        assert verifier.open("command", key.seal("command", _BODY)) == _BODY
    with pytest.raises(SignatureError, match="not known here"):
        verifier.open("command", stranger.seal("command", _BODY))


def test_a_key_under_anothers_id_opens_nothing(tmp_path: Path) -> None:
    good, stranger = make_key(tmp_path / "good.key"), make_key(tmp_path / "stranger.key")
    verifier = load_verifier([tmp_path / "good.pub"])
    envelope = msgspec.json.decode(stranger.seal("command", _BODY))
    envelope["key"] = good.id
    with pytest.raises(SignatureError, match="wrong"):
        verifier.open("command", msgspec.json.encode(envelope))


@pytest.mark.parametrize("payload", [b"", b"\x00", b"[]", b"{}", b"\xff" * 40, b"[" * 100_000, b'{"v":1}'])
def test_what_is_no_envelope_is_a_message_error(tmp_path: Path, payload: bytes) -> None:
    make_key(tmp_path / "office.key")
    with pytest.raises(MessageError):
        load_verifier([tmp_path / "office.pub"]).open("command", payload)


def test_the_private_key_is_for_its_owner_only_and_never_replaced(tmp_path: Path) -> None:
    path = tmp_path / "office.key"
    made = make_key(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert load_or_make_key(path).id == made.id
    with pytest.raises(FileExistsError):
        make_key(path)
    path.chmod(0o640)
    with pytest.raises(SettingsError, match="chmod 600"):
        load_key(path)
    assert [file.name for file in sorted(tmp_path.iterdir())] == ["office.key", "office.pub"]


def test_files_that_are_no_keys_are_named(tmp_path: Path) -> None:
    broken = tmp_path / "broken.pub"
    broken.write_text("hello")
    with pytest.raises(SettingsError, match=r"broken\.pub: no public key"):
        load_verifier([broken])
    with pytest.raises(SettingsError, match=r"absent\.pub"):
        load_verifier([tmp_path / "absent.pub"])
    assert public_path(Path("a/signing.key")) == Path("a/signing.pub")


def test_nonces_have_128_bits_and_differ() -> None:
    nonces = {new_nonce() for _ in range(1000)}
    assert len(nonces) == 1000
    assert {len(nonce) for nonce in nonces} == {32}


def test_a_plan_is_packed_exactly_and_a_bomb_is_refused() -> None:
    text = 'gateway = "gw"\n' * 1000
    assert unpack_plan(pack_plan(text)) == text
    with pytest.raises(MessageError, match="longer"):
        unpack_plan(pack_plan("x" * (17 * 1024 * 1024)))
    for bad in ("", "!!", base64.b64encode(b"no zlib").decode()):
        with pytest.raises(MessageError):
            unpack_plan(bad)
