"""Cursors: where the next page begins, as text that callers hand back unread.

A cursor holds the last item's key, never an offset: rows that arrive meanwhile neither repeat nor hide another one.
It is not a secret and grants nothing; whatever comes back is checked like any other parameter.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

import msgspec

from api.problems import invalid

T = TypeVar("T")
_INT64_MAX: Final = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """One page, and the cursor behind its last item (None: this was the last page)."""

    items: list[T]
    next_cursor: str | None


def encode(kind: str, key: str | int) -> str:
    """Return a cursor of one list (`kind`) that continues behind `key`."""
    return base64.urlsafe_b64encode(msgspec.json.encode([kind, key])).rstrip(b"=").decode("ascii")


def text_key(kind: str, cursor: str | None) -> str | None:
    """Return the text key in a cursor. Raises: ProblemError when it is not one of this list."""
    return None if cursor is None else _decode(kind, cursor, _TEXT)


def number_key(kind: str, cursor: str | None) -> int | None:
    """Return the number key in a cursor. Raises: ProblemError when it is not one of this list."""
    if cursor is None:
        return None
    number: int = _decode(kind, cursor, _NUMBER)
    if not 0 <= number <= _INT64_MAX:
        raise _refused(cursor)
    return number


def page_of(rows: Sequence[T], limit: int, kind: str, key: Callable[[T], str | int]) -> Page[T]:
    """Cut the one row too many that was asked for, and make the cursor when there was one."""
    kept = list(rows[:limit])
    return Page(kept, encode(kind, key(kept[-1])) if len(rows) > limit else None)


_TEXT: Final = msgspec.json.Decoder(tuple[str, str])
_NUMBER: Final = msgspec.json.Decoder(tuple[str, int])


def _decode(kind: str, cursor: str, decoder: msgspec.json.Decoder[Any]) -> Any:
    try:
        raw = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True)
        found, key = decoder.decode(raw)
    except (binascii.Error, ValueError, msgspec.MsgspecError) as error:
        raise _refused(cursor) from error
    if found != kind or (isinstance(key, str) and not key.isprintable()):
        raise _refused(cursor)
    return key


def _refused(cursor: str) -> Exception:
    return invalid("cursor", cursor, "is not a cursor of this list; begin without one")
