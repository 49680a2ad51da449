"""Base conversion in the vocabulary of golden files: `input` in place of bytes (see `golden`)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from typing import Any

from gateway.protocols.base_conversion import BaseState, conversion_factor, to_base
from metering.errors import FrameError
from metering.quantities import MICRO, from_micro


def adapt(_protocol: str, raw: bytes, entry: Mapping[str, Any]) -> dict[str, Any]:
    """Convert the entry's `input`, or else the JSON object in `raw`. Raises: FrameError, sort "input" or "range"."""
    given = entry.get("input") or _json(raw)
    vm, pressure, temperature = (_micro(given, name) for name in ("vm", "p_abs_kpa", "t_c"))
    z = _micro(given, "z", 1)
    try:
        base = BaseState(_micro(given, "pb_kpa", "101.325"), _micro(given, "tb_c", 20), _micro(given, "zb", 1))
        factor = conversion_factor(pressure=pressure, temperature=temperature, z=z, base=base)
        result = to_base(vm, pressure=pressure, temperature=temperature, z=z, base=base)
    except ValueError as error:
        raise FrameError(str(error), raw, sort="range") from error
    return {
        "vb": result.volume / MICRO,
        "factor": float(factor),
        "base": str(base),
        "readings": {
            "volume_actual": from_micro(vm),
            "volume_standard": from_micro(result.volume),
            "conversion_factor": from_micro(round(factor * MICRO)),
            "pressure": from_micro(pressure),
            "temperature": from_micro(temperature),
        },
    }


def _micro(given: Mapping[str, Any], name: str, default: str | int | None = None) -> int:
    """Return one input in 10⁻⁶, rounded to it."""
    value = given.get(name, default)
    try:
        number = Decimal(str(value))
        if not isinstance(value, str | int | float | Decimal) or isinstance(value, bool) or abs(number) > 10**12:
            raise InvalidOperation
        return round(number * MICRO)
    except (InvalidOperation, ValueError):
        raise FrameError(f"{name} = {value!r}: a number up to 10^12 is needed", sort="input") from None


def _json(raw: bytes) -> Mapping[str, Any]:
    try:
        given = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise FrameError(f"not a JSON object: {error}", raw, sort="input") from error
    if not isinstance(given, dict):
        raise FrameError("a JSON object with vm, p_abs_kpa, t_c, z, pb_kpa, tb_c, zb is needed", raw, sort="input")
    return given
