"""TLS of the API: one context of our own making, a deadline for handshakes, a new certificate without a restart.

asyncio shakes hands before anything of ours sees the connection: whoever connects and says nothing would otherwise
stay for a minute, uncounted. uvicorn passes no deadline on, so that its server is told to listen here instead.
"""

from __future__ import annotations

import contextlib
import os
import ssl
from pathlib import Path
from typing import Final

import structlog

from api.settings import ApiSettings
from metering.clock import Clock
from metering.errors import SettingsError

HANDSHAKE_S: Final = 10.0
"""Time in which a caller must have shaken hands [s]; `header_timeout_s` when that is shorter."""
_LOOK_S: Final = 10.0
_log = structlog.get_logger("api")


class Certificate:
    """The API's certificate as a TLS context that follows its files."""

    def __init__(self, cert: Path, key: Path, handshake_s: float = HANDSHAKE_S) -> None:
        """Raises: SettingsError that names the file."""
        self.cert, self.key, self.handshake_s = cert, key, handshake_s
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.minimum_version = ssl.TLSVersion.TLSv1_2
        self.context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
        self.context.set_alpn_protocols(["http/1.1"])
        self._seen = self._stamp()
        load(self.context, cert, key)

    def reload(self) -> bool:
        """Take over changed files; True when there were any. Open connections keep what they have.

        Raises: SettingsError when the new files do not fit; the old certificate goes on.
        """
        stamp = self._stamp()
        if stamp == self._seen:
            return False
        load(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), self.cert, self.key)  # a try, so that a bad pair harms nothing
        load(self.context, self.cert, self.key)
        self._seen = stamp
        return True

    def _stamp(self) -> list[tuple[int, int, int]]:
        found = []
        for path in (self.cert, self.key):
            with contextlib.suppress(OSError):
                facts = path.stat()
                found.append((facts.st_mtime_ns, facts.st_size, facts.st_ino))
        return found


def load(context: ssl.SSLContext, cert: Path, key: Path) -> None:
    """Load a certificate and its key. Raises: SettingsError that names the file."""
    for name, path in (("tls_cert", cert), ("tls_key", key)):
        if not os.access(path, os.R_OK):
            raise SettingsError(f"api.{name} = {path} cannot be read")
    try:
        context.load_cert_chain(cert, key, password=lambda: "")  # nobody types a passphrase for a service
    except (ssl.SSLError, OSError) as error:
        reason = getattr(error, "reason", None) or error
        raise SettingsError(f"api.tls_cert = {cert} and api.tls_key = {key} do not fit together: {reason}") from error


def certificate(settings: ApiSettings) -> Certificate | None:
    """Return the API's certificate, None without TLS. Raises: SettingsError."""
    if settings.tls_cert is None or settings.tls_key is None:
        return None
    return Certificate(settings.tls_cert, settings.tls_key, min(HANDSHAKE_S, settings.header_timeout_s))


async def follow(found: Certificate, clock: Clock) -> None:
    """Look at the files every ten seconds, for ever; a pair that does not fit is told, and the old one goes on."""
    told = ""
    while True:
        await clock.sleep(_LOOK_S)
        try:
            if found.reload():
                _log.info("new certificate", file=str(found.cert))
            told = ""
        except SettingsError as error:
            if str(error) != told:
                told = str(error)
                _log.error("the new certificate is not taken", why=told)
