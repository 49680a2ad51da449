"""JSON as we accept it from meters: bounded, exact, and refused where other parsers guess.

Numbers become int or Decimal, never float. Refused: more than `MAX_BYTES`, nesting deeper than `MAX_DEPTH`, bad
UTF-8, a byte order mark, NaN and Infinity, numbers of more than 40 characters or beyond 10^±30, integers of more than
20 digits, a key twice in one object, NUL and lone surrogates in texts. Every refusal is a FrameError of sort "json".
"""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any, Final

from metering.errors import FrameError

MAX_BYTES: Final = 256 * 1024
MAX_DEPTH: Final = 32
_MAX_NUMBER: Final = 40
_MAX_INTEGER: Final = 20
_MAX_EXPONENT: Final = 30

Json = Any
"""None, bool, int, Decimal, str, list[Json] or dict[str, Json]."""


class _RefusedError(ValueError):
    """Carries our sentence, and one more word for its sort, through the parser of the standard library."""

    def __init__(self, text: str, word: str) -> None:
        super().__init__(text)
        self.word = word


def loads(payload: bytes) -> Json:
    """Parse a payload. Raises: FrameError, sort "json"."""
    if len(payload) > MAX_BYTES:
        raise _error(f"JSON of {len(payload)} bytes; {MAX_BYTES} are allowed", payload, "length")
    if _depth(payload) > MAX_DEPTH:
        raise _error(f"JSON nested deeper than {MAX_DEPTH}", payload, "depth")
    try:
        found = _DECODER.decode(payload.decode("utf-8"))
        _check(found)
        return found
    except _RefusedError as error:
        raise _error(str(error), payload, error.word) from None
    except UnicodeDecodeError:
        raise _error("JSON is not UTF-8", payload, "encoding") from None
    except (ValueError, RecursionError) as error:
        raise _error(f"not JSON: {str(error)[:80]}", payload, "syntax") from None


def _error(text: str, payload: bytes, word: str) -> FrameError:
    return FrameError(text, payload[:64], sort="json", also=("format", word))


def _depth(payload: bytes) -> int:
    """Deepest nesting of brackets outside texts; cheap, and before the recursive parser sees them."""
    if payload.count(b"[") + payload.count(b"{") <= MAX_DEPTH:
        return 0
    depth = deepest = 0
    in_text = escaped = False
    for byte in payload:
        if in_text:
            in_text = escaped or byte != 0x22
            escaped = not escaped and byte == 0x5C
        elif byte == 0x22:
            in_text = True
        elif byte in (0x5B, 0x7B):
            depth += 1
            deepest = max(deepest, depth)
        elif byte in (0x5D, 0x7D):
            depth -= 1
    return deepest


def _integer(text: str) -> int:
    if len(text.lstrip("-")) > _MAX_INTEGER:
        raise _RefusedError(f"integer of {len(text)} digits; {_MAX_INTEGER} are allowed", "number")
    return int(text)


def _decimal(text: str) -> Decimal:
    if len(text) > _MAX_NUMBER:
        raise _RefusedError(f"number of {len(text)} characters; {_MAX_NUMBER} are allowed", "number")
    number = Decimal(text)
    if abs(number.adjusted()) > _MAX_EXPONENT:
        raise _RefusedError(f"number {text} is no quantity", "number")
    return number


def _constant(text: str) -> Json:
    raise _RefusedError(f"{text} is not JSON", "number")


def _object(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    found = dict(pairs)
    if len(found) != len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise _RefusedError(f"key {twice[:40]!r} stands twice in one object", "duplicate")
    for key, value in pairs:
        _check_text(key)
        _check(value)
    return found


def _check(value: Json) -> None:
    if isinstance(value, str):
        _check_text(value)
    elif isinstance(value, list):
        for item in value:
            _check(item)


def _check_text(text: str) -> None:
    if "\0" in text:
        raise _RefusedError("a text carries NUL", "text")
    if any("\ud800" <= letter <= "\udfff" for letter in text):
        raise _RefusedError("a text carries a lone surrogate", "text")


_DECODER: Final = json.JSONDecoder(
    parse_int=_integer, parse_float=_decimal, parse_constant=_constant, object_pairs_hook=_object
)
