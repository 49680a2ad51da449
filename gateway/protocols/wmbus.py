"""Wireless M-Bus (EN 13757-4, OMS): radio frames with or without their CRCs, headers, AES mode 5; both directions.

    L C MM IIII V T  CI ...       as logs and collectors hand it over: L bytes follow L, the radio's CRCs are gone
    format A: 10 bytes + CRC, then blocks of 16 + CRC (L counts no CRC)
    format B: 10 + up to 116 bytes + CRC, then up to 126 + CRC (L counts the CRCs)

CRC: polynomial 3D65, start 0, inverted, high byte first. Behind CI stands a transport header (72, 7A, none), perhaps
after an extended link layer (8C-8F); records are those of wired M-Bus. With CI 72 a radio adapter speaks for a meter:
the meter's own address is in that header.

Source: EN 13757-4, OMS specification volume 2; mode 5 in `mbus.security`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from gateway.protocols.mbus import security
from gateway.protocols.mbus.header import Header, decode_address, encode_address, long_header, short_header
from gateway.protocols.mbus.records import Record, Records, decode_records, encode_records
from metering.errors import ChecksumError, FrameError

Form = Literal["auto", "stripped", "A", "B"]

CI_LONG, CI_SHORT, CI_NONE, CI_COMPACT = 0x72, 0x7A, 0x78, 0x79
_HEAD: Final = 10
_ELL_SIZES: Final = {0x8C: 2, 0x8D: 8, 0x8E: 10, 0x8F: 16}
_CTR_MODE: Final = 1


@dataclass(frozen=True, slots=True)
class Telegram:
    """One radio telegram. control: 44 SND_NR, 46 SND_IR. sender: the radio's address; meter: whose values these are.

    plain_prefix: 2F 2F when the data carried it. decrypted: they came encrypted and we had the key.
    """

    control: int
    sender: Header
    ci: int
    meter: Header
    body: Records
    decrypted: bool = False
    plain_prefix: bytes = b""

    @property
    def records(self) -> tuple[Record, ...]:
        """The values."""
        return self.body.records


# --- CRC and frame formats


def _crc_table() -> tuple[int, ...]:
    table = []
    for byte in range(256):
        crc = byte << 8
        for _ in range(8):
            crc = (crc << 1 ^ (0x3D65 if crc & 0x8000 else 0)) & 0xFFFF
        table.append(crc)
    return tuple(table)


_TABLE: Final = _crc_table()


def crc16_en13757(data: bytes) -> int:
    """Return the CRC of EN 13757-4."""
    crc = 0
    for byte in data:
        crc = (crc << 8 & 0xFFFF) ^ _TABLE[crc >> 8 ^ byte]
    return crc ^ 0xFFFF


def _blocks_a(size: int) -> list[tuple[int, int]]:
    """Where the blocks of a format A frame of `size` bytes begin and end, CRC included."""
    blocks, at = [(0, min(_HEAD + 2, size))], _HEAD + 2
    while at < size:
        blocks.append((at, min(at + 18, size)))
        at += 18
    return blocks


def _blocks_b(size: int) -> list[tuple[int, int]]:
    return [(0, size)] if size <= 128 else [(0, 128), (128, size)]


def _crc_fits(block: bytes) -> bool:
    return len(block) > 2 and crc16_en13757(block[:-2]) == int.from_bytes(block[-2:], "big")


def _size_a(length: int) -> int:
    return length + 1 + 2 + 2 * -(-(length - 9) // 16)


def strip_crcs(frame: bytes, form: Form = "auto") -> bytes:
    """Check and remove the radio's CRCs; return `L C ...` with L as without them.

    auto: the form is found out by length and CRC. Raises: ChecksumError, sort "crc"; FrameError, sort "length".
    """
    if len(frame) < _HEAD + 1:
        raise FrameError(f"wireless M-Bus frame of {len(frame)} bytes; 11 are the least", frame, sort="length")
    if form == "auto":
        form = _form_of(frame)
    if form == "stripped":
        _check_length(frame, frame[0] + 1)
        return bytes(frame)
    if form == "A":
        _check_length(frame, _size_a(frame[0]))
        return _checked(frame, _blocks_a(len(frame)))
    _check_length(frame, frame[0] + 1)
    return _checked(frame, _blocks_b(len(frame)))


def _form_of(frame: bytes) -> Form:
    size = len(frame)
    if size == frame[0] + 1:
        if all(_crc_fits(frame[a:b]) for a, b in _blocks_b(size)):
            return "B"
        # a format A frame, cut or with a damaged L, can have this length too: its other CRCs tell
        return "A" if any(_crc_fits(frame[a:b]) for a, b in _blocks_a(size)) else "stripped"
    return "A" if size == _size_a(frame[0]) else "stripped"


def _check_length(frame: bytes, size: int) -> None:
    if len(frame) != size:
        text = f"wireless M-Bus frame of {len(frame)} bytes; its L byte says {size}"
        raise FrameError(text, frame, sort="length", also=("crc",))


def _checked(frame: bytes, blocks: list[tuple[int, int]]) -> bytes:
    for begin, end in blocks:
        if not _crc_fits(frame[begin:end]):
            found, computed = frame[end - 2 : end].hex().upper(), f"{crc16_en13757(frame[begin : end - 2]):04X}"
            facts = {"crc_in_frame": found, "crc_computed": computed}
            raise ChecksumError(f"CRC of the block at byte {begin} is wrong", frame, sort="crc", facts=facts)
    bare = b"".join(frame[begin : end - 2] for begin, end in blocks)
    return bytes([len(bare) - 1]) + bare[1:]


def add_crcs(bare: bytes, form: Form) -> bytes:
    """Put the radio's CRCs into a frame without them. Raises: ValueError when it becomes too long."""
    if form == "A":
        parts = [bare[:_HEAD], *(bare[at : at + 16] for at in range(_HEAD, len(bare), 16))]
    elif form == "B":
        parts = [bare[:126]] + ([bare[126:]] if len(bare) > 126 else [])
        if len(bare) + 2 * len(parts) > 256:
            raise ValueError(f"frame of {len(bare)} bytes; format B carries 252")
        parts[0] = bytes([len(bare) - 1 + 2 * len(parts)]) + parts[0][1:]
    else:
        return bare
    return b"".join(part + crc16_en13757(part).to_bytes(2, "big") for part in parts)


# --- telegrams


def decode(frame: bytes, key: bytes | None = None, *, form: Form = "auto") -> Telegram:
    """Decode one radio telegram.

    key: the meter's AES-128 key, None when it sends in the clear. form: see the module.
    Raises: FrameError, sort "length", "key", "unsupported", "record"; ChecksumError, sort "crc".
    """
    bare = strip_crcs(frame, form)
    address = bare[2:_HEAD]
    id, manufacturer, version, medium = decode_address(address[2:6] + address[:2] + address[6:])
    sender = Header(id, manufacturer, version, medium, None, 0, 0)
    payload = bare[_HEAD:]
    decrypted = False
    if payload[0] in _ELL_SIZES:
        payload, address, decrypted = _extended_link(payload, address, key)
    return _transport(bare[1], sender, address, payload, key, decrypted)


def _extended_link(payload: bytes, address: bytes, key: bytes | None) -> tuple[bytes, bytes, bool]:
    """Remove an extended link layer; return what is inside, the address that speaks, and whether we decrypted it.

    8D and 8F carry a session number and a CRC of what follows (low byte first). A CRC that fits as it stands means
    plain data, or a log that was decrypted before.
    """
    ci, size = payload[0], _ELL_SIZES[payload[0]]
    if len(payload) < 1 + size + 1:
        raise FrameError("the frame ends inside its extended link layer", payload, sort="length")
    if ci in (0x8E, 0x8F):
        address = payload[3:11]
    inner = payload[1 + size :]
    if ci in (0x8C, 0x8E):
        return inner, address, False
    session = payload[size - 5 : size - 1]
    crc = payload[size - 1 : size + 1]
    if _payload_crc_fits(crc, inner):
        return inner, address, False
    if session[3] >> 5 != _CTR_MODE:
        raise ChecksumError("payload CRC of the extended link layer is wrong", payload, sort="crc")
    if key is None:
        raise FrameError(
            "the link layer is encrypted and no key is known", payload, sort="key", also=("encrypted", "key_missing")
        )
    plain = _aes_ctr(key, address + payload[1:2] + session + bytes(3), crc + inner)
    if not _payload_crc_fits(plain[:2], plain[2:]):
        text = "the key does not fit: the payload CRC of the decrypted data is wrong"
        raise FrameError(text, payload, sort="key", also=("decryption", "key_wrong", "crc"))
    return plain[2:], address, True


def _payload_crc_fits(crc: bytes, data: bytes) -> bool:
    return crc16_en13757(data) == int.from_bytes(crc, "little")


def _aes_ctr(key: bytes, iv: bytes, data: bytes) -> bytes:
    if len(key) != 16:
        raise FrameError(f"a key of {len(key)} bytes; AES-128 needs 16", sort="key")
    worker = Cipher(algorithms.AES(key), modes.CTR(iv)).decryptor()
    return worker.update(data) + worker.finalize()


def _transport(
    control: int, sender: Header, address: bytes, payload: bytes, key: bytes | None, decrypted: bool
) -> Telegram:
    ci, data = payload[0], payload[1:]
    if ci == CI_LONG:
        header, rest = long_header(data)
        address = data[4:6] + data[:4] + data[6:8]
    elif ci == CI_SHORT:
        short, rest = short_header(data)
        header = _named(address, short)
    elif ci == CI_NONE:
        header, rest = _named(address, Header("", "", None, None, None, 0, 0)), data
    elif ci == CI_COMPACT:
        raise FrameError("compact frame: it needs the full frame of its format", data, sort="unsupported")
    else:
        raise FrameError(f"control information {ci:02X} is not supported", data, sort="unsupported")
    access_no = header.access_no or 0
    plain = security.open_data(rest, header.configuration, address=address, access_no=access_no, key=key)
    prefix = plain.data[:2] if plain.data[:2] == security.PLAIN_PREFIX else b""
    body = decode_records(plain.data)
    return Telegram(control, sender, ci, header, body, decrypted or plain.decrypted, prefix)


def _named(address: bytes, header: Header) -> Header:
    id, manufacturer, version, medium = decode_address(address[2:6] + address[:2] + address[6:])
    return Header(id, manufacturer, version, medium, header.access_no, header.status, header.configuration)


def encode(telegram: Telegram, key: bytes | None = None, *, form: Form = "stripped") -> bytes:
    """Write a telegram with CI 72, 7A or 78; with a key its data are encrypted by mode 5. Raises: ValueError."""
    body, meter = telegram.body, telegram.meter
    data = encode_records(body.records, vendor=body.vendor, more_follow=body.more_follow)
    configuration = meter.configuration
    if key is not None:
        data, bits = security.encrypt_mode_5(
            data, address=_radio_address(meter), access_no=meter.access_no or 0, key=key
        )
        configuration = configuration & 0xE00F | bits
    elif telegram.plain_prefix:
        data = telegram.plain_prefix + data
    head = bytes([meter.access_no or 0, meter.status]) + configuration.to_bytes(2, "little")
    if telegram.ci == CI_LONG:
        radio = _radio_address(meter)
        head = radio[2:6] + radio[:2] + radio[6:] + head
    elif telegram.ci == CI_NONE:
        head = b""
    payload = bytes([telegram.control]) + _radio_address(telegram.sender) + bytes([telegram.ci]) + head + data
    if len(payload) > 255:
        raise ValueError(f"frame of {len(payload)} bytes; 255 are allowed")
    return add_crcs(bytes([len(payload)]) + payload, form)


def _radio_address(header: Header) -> bytes:
    wired = encode_address(header.id, header.manufacturer, header.version or 0, header.medium_code or 0)
    return wired[4:6] + wired[:4] + wired[6:]
