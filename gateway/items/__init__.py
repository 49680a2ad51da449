"""Meters that name their data: which questions a profile needs, how they are put, what the answers mean.

One file per protocol family, each with the same three functions; this file chooses. Modbus has registers instead,
see `gateway.requests`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Protocol

from gateway.items import cjt188, dlt645, iec62056, mbus
from gateway.profile import Dialect, MeterField, Profile, flags_of
from gateway.requests import Found
from metering.errors import FrameError, ProtocolError

__all__ = ["ItemRequest", "compile_item", "make_ask", "plan_items", "values_of", "wire_sizes"]


class Family(Protocol):
    """What each protocol file has."""

    def group_of(self, field: MeterField) -> str:
        """Return what is asked together with this field: its item, or "" when one question brings all."""

    def make_ask(self, dialect: Dialect, address: str, fields: tuple[MeterField, ...]) -> Any:
        """Return the question for its master. Raises: ProtocolError, ValueError for an impossible address."""

    def parse(self, dialect: Dialect, item: str, data: bytes) -> Any:
        """Return what the master's bytes say. Raises: ProtocolError."""

    def value(self, field: MeterField, parsed: Any) -> int | None:
        """Return one field [10⁻⁶ of the house unit], raw bits for flags, None: not available."""

    def golden_data(self, dialect: Dialect, request: bytes, response: bytes) -> tuple[str, bytes]:
        """Return item and master's bytes of a golden pair. Raises: ProtocolError when they do not fit together."""

    def wire_sizes(self, item: str, fields: tuple[MeterField, ...]) -> tuple[int, int, int]:
        """Return [bytes] of all requests and answers of one question, and how many exchanges it takes."""


_FAMILIES: Final[dict[str, Family]] = {
    "cjt188": cjt188,
    "dlt645-2007": dlt645,
    "dlt645-1997": dlt645,
    "mbus": mbus,
    "iec62056-21": iec62056,
}


@dataclass(frozen=True, slots=True)
class ItemRequest:
    """One question, and the fields that it brings. item: "" when it brings all there is."""

    dialect: Dialect
    item: str
    fields: tuple[MeterField, ...]


def family(dialect: Dialect) -> Family:
    """Return the functions of a protocol other than Modbus."""
    return _FAMILIES[dialect.protocol]


def plan_items(profile: Profile) -> tuple[ItemRequest, ...]:
    """Return the fewest questions that bring all fields, in the profile's order."""
    groups: dict[str, list[MeterField]] = {}
    for field in profile.fields:
        groups.setdefault(family(profile.dialect).group_of(field), []).append(field)
    return tuple(ItemRequest(profile.dialect, item, tuple(fields)) for item, fields in groups.items())


def make_ask(request: ItemRequest, address: str) -> Any:
    """Return the question to one meter, for the master of its protocol."""
    return family(request.dialect).make_ask(request.dialect, address, request.fields)


def compile_item(request: ItemRequest) -> Callable[[bytes, Found], None]:
    """Return the function that decodes a master's bytes into a `Found`; it raises ProtocolError."""
    talk = family(request.dialect)

    def decode(data: bytes, found: Found) -> None:
        parsed = talk.parse(request.dialect, request.item, data)
        for field in request.fields:
            try:
                value = talk.value(field, parsed)
            except ProtocolError as error:
                found.bad = (found.bad or {}) | {field.name: error.sort}
                continue
            if value is None:
                found.absent = [*(found.absent or []), field.name]
            elif field.quantity is None:
                found.flags |= flags_of(field, value)
            else:
                found.values[field.quantity] = value + field.offset

    return decode


def values_of(request: ItemRequest, data: bytes) -> dict[str, int | FrameError | None]:
    """Return every field's value by name, for people; FrameError where the bytes hold none."""
    talk = family(request.dialect)
    parsed = talk.parse(request.dialect, request.item, data)
    found: dict[str, int | FrameError | None] = {}
    for field in request.fields:
        try:
            found[field.name] = talk.value(field, parsed)
        except FrameError as error:
            found[field.name] = error
    return found


def wire_sizes(request: ItemRequest) -> tuple[int, int, int]:
    """Return [bytes] of all requests and answers of one question, and how many exchanges it takes."""
    return family(request.dialect).wire_sizes(request.item, request.fields)
