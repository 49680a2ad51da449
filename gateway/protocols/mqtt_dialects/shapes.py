"""Taking values of a known type out of JSON; what has another type is refused by its path."""

from __future__ import annotations

import base64
import binascii
from decimal import Decimal
from typing import Any

from gateway.protocols.mqtt_dialects.profile import MISSING, lookup
from metering.errors import FrameError


def text(said: Any, path: str, default: str | None = None) -> str:
    """Return the text at a path. default: when it is missing, None refuses. Raises: FrameError."""
    value = lookup(said, path)
    if value is MISSING and default is not None:
        return default
    if not isinstance(value, str):
        raise FrameError(f"{path} is no text")
    return value


def whole(said: Any, path: str, default: int | None) -> int | None:
    """Return the whole number at a path, `default` when it is missing. Raises: FrameError."""
    value = lookup(said, path)
    if value is MISSING:
        return default
    if isinstance(value, bool) or not isinstance(value, int):
        raise FrameError(f"{path} is no whole number")
    return value


def number(said: Any, path: str) -> int | Decimal | None:
    """Return the number at a path, None when it is missing. Raises: FrameError."""
    value = lookup(said, path)
    if value is MISSING:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, Decimal)):
        raise FrameError(f"{path} is no number")
    return value


def octets(said: Any, path: str) -> bytes:
    """Return the bytes of a base64 text, none when it is missing. Raises: FrameError."""
    try:
        return base64.b64decode(text(said, path, ""), validate=True)
    except (binascii.Error, ValueError):
        raise FrameError(f"{path} is not base64") from None


def table(said: Any, path: str = "") -> dict[str, Any]:
    """Return the object at a path. Raises: FrameError."""
    value = lookup(said, path)
    if not isinstance(value, dict):
        raise FrameError(f"{path or 'the message'} is no object")
    return value
