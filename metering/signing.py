"""Signed orders from the office to a gateway (Ed25519): commands and plans in one envelope.

What is signed are exact bytes, so that no two programs can spell one order differently:

    "metergate command v1" or "metergate plan v1", a line break, the key's id, a line break, the body

and the body travels as the text that was signed. The first line keeps a signed plan from ever counting as a command.
Nothing of the body is believed, nor even decoded, before the signature was found good.

A gateway holds public keys (a list, so that keys can change), the office one private key in a file for its eyes only.
`cryptography` is imported at the first use: a gateway without office keys never carries it in memory.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import secrets
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final, Literal

import msgspec

from metering.errors import MessageError, SettingsError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

Domain = Literal["command", "plan"]
NONCE_BYTES: Final = 16
_VERSION: Final = 1
_KEY_ID_DIGITS: Final = 16


class SignatureError(MessageError):
    """Not signed by a key that is known here; nothing of it may be used."""


class Envelope(msgspec.Struct, forbid_unknown_fields=True):
    """A signed order as it travels. key: id of the signing key. body: the signed text. signature: base64."""

    v: int
    key: Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{16}$")]
    body: str
    signature: Annotated[str, msgspec.Meta(max_length=100)]


_DECODER: Final = msgspec.json.Decoder(Envelope)
_ENCODER: Final = msgspec.json.Encoder()


class OfficeKey:
    """The office's private key. Signs; `public_pem` is what gateways get."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key
        self.id = key_id(key.public_key())

    def seal(self, domain: Domain, body: bytes) -> bytes:
        """Return the envelope around a body (UTF-8)."""
        signature = base64.b64encode(self._key.sign(_signed(domain, self.id, body))).decode()
        return _ENCODER.encode(Envelope(_VERSION, self.id, body.decode(), signature))

    @property
    def public_pem(self) -> bytes:
        """The public half, for a file at the gateway."""
        from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

        return self._key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


class Verifier:
    """Opens envelopes that one of these keys signed."""

    def __init__(self, keys: Mapping[str, Ed25519PublicKey]) -> None:
        self._keys = dict(keys)

    def __bool__(self) -> bool:
        return bool(self._keys)

    @property
    def key_ids(self) -> list[str]:
        """Ids of the keys that are believed."""
        return sorted(self._keys)

    def open(self, domain: Domain, payload: bytes) -> bytes:
        """Return the body of a soundly signed envelope. Raises: SignatureError; MessageError when it is none."""
        envelope = _decode(payload)
        key = self._keys.get(envelope.key)
        if key is None:
            raise SignatureError(f"signed by key {envelope.key}, which is not known here")
        from cryptography.exceptions import InvalidSignature

        try:
            body = envelope.body.encode()
            key.verify(base64.b64decode(envelope.signature, validate=True), _signed(domain, envelope.key, body))
        except (InvalidSignature, binascii.Error, UnicodeEncodeError) as error:
            raise SignatureError(f"the signature of key {envelope.key} is wrong") from error
        return body


def new_nonce() -> str:
    """Return 128 random bits as 32 hex digits: the one name of a command."""
    return secrets.token_hex(NONCE_BYTES)


def key_id(key: Ed25519PublicKey) -> str:
    """Return the first 16 hex digits of the SHA-256 of the raw public key."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    raw = key.public_bytes(Encoding.Raw, PublicFormat.Raw)
    return hashlib.sha256(raw).hexdigest()[:_KEY_ID_DIGITS]


def make_key(path: Path) -> OfficeKey:
    """Make a new private key, file mode 0600, and its public half beside it (.pub). Raises: FileExistsError, OSError.

    The file appears whole or not at all, and a key that is there is never replaced.
    """
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    key = Ed25519PrivateKey.generate()
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
            file.flush()
            os.fsync(file.fileno())
        os.link(fresh, path)  # unlike a rename it fails when another process was first
    finally:
        fresh.unlink(missing_ok=True)
    made = OfficeKey(key)
    public_path(path).write_bytes(made.public_pem)
    return made


def load_key(path: Path) -> OfficeKey:
    """Read the office's private key. Raises: SettingsError when it is no such key, or others may read it; OSError."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    mode = path.stat().st_mode & 0o077
    if mode:
        raise SettingsError(f"{path.name}: mode {mode:03o} lets others at the office's signing key; chmod 600 it")
    try:
        key = load_pem_private_key(path.read_bytes(), None)
    except (ValueError, TypeError) as error:
        raise SettingsError(f"{path.name}: no private key in PEM form without a password") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise SettingsError(f"{path.name}: an Ed25519 key is needed; `metergate command keys` makes one")
    return OfficeKey(key)


def load_or_make_key(path: Path) -> OfficeKey:
    """Return the office's key, made at the first use. Raises: SettingsError, OSError."""
    try:
        return load_key(path)
    except FileNotFoundError:
        pass
    try:
        return make_key(path)
    except FileExistsError:  # another process was first
        return load_key(path)


def load_verifier(paths: Iterable[Path]) -> Verifier:
    """Read public keys, one PEM file each. Raises: SettingsError naming the file."""
    keys = {}
    for path in paths:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
        from cryptography.hazmat.primitives.serialization import load_pem_public_key

        try:
            key = load_pem_public_key(path.read_bytes())
        except OSError as error:
            raise SettingsError(f"office_keys: {path}: {error.strerror}") from error
        except ValueError as error:
            raise SettingsError(f"office_keys: {path}: no public key in PEM form") from error
        if not isinstance(key, Ed25519PublicKey):
            raise SettingsError(f"office_keys: {path}: an Ed25519 key is needed")
        keys[key_id(key)] = key
    return Verifier(keys)


def public_path(path: Path) -> Path:
    """Return where the public half of a private key lies: signing.key -> signing.pub."""
    return path.with_suffix(".pub")


def _signed(domain: Domain, key: str, body: bytes) -> bytes:
    return f"metergate {domain} v{_VERSION}\n{key}\n".encode() + body


def _decode(payload: bytes) -> Envelope:
    try:
        envelope = _DECODER.decode(payload)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise MessageError(f"not a signed message: {error}", payload[:64]) from error
    if envelope.v != _VERSION:
        raise MessageError(f"envelope version {envelope.v}; this program speaks {_VERSION}", payload[:64])
    return envelope
