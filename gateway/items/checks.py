"""Find what is wrong in a profile of a protocol with items: names of items and values, words, golden pairs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from gateway.faults import Fault, Place
from gateway.items import family
from gateway.items.mbus import key_of
from gateway.profile import Profile, show
from gateway.profile_file import FieldFile, GoldenFile, ProfileFile
from gateway.units import units_of
from metering.errors import FrameError, ProtocolError
from metering.quantities import UNITS, to_micro
from metering.settings import nearest

_CJT_VALUES: Final = (
    "current", "settlement", "energy_1", "energy_2", "power", "flow", "volume", "supply", "back", "temperature",
    "status",
)  # fmt: skip
_DIGITS: Final = {"cjt188": 4, "dlt645-2007": 8, "dlt645-1997": 4}
_MODBUS_KEYS: Final = ("register", "encoding", "part", "not_available", "function")


def item_file_faults(file: ProfileFile) -> list[Fault]:
    """Return what is wrong beside the fields."""
    if file.protocol == "cjt188" and file.meter_type is None:
        return [(("meter_type",), "", "a CJ/T 188 profile needs it: 16 cold water, 32 heat, 48 gas")]
    return []


def item_field_faults(file: ProfileFile, field: FieldFile, at: Place) -> Iterator[Fault]:
    """Yield what is wrong in one field."""
    for key in _MODBUS_KEYS:
        if getattr(field, key):
            yield (*at, key), "", f"belongs to Modbus; a {file.protocol} field has an item"
    if (field.quantity is None) == (not field.flag):
        yield at, "", f'field "{field.name}" needs either a quantity or [[field.flag]]'
    if field.quantity is not None and field.unit not in (known := units_of(UNITS[field.quantity])):
        yield (*at, "unit"), f'"{field.unit}"', f"allowed: {', '.join(known)}; {nearest(field.unit, known)}"
    for key in ("scale", "offset"):
        try:
            to_micro(getattr(field, key))
        except ValueError as error:
            yield (*at, key), f'"{getattr(field, key)}"', str(error)
    yield from _item_faults(file, field, at)
    yield from _word_faults(field, at)


def _item_faults(file: ProfileFile, field: FieldFile, at: Place) -> Iterator[Fault]:
    digits = _DIGITS.get(file.protocol)
    if digits and not re.fullmatch(f"[0-9A-Fa-f]{{{digits}}}", field.item):
        yield (*at, "item"), f'"{field.item}"', f"{digits} hex digits are needed"
    elif not field.item:
        yield (*at, "item"), '""', "is needed: the record's head, or the address"
    if file.protocol == "cjt188" and field.value not in _CJT_VALUES:
        allowed = ", ".join(_CJT_VALUES)
        yield (*at, "value"), f'"{field.value}"', f"allowed: {allowed}; {nearest(field.value, list(_CJT_VALUES))}"
    if file.protocol.startswith("dlt645") and field.value and not field.value.isdecimal():
        yield (*at, "value"), f'"{field.value}"', "the place in a block, 0 and up, or nothing"
    if file.protocol == "mbus" and field.item != "status":
        try:
            key_of(field.item)
        except FrameError as error:
            yield (*at, "item"), f'"{field.item}"', error.message


def _word_faults(field: FieldFile, at: Place) -> Iterator[Fault]:
    seen: set[int] = set()
    for i, word in enumerate(field.word):
        if word.equals & ~field.mask:
            yield (*at, "word", i, "equals"), str(word.equals), f"has bits outside the mask {field.mask}"
        if word.equals in seen:
            yield (*at, "word", i, "equals"), str(word.equals), "stands twice"
        seen.add(word.equals)
        try:
            to_micro(word.value)
        except ValueError as error:
            yield (*at, "word", i, "value"), f'"{word.value}"', str(error)
    if field.quantity == "valve" and not field.word:
        yield (*at, "word"), "", 'a valve needs its words: equals = 0, value = "0" (open), and so on'


def item_golden_faults(profile: Profile) -> Iterator[Fault]:
    """Yield where golden frames say something else than the profile."""
    for i, golden in enumerate(profile.golden):
        try:
            yield from _golden_faults(profile, golden, ("golden", i))
        except (ProtocolError, ValueError) as error:
            yield ("golden", i), "", getattr(error, "message", str(error))


def _golden_faults(profile: Profile, golden: GoldenFile, at: Place) -> Iterator[Fault]:
    talk = family(profile.dialect)
    item, data = talk.golden_data(profile.dialect, bytes.fromhex(golden.request), bytes.fromhex(golden.response))
    parsed = talk.parse(profile.dialect, item, data)
    for name, said in golden.expect.items():
        field = profile.by_name.get(name)
        if field is None or talk.group_of(field) not in ("", item):
            yield (*at, "expect"), f'"{name}"', f"no such field here; {nearest(name, list(profile.by_name))}"
            continue
        try:
            found = show(field, talk.value(field, parsed))
        except FrameError as error:
            found = error.message
        if found != said:
            yield (*at, "expect"), f'{name} = "{said}"', f'the response says "{found}"'
