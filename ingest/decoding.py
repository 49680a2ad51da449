"""From the payload of an `up` message to its rows: strict, bounded, and forgiving row by row.

Two ways. The quick one: msgspec decodes against the schema, and `encode(decoded) == payload` proves that nothing was
hidden in the text, since what we encode has no duplicate keys, no fractions and no unknown fields. Gateways send
exactly that form. Everything else takes the slow way, which cuts the rows out of the text, judges each by itself and
keeps the raw bytes of the bad ones, so that one damaged row does not hold up its 499 neighbours.

Size comes first, then depth: no parser sees more than `max_bytes`, and none follows more than `MAX_DEPTH` brackets.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from metering.errors import MessageError
from metering.messages import MAX_BYTES, MAX_ROWS, VERSION, Up, encode
from metering.reading import Row

MAX_PAYLOAD: Final = 2 * MAX_BYTES
"""[bytes] A gateway sends at most half of this; the rest is slack for other spellings of the same JSON."""

MAX_DEPTH: Final = 8
"""Brackets inside brackets; our messages need 4."""

_MAX_DIGITS: Final = 20  # int64 has 19 and a sign; a longer number is not a meter's

_LAST_SEQ: Final = 2**62  # as `metering.messages.Seq`: what we acknowledge must be sayable, too

_UP: Final = msgspec.json.Decoder(Up)
_ROW: Final = msgspec.json.Decoder(Row)
_BROKEN = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


class BrokenMessageError(MessageError):
    """A message too broken to give its rows a number. reason: a short code for counting."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class BadRow:
    """A row that cannot be read, standing at its place among the good ones. raw: its bytes as they arrived."""

    raw: bytes
    reason: str
    detail: str


@dataclass(frozen=True, slots=True)
class Decoded:
    """A message: its header (`up.rows` is not to be used) and its rows, row i numbered `up.seq + i`."""

    up: Up
    rows: list[Row] | list[Row | BadRow]
    canonical: bool


def decode(payload: bytes, max_bytes: int = MAX_PAYLOAD) -> Decoded:
    """Decode one `up` payload. Raises: BrokenMessageError when not even its sequence number can be trusted."""
    if len(payload) > max_bytes:
        raise BrokenMessageError("size", f"{len(payload)} bytes; {max_bytes} are allowed")
    try:
        up: Up = _UP.decode(payload)
    except _BROKEN:
        return _decode_slowly(payload)
    # the only text that our own encoder writes and that we refuse is NUL
    if up.v != VERSION or encode(up) != payload or b"\\u0000" in payload:
        return _decode_slowly(payload)
    _check_last(up, len(up.rows))
    return Decoded(up, up.rows, True)


def _check_last(up: Up, rows: int) -> None:
    if up.seq + rows > _LAST_SEQ:
        raise BrokenMessageError("schema", f"rows beyond number {_LAST_SEQ}")


@dataclass(frozen=True, slots=True)
class _Fault:
    """Stands in a decoded value where something was wrong, so that only the row around it is lost."""

    reason: str
    detail: str


def _decode_slowly(payload: bytes) -> Decoded:
    # bytes that are not UTF-8 become single surrogates, which condemn the row they stand in and no other
    text = payload.decode("utf-8", "surrogateescape")
    _check_depth(text)
    try:
        header, rows = _take_apart(text)
    except RecursionError:
        raise BrokenMessageError("depth", "nested too deeply") from None
    up = _header(header)
    if len(rows) > MAX_ROWS:
        raise BrokenMessageError("rows", f"{len(rows)} rows; {MAX_ROWS} are allowed")
    _check_last(up, len(rows))
    return Decoded(up, [_row(raw, value) for raw, value in rows], False)


# a string with or without its end, or a bracket; it cannot backtrack, whatever the text
_TOKEN: Final = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"?|[\[{]|[\]}]', re.DOTALL)


def _check_depth(text: str) -> None:
    depth = 0
    for token in _TOKEN.finditer(text):
        mark = token[0]
        if mark in ("[", "{"):
            depth += 1
            if depth > MAX_DEPTH:
                raise BrokenMessageError("depth", f"more than {MAX_DEPTH} brackets inside each other")
        elif mark in ("]", "}"):
            depth -= 1


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any] | _Fault:
    found = dict(pairs)
    if len(found) == len(pairs):
        return found
    names = [name for name, _ in pairs]
    twice = next(name for name in found if names.count(name) > 1)
    return _Fault("duplicate_key", f"the key {twice[:40]!r} stands there twice")


def _whole(digits: str) -> int | _Fault:
    if len(digits) > _MAX_DIGITS:
        return _Fault("huge_number", f"a number of {len(digits)} digits")
    return int(digits)


_SLOW: Final = json.JSONDecoder(
    object_pairs_hook=_pairs,
    parse_int=_whole,  # a fault marks the row instead of raising
    parse_float=lambda text: _Fault("fraction", f"{text[:40]} is not a whole number"),
    parse_constant=lambda text: _Fault("not_finite", f"{text} is not a number"),
    strict=False,  # control characters are found by msgspec, row by row
)
_SPACE: Final = re.compile(r"[ \t\n\r]*")


def _take_apart(text: str) -> tuple[dict[str, Any], list[tuple[str, Any]]]:
    """Return the header and the rows, each row as (its text, its value)."""
    header: dict[str, Any] = {}
    rows: list[tuple[str, Any]] | None = None
    _, at = _mark(text, 0, "{")
    while True:
        key, at = _value(text, at)
        if not isinstance(key, str):
            raise BrokenMessageError("syntax", "a key that is not a text")
        if key in header or (key == "rows" and rows is not None):
            raise BrokenMessageError("duplicate_key", f"the key {key[:40]!r} stands there twice")
        _, at = _mark(text, at, ":")
        if key == "rows":
            rows, at = _rows(text, at)
        else:
            header[key], at = _value(text, at)
        mark, at = _mark(text, at, ",}")
        if mark == "}":
            break
    if _skip(text, at) != len(text):
        raise BrokenMessageError("syntax", "something follows the message")
    if rows is None:
        raise BrokenMessageError("schema", "no rows")
    return header, rows


def _rows(text: str, at: int) -> tuple[list[tuple[str, Any]], int]:
    _, at = _mark(text, at, "[")
    rows: list[tuple[str, Any]] = []
    if text[_skip(text, at) :].startswith("]"):
        return rows, _skip(text, at) + 1
    while True:
        start = _skip(text, at)
        value, at = _value(text, start)
        rows.append((text[start:at], value))
        mark, at = _mark(text, at, ",]")
        if mark == "]":
            return rows, at


def _skip(text: str, at: int) -> int:
    space = _SPACE.match(text, at)
    return space.end() if space else at


def _mark(text: str, at: int, allowed: str) -> tuple[str, int]:
    at = _skip(text, at)
    if at < len(text) and text[at] in allowed:
        return text[at], at + 1
    raise BrokenMessageError("syntax", f"at character {at} one of {allowed} is missing")


def _value(text: str, at: int) -> tuple[Any, int]:
    try:
        return _SLOW.raw_decode(text, _skip(text, at))
    except json.JSONDecodeError as error:
        raise BrokenMessageError("syntax", f"not JSON: {error.msg} at character {error.pos}") from None


def _header(header: dict[str, Any]) -> Up:
    for fault in _faults(header):
        raise BrokenMessageError(fault.reason, f"in the header: {fault.detail}")
    version = header.get("v")
    if version != VERSION:
        raise BrokenMessageError("version", f"schema version {str(version)[:40]}; this program speaks {VERSION}")
    try:
        return msgspec.convert({**header, "rows": []}, Up)
    except msgspec.ValidationError as error:
        raise BrokenMessageError("schema", str(error)) from None


def _row(text: str, value: Any) -> Row | BadRow:
    raw = text.encode("utf-8", "surrogateescape")
    for fault in _faults(value):
        return BadRow(raw, fault.reason, fault.detail)
    try:
        row: Row = _ROW.decode(raw)
    except _BROKEN as error:
        return BadRow(raw, "schema", str(error)[:300])
    return row


def _faults(value: Any) -> Iterator[_Fault]:
    """Yield what is wrong inside a value of the slow decoder; it is at most MAX_DEPTH deep."""
    if isinstance(value, _Fault):
        yield value
    elif isinstance(value, str):
        if "\0" in value:
            yield _Fault("nul", "a text holds a NUL")
        if any("\udc80" <= letter <= "\udcff" for letter in value):
            yield _Fault("utf8", "bytes that are not UTF-8, or half a character")
        elif any("\ud800" <= letter <= "\udfff" for letter in value):
            yield _Fault("surrogate", "half a character")
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from _faults(key)
            yield from _faults(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _faults(inner)
