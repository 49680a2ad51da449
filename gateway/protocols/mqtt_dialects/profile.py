"""A JSON profile: where in a message the values, the time, the counter and the device's name stand.

A path is keys and list places joined by dots: "data.rows.0.total"; a dot inside a key is written "\\.". Scale and
unit conversion are exact decimals.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import ROUND_HALF_EVEN, Context, Decimal, localcontext
from typing import Any, Final

from gateway.protocols.mqtt_dialects.times import TimeForm, to_ms
from metering.errors import FrameError
from metering.quantities import INT64_MAX, MICRO, UNITS, Quantity

UNIT_FACTORS: Final[dict[str, dict[str, Decimal]]] = {
    "m3": {"m3": Decimal(1), "dm3": Decimal("0.001"), "l": Decimal("0.001"), "cm3": Decimal("0.000001")},
    "kWh": {"kWh": Decimal(1), "Wh": Decimal("0.001"), "MWh": Decimal(1000)},
    "m3/h": {"m3/h": Decimal(1), "l/h": Decimal("0.001"), "l/min": Decimal("0.06"), "m3/s": Decimal(3600)},
    "kW": {"kW": Decimal(1), "W": Decimal("0.001"), "MW": Decimal(1000)},
    "kPa": {
        "kPa": Decimal(1),
        "Pa": Decimal("0.001"),
        "hPa": Decimal("0.1"),
        "mbar": Decimal("0.1"),
        "bar": Decimal(100),
        "MPa": Decimal(1000),
    },
    "degC": {"degC": Decimal(1)},
    "V": {"V": Decimal(1), "mV": Decimal("0.001"), "kV": Decimal(1000)},
    "A": {"A": Decimal(1), "mA": Decimal("0.001")},
    "1": {"1": Decimal(1)},
}
"""house unit -> unit of a message -> factor."""

_STEP: Final = re.compile(r"(?:[^.\\]|\\.)+")
MISSING: Final = object()


@dataclass(frozen=True, slots=True)
class JsonField:
    """One value. unit: as sent, "" for the house unit. scale: number on the wire x scale = number of `unit`.

    words: texts and true/false that stand for a number ({"open": 0, "closed": 1, "true": 1}). text: the number comes
    as a text ("12.5"), which is refused otherwise. optional: may be missing. decimals: round the number to so many (a
    script that adds floats sends 15.250000000000002); None refuses what is finer than 10⁻⁶.
    """

    quantity: Quantity
    path: str
    unit: str = ""
    scale: Decimal = Decimal(1)
    words: Mapping[str, int] = field(default_factory=dict)
    text: bool = False
    optional: bool = True
    decimals: int | None = None

    def factor(self) -> Decimal:
        """Return what a number on the wire is multiplied by. Raises: ValueError for a unit that does not fit."""
        house = UNITS[self.quantity]
        factors = UNIT_FACTORS[house]
        unit = self.unit or house
        if unit not in factors:
            raise ValueError(f"{self.quantity}: unit {unit!r}; allowed: {', '.join(factors)}")
        return self.scale * factors[unit]


@dataclass(frozen=True, slots=True)
class TimeRule:
    """Where the time of a value stands, and its form. offset_minutes: of local times."""

    path: str
    form: TimeForm = "rfc3339"
    offset_minutes: int = 0


@dataclass(frozen=True, slots=True)
class JsonProfile:
    """See the module. rows: path of a list of rows, each with fields and time of its own; "" when there is none.

    device: path of the device's name; with `device_level` it stands in the topic instead (0 is the first level).
    counter: path of the sender's counter, "" for none. modulus: where that begins again at 0. codec: name of the
    binary payload's layout on LoRaWAN ("lorawan-ugm"), "" to read the platform's decoded object by the fields.
    """

    fields: tuple[JsonField, ...] = ()
    time: TimeRule | None = None
    rows: str = ""
    device: str = ""
    device_level: int | None = None
    counter: str = ""
    modulus: int | None = None
    codec: str = ""


def lookup(value: Any, path: str) -> Any:
    """Return what stands at a path, `MISSING` when nothing does."""
    if not path:
        return value
    for step in _STEP.findall(path):
        key = re.sub(r"\\(.)", r"\1", step)
        if isinstance(value, dict) and key in value:
            value = value[key]
        elif isinstance(value, list) and key.isdecimal() and int(key) < len(value):
            value = value[int(key)]
        else:
            return MISSING
    return value


def micro(value: int | Decimal, factor: Decimal) -> int:
    """Return value x factor in 10⁻⁶, exactly. Raises: FrameError, sort "value", when it is finer or too large."""
    with localcontext() as context:
        context.prec = 120  # more than any number that strict_json lets pass, so that nothing is rounded unseen
        exact = Decimal(value) * factor * MICRO
    whole = int(exact)
    if whole != exact or abs(whole) > INT64_MAX:
        raise FrameError(f"value {value} x {factor} has more than 6 decimals or is too large", sort="value")
    return whole


def read_fields(row: Any, fields: tuple[JsonField, ...]) -> dict[Quantity, int]:
    """Return the values of one row. Raises: FrameError, sort "value", for what is no number or is missing."""
    found: dict[Quantity, int] = {}
    for rule in fields:
        value = lookup(row, rule.path)
        if value is MISSING or value is None:
            if not rule.optional:
                raise FrameError(f"{rule.path} is missing", sort="value")
            continue
        found[rule.quantity] = _number(value, rule)
    return found


def _number(value: Any, rule: JsonField) -> int:
    if isinstance(value, bool):
        value = "true" if value else "false"
    if isinstance(value, str) and value in rule.words:
        return rule.words[value] * MICRO
    if isinstance(value, str) and rule.text and re.fullmatch(r"[+-]?[0-9]{1,15}(\.[0-9]{1,15})?", value):
        value = Decimal(value)
    if isinstance(value, (int, Decimal)):
        return micro(rounded(value, rule), rule.factor())
    raise FrameError(f"{rule.path}: {str(value)[:40]!r} is no number", sort="value")


def rounded(value: int | Decimal, rule: JsonField) -> int | Decimal:
    """Return the number with as many decimals as the rule allows."""
    if rule.decimals is None or isinstance(value, int):
        return value
    return value.quantize(Decimal(1).scaleb(-rule.decimals), ROUND_HALF_EVEN, Context(prec=120))


def read_time(row: Any, rule: TimeRule | None) -> int | None:
    """Return [ms UTC], None when there is no rule or no time. Raises: FrameError, sort "time"."""
    value = lookup(row, rule.path) if rule else MISSING
    if rule is None or value is MISSING or value is None:
        return None
    return to_ms(value, rule.form, offset_minutes=rule.offset_minutes)
