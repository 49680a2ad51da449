"""What a caller shows: a key in the Authorization header, or the cookie of a login; never anything in the address."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import unquote_plus

from starlette.datastructures import Headers
from starlette.types import Scope

from api.access import origin
from api.problems import ProblemError

COOKIE: Final = "metergate"
SECURE_COOKIE: Final = "__Host-metergate"
"""Under TLS: the browser itself sees to it that nobody but this very host set it, and only over TLS."""

_KEY: Final = re.compile(r"mg_[A-Za-z0-9_-]{8,}")
_NAMES: Final = frozenset(
    {
        "access-token",
        "access_token",
        "api-key",
        "api_key",
        "apikey",
        "auth",
        "auth_token",
        "authorization",
        "bearer",
        "password",
        "secret",
        "session",
        "token",
        "x-api-key",
    }
)
_SHOWN: Final = 11
"""Of a key this much is no secret: "mg_" and eight letters, its id."""


def bearer(scope: Scope) -> str | None:
    """Return the key of the Authorization header, None when there is no such header. Raises: ProblemError 401."""
    sent = Headers(scope=scope).getlist("authorization")
    if not sent:
        return None
    scheme, _, key = sent[0].strip().partition(" ")
    if len(sent) > 1 or scheme.lower() != "bearer" or not _KEY.fullmatch(key.strip()):
        detail = "the Authorization header must be `Bearer mg_…`, once"
        raise ProblemError(401, "not-identified", detail, headers={"www-authenticate": 'Bearer realm="metergate"'})
    return key.strip()


def cookie_name(scope: Scope) -> str:
    """Return the name that the cookie of a login has on this connection."""
    return SECURE_COOKIE if origin.is_secure(scope) else COOKIE


def cookie(scope: Scope, name: str) -> str | None:
    """Return one cookie's value, None when it is not there or stands there twice (then somebody planted one)."""
    found = [
        value.strip()
        for header in Headers(scope=scope).getlist("cookie")
        for pair in header.split(";")
        for key, _, value in [pair.strip().partition("=")]
        if key == name
    ]
    return found[0] if len(found) == 1 and 0 < len(found[0]) <= 200 else None


def in_address(query: bytes) -> tuple[set[str], list[str]]:
    """Return the parameters of a query string that hold a secret (or mean to), and the keys of ours among them."""
    if not query:
        return set(), []
    names, keys = set(), []
    for pair in query.decode("latin-1").split("&"):
        name, _, value = (unquote_plus(part) for part in pair.partition("="))
        found = _KEY.findall(value) + _KEY.findall(name)
        if found or (value and name.lower() in _NAMES):
            names.add(_KEY.sub("mg_…", name)[:40])
            keys += found
    return names, keys[:5]


def shown_key(key: str) -> str:
    """Return the part of a key that may stand in logs."""
    return key[:_SHOWN]
