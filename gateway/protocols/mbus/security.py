"""Encrypted M-Bus data: security mode 5 (AES-128-CBC, one key per meter, IV from the address and access number).

The plain text of a right key begins with two idle fillers 2F 2F; anything else is refused, because a wrong key gives
garbage that may look like records. Logs often hold data that were already decrypted although the configuration word
still says mode 5: those begin with 2F 2F and are taken as they are. Keys are secrets: they stand in no error text.

Source: EN 13757-7 (EN 13757-3:2013), OMS volume 2 clause 9; AES by the `cryptography` package.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from metering.errors import FrameError

PLAIN_PREFIX: Final = b"\x2f\x2f"
MODE_PLAIN, MODE_5 = 0, 5
_BLOCK: Final = 16


@dataclass(frozen=True, slots=True)
class Plain:
    """Application data in the clear. decrypted: we did it; False when they came so."""

    data: bytes
    decrypted: bool


def mode_of(configuration: int) -> int:
    """Return the security mode: bits 12-8 of the configuration word."""
    return configuration >> 8 & 0x1F


def encrypted_length(configuration: int) -> int:
    """Return how many bytes of mode 5 are encrypted: bits 7-4 count blocks of 16."""
    return (configuration >> 4 & 0x0F) * _BLOCK


def initial_vector(address: bytes, access_no: int) -> bytes:
    """Return the IV of mode 5. address: manufacturer, id, version, type as a radio frame sends them (8 bytes)."""
    return address + bytes([access_no]) * 8


def open_data(data: bytes, configuration: int, *, address: bytes, access_no: int, key: bytes | None) -> Plain:
    """Return the application data behind a transport header, decrypted when need be.

    Raises: FrameError, sort "key" when a key is missing or wrong, "unsupported" for another mode, "length".
    """
    mode, size = mode_of(configuration), encrypted_length(configuration)
    if mode == MODE_PLAIN or data[:2] == PLAIN_PREFIX:
        return Plain(data, False)
    if mode != MODE_5:
        raise FrameError(
            f"security mode {mode} is not supported; 0 and 5 are", data, sort="unsupported", also=("key",)
        )
    if not size:
        return Plain(data, False)
    if size > len(data):
        text = f"{len(data)} bytes of data, {size} are said to be encrypted"
        raise FrameError(text, data, sort="length", also=("key",))
    if key is None:
        raise FrameError(
            "the data are encrypted (mode 5) and no key is known", data, sort="key", also=("encrypted", "key_missing")
        )
    plain = _aes_cbc(key, initial_vector(address, access_no), encrypting=False, data=data[:size])
    if plain[:2] != PLAIN_PREFIX:
        text = "the key does not fit: the decrypted data do not begin with 2F 2F"
        raise FrameError(text, data, sort="key", also=("decryption", "key_wrong", "checksum"))
    return Plain(plain + data[size:], True)


def encrypt_mode_5(plain: bytes, *, address: bytes, access_no: int, key: bytes) -> tuple[bytes, int]:
    """Encrypt application data; return them and the configuration bits for their length and mode.

    plain: records without fillers; 2F 2F is put before and as many 2F behind as fill the last block (15 blocks at
    most).   Raises: ValueError.
    """
    padded = PLAIN_PREFIX + plain
    padded += b"\x2f" * (-len(padded) % _BLOCK)
    if len(padded) > 15 * _BLOCK:
        raise ValueError(f"{len(plain)} bytes; mode 5 encrypts {15 * _BLOCK - 2} at most")
    data = _aes_cbc(key, initial_vector(address, access_no), encrypting=True, data=padded)
    return data, MODE_5 << 8 | len(padded) // _BLOCK << 4


def _aes_cbc(key: bytes, iv: bytes, *, encrypting: bool, data: bytes) -> bytes:
    if len(key) != _BLOCK:
        raise FrameError(f"a key of {len(key)} bytes; AES-128 needs 16", sort="key")
    cipher = Cipher(algorithms.AES(key), modes.CBC(iv))
    worker = cipher.encryptor() if encrypting else cipher.decryptor()
    return worker.update(data) + worker.finalize()
