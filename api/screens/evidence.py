"""The numbers that prove a finding, as a page shows them: a name, a value as people write it, a unit.

A finding keeps them under the rules' own keys (`anomaly.rules`); names stand in `texts/{language}/evidence.toml`, the
units here. A key that nobody listed is shown as it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from api.screens.texts import Texts

AMOUNT: Final = "{unit}"
"""Stands for the meter's own unit: m³, kWh."""
UNITS: Final[Mapping[str, str]] = {
    "cells_with_use": "",
    "days_asked": "d",
    "days_at_rest": "d",
    "days_marked": "d",
    "days_without_still_window": "d",
    "fell_by": AMOUNT,
    "falls": "",
    "floor_before": f"{AMOUNT}/h",
    "floor_now": f"{AMOUNT}/h",
    "habit": "%",
    "habit_per_day": f"{AMOUNT}/d",
    "held_before_per_h": f"{AMOUNT}/h",
    "held_per_h": f"{AMOUNT}/h",
    "index": AMOUNT,
    "largest_day_before": f"{AMOUNT}/d",
    "limit": AMOUNT,
    "loss_share": "%",
    "meters": "",
    "month_rate": AMOUNT,
    "per_day": f"{AMOUNT}/d",
    "per_day_before": f"{AMOUNT}/d",
    "per_h": f"{AMOUNT}/h",
    "qmax": f"{AMOUNT}/h",
    "quiet_hours_with_flow": "h",
    "rate_per_h": f"{AMOUNT}/h",
    "ratio": "%",
    "readings": "",
    "readings_flagged": "",
    "scope": "",
    "score": "",
    "share_of_qmax": "%",
    "shift": "%",
    "silent": "",
    "silent_h": "h",
    "step": "",
    "supply": AMOUNT,
    "used": AMOUNT,
    "used_30_d": AMOUNT,
    "window_h": "h",
}
"""Unit by key. "%": kept as a share, 0.25 is 25 %."""
_EXACT: Final = frozenset({"index"})


def shown(evidence: Mapping[str, Any], texts: Texts, unit: str) -> Iterator[tuple[str, str]]:
    """Yield (name, value with its unit). unit: of the meter's index, "" when it is not known."""
    for key, value in evidence.items():
        told = UNITS.get(key)
        yield texts.word("evidence", key), str(value) if told is None else _told(key, value, told, texts, unit)


def _told(key: str, value: Any, told: str, texts: Texts, unit: str) -> str:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return texts.word(f"evidence_{key}", value)
    if told == "%":
        return f"{_number(value * 100)} %"
    number = f"{value:.6f}".rstrip("0").rstrip(".") if key in _EXACT else _number(value)
    return f"{number} {_unit(told, texts, unit)}".rstrip()


def _unit(told: str, texts: Texts, unit: str) -> str:
    if AMOUNT in told:
        return told.replace(AMOUNT, unit.replace("m3", "m³")) if unit else ""
    return texts.word("evidence_unit", told)


def _number(value: float) -> str:
    """Return three significant digits, whole numbers in full."""
    return f"{value:.0f}" if abs(value) >= 100 or value == int(value) else f"{value:.3g}"
