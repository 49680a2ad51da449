"""How to reach an MQTT broker: address, login and TLS, all of which may change while we run.

Login and certificates are read again for every connection, so that a new password or certificate needs no restart.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal, Self

from pydantic import Field, PrivateAttr, SecretStr, model_validator

from metering.errors import BrokerError
from metering.settings import SettingsModel

_MAX_CREDENTIAL_BYTES: Final = 4096


@dataclass(frozen=True, slots=True)
class Credential:
    """A user of the broker and its password; the password never prints."""

    username: str
    password: str = field(repr=False)


class TlsContext(ssl.SSLContext):
    """Remembers the socket that it wrapped last, because paho leaves it open when the handshake fails."""

    wrapped: ssl.SSLSocket | None = None

    def wrap_socket(self, *arguments: Any, **options: Any) -> ssl.SSLSocket:
        """As `ssl.SSLContext.wrap_socket`."""
        self.wrapped = super().wrap_socket(*arguments, **options)
        return self.wrapped

    def close_failed(self) -> None:
        """Close the socket of a handshake that failed."""
        if self.wrapped is not None:
            self.wrapped.close()


class BrokerSettings(SettingsModel):
    """How to reach one MQTT broker."""

    host: str = Field("127.0.0.1", description="Host name or address of the MQTT broker.", min_length=1)
    port: int = Field(1883, description="TCP port of the broker, 1 to 65535; 8883 is usual with TLS.", ge=1, le=65535)
    username: str = Field("", description="User name at the broker; empty connects without one.")
    password: SecretStr = Field(
        SecretStr(""),
        description="Password at the broker; better given as a file by METERGATE__BROKER__PASSWORD_FILE.",
    )
    credential_file: Path | None = Field(
        None,
        description="File with user name and password, a line each, instead of the two above; when it changes, we "
        "connect anew with what it says, so that a password is replaced without a restart.",
    )
    tls_ca: Path | None = Field(
        None, description="PEM file of the authority that signed the broker's certificate; turns TLS on."
    )
    tls_cert: Path | None = Field(
        None, description="PEM file of our own certificate, for a broker that asks for one; needs tls_ca and tls_key."
    )
    tls_key: Path | None = Field(None, description="PEM file of the key of tls_cert, without a passphrase.")
    protocol: Literal["auto", "5", "3.1.1"] = Field(
        "auto", description="MQTT version: auto tries 5 first and falls back to 3.1.1 when the broker has no 5."
    )
    keepalive_s: int = Field(20, description="Seconds between signs of life on an idle link, 5 to 600.", ge=5, le=600)
    _carrier: Callable[[Any, bool], Any] | None = PrivateAttr(default=None)

    @property
    def carrier(self) -> Callable[[Any, bool], Any] | None:
        """Return what makes a session's links, None for MQTT over TCP; see `carried_by`."""
        return self._carrier

    def carried_by(self, carrier: Callable[[Any, bool], Any]) -> Self:
        """Return these settings for a broker within this process. carrier: (session, MQTT 5?) -> its link."""
        copy = self.model_copy()
        copy._carrier = carrier
        return copy

    @model_validator(mode="after")
    def _certificate_is_whole(self) -> BrokerSettings:
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ValueError("tls_cert and tls_key belong together: set both or none")
        if self.tls_cert is not None and self.tls_ca is None:
            raise ValueError("tls_cert without tls_ca: set tls_ca, which turns TLS on")
        return self

    def credential(self) -> Credential:
        """Return the login as it stands now. Raises: BrokerError when the credential file says none."""
        if self.credential_file is None:
            return Credential(self.username, self.password.get_secret_value())
        return read_credential(self.credential_file)

    def tls_context(self) -> TlsContext | None:
        """Return how to encrypt, None without TLS. The broker's name is checked; TLS 1.2 or newer.

        Raises: BrokerError that names the file.
        """
        if self.tls_ca is None:
            return None
        context = TlsContext(ssl.PROTOCOL_TLS_CLIENT)  # checks the name and the chain
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        _load("tls_ca", self.tls_ca, lambda: context.load_verify_locations(str(self.tls_ca)))
        if self.tls_cert is not None and self.tls_key is not None:
            files = f"{self.tls_cert} with tls_key = {self.tls_key}"
            pair = str(self.tls_cert), str(self.tls_key)
            # a passphrase would be asked for on the terminal; none is given instead
            _load("tls_cert", files, lambda: context.load_cert_chain(*pair, password=lambda: ""))
        return context


def read_credential(path: Path) -> Credential:
    """Read a credential file: user name and password, a line each. Raises: BrokerError; never with the content."""
    try:
        with path.open("rb") as file:
            raw = file.read(_MAX_CREDENTIAL_BYTES + 1)
        lines = raw.decode("utf-8").splitlines()
    except OSError as error:
        raise BrokerError(f"credential_file = {path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError:
        raise BrokerError(f"credential_file = {path} is not UTF-8") from None
    if len(raw) > _MAX_CREDENTIAL_BYTES or len(lines) != 2 or not all(lines):
        raise BrokerError(f"credential_file = {path} must have two lines: the user's name, and the password")
    return Credential(lines[0], lines[1])


def _load(setting: str, what: object, load: Callable[[], None]) -> None:
    try:
        load()
    except ssl.SSLError as error:
        raise BrokerError(f"{setting} = {what}: not a PEM file that fits: {error.reason or error}") from error
    except OSError as error:
        raise BrokerError(f"{setting} = {what} cannot be read: {error.strerror}") from error


_HOSTNAME, _ADDRESS = 62, 64
_EXPIRED, _NOT_YET = 10, 9
_STRANGERS: Final = frozenset({2, 18, 19, 20, 21})


def tls_words(error: OSError, host: str) -> str:
    """Say what is wrong with a TLS connection to a broker, and which file mends it."""
    if isinstance(error, ssl.SSLCertVerificationError):
        code = error.verify_code
        if code in (_HOSTNAME, _ADDRESS):
            return (
                f'the broker\'s certificate is not for "{host}": correct host, or give the broker a certificate '
                f"with this name (metergate ca issue)"
            )
        if code == _EXPIRED:
            return "the broker's certificate, or its authority's, has expired: give it a new one; is our clock right?"
        if code == _NOT_YET:
            return "the broker's certificate is not valid yet: is our clock right?"
        if code in _STRANGERS:
            return "the broker's certificate was signed by an authority that tls_ca does not hold: correct tls_ca"
        return f"the broker's certificate is refused: {error.verify_message}"
    if isinstance(error, ConnectionResetError | ssl.SSLEOFError):
        return (
            "the broker hung up while we encrypted: does it speak TLS on this port (correct port, or remove tls_ca), "
            "or does it ask for our certificate (tls_cert)?"
        )
    if not isinstance(error, ssl.SSLError):
        return f"cannot connect to the broker: {error}"
    if error.reason in ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG"):
        return "the broker does not speak TLS on this port: correct port, or remove tls_ca"
    if error.reason in ("TLSV1_ALERT_PROTOCOL_VERSION", "UNSUPPORTED_PROTOCOL"):
        return "the broker speaks only TLS older than 1.2: bring it up to date"
    return f"no TLS connection to the broker: {error.reason or error}"
