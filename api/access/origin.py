"""Where a request comes from: the address, whether it is this very machine, and whether a page of ours sent it."""

from __future__ import annotations

import ipaddress
from typing import Final
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import Scope

from api.settings import is_loopback

_FORWARDING: Final = (
    "forwarded",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-forwarded-port",
    "x-forwarded-server",
    "x-real-ip",
    "x-client-ip",
    "x-cluster-client-ip",
    "x-original-forwarded-for",
    "true-client-ip",
    "cf-connecting-ip",
    "via",
)
"""Whoever hands on for somebody else says so with one of these."""


def peer(scope: Scope) -> str:
    """Return the address at the other end of the connection, "" when it is not known."""
    client = scope.get("client")
    return str(client[0]) if client else ""


def is_this_machine(scope: Scope) -> bool:
    """True when this machine asks for itself: the peer is loopback and nobody stands behind it."""
    headers = Headers(scope=scope)
    return is_loopback(peer(scope)) and not any(name in headers for name in _FORWARDING)


def address(scope: Scope) -> str:
    """Return whose address counts for limits and records.

    Behind a proxy on this machine that is the last address of X-Forwarded-For: the one that the proxy itself saw;
    what stands before it the caller may have written. Headers of any other peer are ignored.
    """
    direct = peer(scope)
    if not is_loopback(direct):
        return _short(direct)
    said = Headers(scope=scope).getlist("x-forwarded-for")
    last = said[-1].rpartition(",")[2].strip() if said else ""
    return _short(last) if _is_address(last) else _short(direct)


def is_secure(scope: Scope) -> bool:
    """True when the browser spoke TLS, to us or to a proxy on this machine."""
    if scope.get("scheme") == "https":
        return True
    return is_loopback(peer(scope)) and Headers(scope=scope).get("x-forwarded-proto", "") == "https"


def is_foreign_page(scope: Scope) -> bool:
    """True when a browser says that the request does not come from a page of this very address.

    Sec-Fetch-Site is the browser's own word; without it the Origin must be the name that was asked for. Programs
    send neither.
    """
    headers = Headers(scope=scope)
    site = headers.get("sec-fetch-site")
    if site is not None:
        return site.strip().lower() not in ("same-origin", "none")
    origin = headers.get("origin")
    if origin is None:
        return False
    try:
        return urlsplit(origin).netloc.lower() != headers.get("host", "").strip().lower()
    except ValueError:
        return True


def network(text: str) -> str:
    """Return what counts as one caller among the unidentified: an IPv4 address, or an IPv6 /64."""
    try:
        found = ipaddress.ip_address(text)
    except ValueError:
        return text
    if isinstance(found, ipaddress.IPv6Address):
        if found.ipv4_mapped:
            return str(found.ipv4_mapped)
        return str(ipaddress.ip_network((found, 64), strict=False))
    return text


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _short(text: str) -> str:
    return text[:64]
