"""Where a webhook may go: never into the house, unless the settings name the network.

The same check happens twice: when a webhook is registered, and for every attempt on the addresses that its name
leads to at that moment. The connection then goes to the address that was checked, so that a name server which
answers differently the second time (DNS rebinding) gains nothing. Redirects are not followed.
Source: OWASP, Server Side Request Forgery Prevention; RFC 6890 (special addresses); RFC 6052 (64:ff9b::/96).
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Final
from urllib.parse import SplitResult, urlsplit

from api.outbound.settings import Network, OutboundSettings
from metering.errors import MetergateError

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Resolver = Callable[[str, int], Awaitable[list[str]]]
"""(host, port) -> addresses as text."""

_NAT64: Final = ipaddress.ip_network("64:ff9b::/96")
_MOST: Final = 1000
_PORTS: Final = {"https": 443, "http": 80}


class AddressError(MetergateError):
    """A webhook may not go there."""


@dataclass(frozen=True, slots=True)
class Target:
    """An address taken apart. host: without brackets. path: with the query."""

    tls: bool
    host: str
    port: int
    path: str

    @property
    def authority(self) -> str:
        """What the Host header says."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == _PORTS["https" if self.tls else "http"] else f"{host}:{self.port}"


def parse_url(url: str, settings: OutboundSettings) -> Target:
    """Take an address apart. Raises: AddressError, which says what is allowed."""
    if len(url) > _MOST or not url.isascii() or not url.isprintable() or " " in url or "\\" in url:
        raise AddressError("an address has printable ASCII characters only, at most 1000, without spaces")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise AddressError(f"this is not an address: {error}") from error
    host = (parts.hostname or "").rstrip(".")
    _check_parts(parts, host)
    if parts.scheme == "http" and host not in {name.lower() for name in settings.http_hosts}:
        raise AddressError("http is allowed only to hosts that the setting outbound.http_hosts names; use https")
    if (literal := _literal(host)) is not None:
        check_addresses([str(literal)], settings.networks)
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Target(parts.scheme == "https", host, port or _PORTS[parts.scheme], path)


def _check_parts(parts: SplitResult, host: str) -> None:
    if parts.scheme not in _PORTS:
        raise AddressError("an address begins with https://")
    if parts.username is not None or parts.password is not None:
        raise AddressError("an address holds neither user nor password; the signature proves who sends")
    if parts.fragment:
        raise AddressError("an address holds no #fragment")
    if not host or "%" in host:
        raise AddressError("an address names a host")


def _literal(host: str) -> Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def permitted(address: Address, networks: Iterable[Network]) -> bool:
    """True for an address on the public internet, or in one of the networks; inner addresses are judged as well."""
    inner = _inner(address)
    if inner is not None:
        return permitted(inner, networks)
    if any(address.version == network.version and address in network for network in networks):
        return True
    return address.is_global and not address.is_multicast and not address.is_reserved


def _inner(address: Address) -> ipaddress.IPv4Address | None:
    """The IPv4 address that an IPv6 one leads to: mapped, 6to4, Teredo, NAT64, and ::a.b.c.d of old."""
    if isinstance(address, ipaddress.IPv4Address):
        return None
    if address.teredo is not None:
        return address.teredo[1]
    if address in _NAT64 or (int(address) >> 32 == 0 and int(address) > 1):
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour


def check_addresses(found: Iterable[str], networks: Iterable[Network]) -> list[str]:
    """Return the addresses when every one is permitted. Raises: AddressError for the first that is not."""
    checked = []
    for text in found:
        address = ipaddress.ip_address(text.partition("%")[0])
        if "%" in text or not permitted(address, list(networks)):
            raise AddressError(
                f"it leads to {address}, which is inside the house or not for everybody; "
                "the setting outbound.allow_private may name the network"
            )
        checked.append(text)
    if not checked:
        raise AddressError("its name leads nowhere")
    return checked


async def addresses_of(target: Target, settings: OutboundSettings, resolver: Resolver) -> list[str]:
    """Return the addresses to connect to, checked now. Raises: AddressError."""
    try:
        found = await resolver(target.host, target.port)
    except (OSError, UnicodeError) as error:
        raise AddressError(f"its name {target.host} is not known: {error}") from error
    return check_addresses(dict.fromkeys(found), settings.networks)


async def resolve(host: str, port: int) -> list[str]:
    """Ask the system's resolver. Raises: OSError."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(entry[4][0]) for entry in found]
