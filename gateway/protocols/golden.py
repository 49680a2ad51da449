"""Judge golden frames: does a decoder say what a file of frames expects?

A file is a JSON list of entries `{id, protocol, hex, expect, ...}`; `expect` is a subset of what a decoder says.
Each protocol has an *adapter*, which runs the decoder and puts its result into the vocabulary of such files:

    adapt(protocol: str, raw: bytes, entry: Mapping[str, Any]) -> dict[str, Any]

entry: `context` is what the decoder must be told (key, f_port, fields); `topic` and `text` of MQTT messages, `input`
of a calculation. The adapter raises a `ProtocolError` whose `sort`, `also` and `facts` say what is wrong.
Types decide the comparison: a Decimal is compared as a number, a float with a tolerance, everything else as it is.
The key `readings` holds our own words, {quantity: decimal string of the house unit}; `metergate decode` prints it.
An adapter's module may also offer `split(protocol, raw) -> list[bytes]`, the frames in a recording; without it the
bytes are one frame.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal, InvalidOperation
from typing import Any, Final

from metering.errors import ProtocolError

Adapter = Callable[[str, bytes, Mapping[str, Any]], dict[str, Any]]

_ROOM: Final = "gateway.protocols"
PROTOCOLS: Final[dict[str, str]] = {
    "cjt188": f"{_ROOM}.golden_cjt188:adapt",
    "dlt645-2007": f"{_ROOM}.golden_dlt645:adapt",
    "dlt645-1997": f"{_ROOM}.golden_dlt645:adapt",
    "modbus-rtu": f"{_ROOM}.golden_modbus:adapt",
    "modbus-tcp": f"{_ROOM}.golden_modbus:adapt",
    "iec62056-21": f"{_ROOM}.golden_iec62056_21:adapt",
    "gas-base-conversion": f"{_ROOM}.golden_base_conversion:adapt",
    "mbus": f"{_ROOM}.golden_mbus:adapt",
    "wmbus": f"{_ROOM}.golden_mbus:adapt",
    "dsmr-p1": f"{_ROOM}.golden_p1sml:adapt",
    "sml": f"{_ROOM}.golden_p1sml:adapt",
    "sparkplug-b": f"{_ROOM}.golden_mqtt:adapt",
    "mqtt-chirpstack-v4": f"{_ROOM}.golden_mqtt:adapt",
    "mqtt-ttn-v3": f"{_ROOM}.golden_mqtt:adapt",
    "mqtt-wmbusmeters": f"{_ROOM}.golden_mqtt:adapt",
    "mqtt-huawei-iotda": f"{_ROOM}.golden_mqtt:adapt",
    "lorawan-ugm": f"{_ROOM}.golden_mqtt:adapt",
}
"""Protocol name -> "module:function"; imported when first used."""

NOT_COMPARED: Final = frozenset({"valid", "quirk", "remark", "note"})
"""Keys of `expect` that speak to people."""

_SORTS: Final = (
    frozenset({"checksum", "crc", "bcc", "sum", "cs", "lrc", "fcs"}),
    frozenset({"length", "short", "cut", "truncated", "incomplete", "too_short", "too short", "size"}),
    frozenset({"frame", "format", "structure", "start", "stop", "header", "noise"}),
)
"""Names that files use for the same sort of refusal."""

MALFORMED: Final = (LookupError, TypeError, ValueError, ArithmeticError, AttributeError)
"""What a key of the wrong type raises somewhere below; it fails its own entry and no other."""

_TOLERANCES: Final[dict[str, tuple[float, float]]] = {"modbus-rtu": (1e-6, 1e-9), "modbus-tcp": (1e-6, 1e-9)}
_TOLERANCE: Final = (1e-6, 1e-6)
"""(absolute, relative) for floats. Modbus values are given to 6 decimals."""


def adapter_of(protocol: str) -> Adapter:
    """Return the adapter of a protocol. Raises: KeyError for a protocol that is not in `PROTOCOLS`."""
    module_name, _, name = PROTOCOLS[protocol].partition(":")
    adapter: Adapter = getattr(importlib.import_module(module_name), name)
    return adapter


def split_frames(protocol: str, raw: bytes) -> list[bytes]:
    """Return the frames in a recording, damaged stretches included, in order. Raises: KeyError."""
    module_name = PROTOCOLS[protocol].partition(":")[0]
    split: Callable[[str, bytes], list[bytes]] | None = getattr(importlib.import_module(module_name), "split", None)
    return [raw] if split is None else split(protocol, raw)


def judge(entry: Mapping[str, Any]) -> list[str]:
    """Return what differs between an entry and our decoder, one sentence each; nothing when it passes."""
    protocol, expect = entry.get("protocol"), entry.get("expect")
    if not isinstance(protocol, str) or protocol not in PROTOCOLS:
        return [f"unknown protocol {protocol!r}; known are {', '.join(PROTOCOLS)}"]
    if not isinstance(expect, Mapping):
        return ["the entry has no expect"]
    try:
        raw = bytes.fromhex(entry.get("hex", ""))
    except (TypeError, ValueError) as error:
        return [f"hex: {error}"]
    try:
        actual = adapter_of(protocol)(protocol, raw, entry)
    except ProtocolError as error:
        return _judge_refusal(expect, error)
    except MALFORMED as error:
        return [f"the entry cannot be judged, its context may be malformed: {type(error).__name__}: {error}"]
    if expect.get("valid") is False:
        return [f"accepted, expected a refusal ({expect.get('error', 'any')})"]
    return differences(_compared(expect), actual, _TOLERANCES.get(protocol, _TOLERANCE))


def differences(expect: Any, actual: Any, tolerance: tuple[float, float] = _TOLERANCE, path: str = "") -> list[str]:
    """Compare an expectation with what a decoder says; an object may have more keys than are expected of it."""
    if isinstance(expect, Mapping) and isinstance(actual, Mapping):
        return [line for key, value in expect.items() for line in _member(key, value, actual, tolerance, path)]
    if _is_list(expect) and _is_list(actual):
        if len(expect) != len(actual):
            return [f"{path}: expected {len(expect)} items, found {len(actual)}: {_show(actual)}"]
        pairs = enumerate(zip(expect, actual, strict=True))
        return [line for i, (want, have) in pairs for line in differences(want, have, tolerance, f"{path}[{i}]")]
    return [] if _same(expect, actual, tolerance) else [f"{path}: expected {_show(expect)}, found {_show(actual)}"]


def _member(key: str, want: Any, actual: Mapping[str, Any], tolerance: tuple[float, float], path: str) -> list[str]:
    name = f"{path}.{key}" if path else key
    if key not in actual:
        return [f"{name}: expected {_show(want)}, the decoder does not say"]
    return differences(want, actual[key], tolerance, name)


def _compared(expect: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in expect.items() if key not in NOT_COMPARED}


def _judge_refusal(expect: Mapping[str, Any], error: ProtocolError) -> list[str]:
    if expect.get("valid", True):
        return [f"refused ({error.sort}): {error}"]
    lines = []
    wanted = expect.get("error")
    if wanted is not None and not any(_same_sort(str(wanted), sort) for sort in (error.sort, *error.also)):
        lines.append(f"error: expected {wanted}, found {error.sort}: {error}")
    facts = {key: value for key, value in _compared(expect).items() if key != "error"}
    return lines + differences(facts, error.facts)


def _same_sort(wanted: str, found: str) -> bool:
    wanted = wanted.lower()
    return wanted == found or any(wanted in group and found in group for group in _SORTS)


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str | bytes)


def _same(expect: Any, actual: Any, tolerance: tuple[float, float]) -> bool:
    if isinstance(expect, bool) or isinstance(actual, bool) or expect is None or actual is None:
        return expect is actual
    if isinstance(actual, Decimal):
        return _decimal(expect) == actual
    if isinstance(actual, str) or isinstance(expect, str):
        return bool(expect == actual)
    if isinstance(actual, float) or isinstance(expect, float):
        return math.isclose(expect, actual, abs_tol=tolerance[0], rel_tol=tolerance[1])
    return bool(expect == actual)


def _decimal(value: Any) -> Decimal | None:
    try:
        return Decimal(str(value))
    except InvalidOperation:
        return None


def _show(value: Any) -> str:
    text = str(value) if isinstance(value, Decimal) else repr(value)
    return text if len(text) <= 120 else f"{text[:117]}..."
