"""A small certificate authority of one's own, in one folder: for the broker, the API, and whoever must be known.

    ca.pem, ca.key             the authority; its key never leaves this host (mode 0600)
    NAME.pem, NAME.key         what was issued: the certificate with the authority's behind it, and its key
    issued.jsonl               one line per certificate: serial, names, from, until

Keys are ECDSA P-256, which every TLS library of the last ten years speaks. Names are DNS names or IP addresses; a
client that connects by an address needs the address in the certificate.
"""

from __future__ import annotations

import ipaddress
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from metergate.files import write_whole
from metering.errors import SettingsError

CA_DAYS: Final = 3650
LEAF_DAYS: Final = 397  # what browsers accept of a certificate
RENEW_DAYS: Final = 30
_FILE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_LABEL: Final = r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9])?"
_DNS: Final = re.compile(rf"(\*\.)?{_LABEL}(\.{_LABEL})*")
_EARLIER: Final = timedelta(hours=1)  # clocks of gateways are not all alike


@dataclass(frozen=True, slots=True)
class Issued:
    """A certificate that was issued. Times are ISO dates and times in UTC."""

    name: str
    names: tuple[str, ...]
    serial: str
    not_before: str
    not_after: str


def create(folder: Path, title: str, now_ms: int) -> Path:
    """Make an authority and return its certificate's path. Raises: SettingsError when there is one."""
    certificate, key_file = folder / "ca.pem", folder / "ca.key"
    if certificate.exists() or key_file.exists():
        raise SettingsError(f"{folder} has an authority already; whoever trusts it would not trust another one")
    if not title.strip() or len(title) > 64 or not title.isprintable():
        raise SettingsError("the authority's title must have 1 to 64 printable characters")
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, title)])
    usage = _usage(sign=False, certify=True)
    made = (
        _builder(subject, subject, key.public_key(), now_ms, CA_DAYS)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .sign(key, hashes.SHA256())
    )
    write_whole(key_file, _key_pem(key), 0o600)
    write_whole(certificate, made.public_bytes(Encoding.PEM), 0o644)
    return certificate


def issue(
    folder: Path, names: Sequence[str], now_ms: int, *, file: str = "", days: int = LEAF_DAYS, renew: bool = False
) -> Issued:
    """Issue a certificate for names and addresses, good for servers and clients.

    file: what its files are called; the first name when empty. renew: replace those that are there, with a new key.
    Raises: SettingsError.
    """
    authority, ca_key = _authority(folder)
    file = file or names[0].replace("*", "any").replace(":", "-")
    if not _FILE.fullmatch(file) or file == "ca":
        raise SettingsError(f'"{file}" cannot be the name of a file here; choose one with --file')
    if (folder / f"{file}.pem").exists() and not renew:
        raise SettingsError(f"{folder / file}.pem is there already; --renew replaces it")
    key = ec.generate_private_key(ec.SECP256R1())
    made = _leaf(authority, ca_key, key, names, now_ms, days)
    chain = made.public_bytes(Encoding.PEM) + authority.public_bytes(Encoding.PEM)
    write_whole(folder / f"{file}.key", _key_pem(key), 0o600)
    write_whole(folder / f"{file}.pem", chain, 0o644)
    issued = Issued(
        file,
        tuple(names),
        f"{made.serial_number:x}",
        made.not_valid_before_utc.isoformat(),
        made.not_valid_after_utc.isoformat(),
    )
    before = "".join(f"{json.dumps(asdict(known))}\n" for known in issued_before(folder))
    write_whole(folder / "issued.jsonl", f"{before}{json.dumps(asdict(issued))}\n", 0o600)
    return issued


def issued_before(folder: Path) -> Iterator[Issued]:
    """Yield what was issued, oldest first."""
    journal = folder / "issued.jsonl"
    if not journal.exists():
        return
    for line in journal.read_text("utf-8").splitlines():
        facts = json.loads(line)
        yield Issued(**{**facts, "names": tuple(facts["names"])})


def days_left(issued: Issued, now_ms: int) -> int:
    """Return the whole days until a certificate ends, negative afterwards."""
    return (datetime.fromisoformat(issued.not_after) - _moment(now_ms)).days


def _authority(folder: Path) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    try:
        authority = x509.load_pem_x509_certificate((folder / "ca.pem").read_bytes())
        key = serialization.load_pem_private_key((folder / "ca.key").read_bytes(), password=None)
    except OSError as error:
        raise SettingsError(
            f"{error.filename} cannot be read: {error.strerror}; metergate ca init makes one"
        ) from error
    except ValueError as error:
        raise SettingsError(f"{folder}: ca.pem or ca.key is damaged: {error}") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != authority.public_key():
        raise SettingsError(f"{folder}: ca.key is not the key of ca.pem")
    return authority, key


def _leaf(
    authority: x509.Certificate,
    ca_key: ec.EllipticCurvePrivateKey,
    key: ec.EllipticCurvePrivateKey,
    names: Sequence[str],
    now_ms: int,
    days: int,
) -> x509.Certificate:
    if _moment(now_ms) + timedelta(days=days) > authority.not_valid_after_utc:
        until = authority.not_valid_after_utc.date()
        raise SettingsError(f"{days} days go beyond the authority's own end, {until}: make a new authority in time")
    usage = _usage(sign=True, certify=False)
    purposes = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0][:64])])
    return (
        _builder(subject, authority.subject, key.public_key(), now_ms, days)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
        .add_extension(x509.SubjectAlternativeName([_san(name) for name in names]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(ca_key.public_key()), critical=False)
        .sign(ca_key, hashes.SHA256())
    )


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, now_ms: int, days: int
) -> x509.CertificateBuilder:
    now = _moment(now_ms)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _EARLIER)
        .not_valid_after(now + timedelta(days=days))
    )


def _usage(*, sign: bool, certify: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=sign,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=certify,
        crl_sign=certify,
        encipher_only=False,
        decipher_only=False,
    )


def _san(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        if not _DNS.fullmatch(name) or len(name) > 253:
            raise SettingsError(f'"{name}" is neither a DNS name nor an IP address') from None
        return x509.DNSName(name)


def _moment(now_ms: int) -> datetime:
    return datetime.fromtimestamp(now_ms // 1000, UTC)


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
