"""The words of reconciliation: what is compared, and what a comparison can come to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

Kind = Literal["prepaid", "scada", "parent"]
KINDS: Final[tuple[Kind, ...]] = ("prepaid", "scada", "parent")
AGREES: Final = "agrees"
WAITING: Final = "waiting"
"""Prepaid: it agrees once purchases are loaded that the customer may still hold."""
MISMATCH: Final = "mismatch"
SHOWN: Final = "shown"
LOOK: Final = "look"
LOSS: Final = "loss"
GAIN: Final = "gain"
NOT_KNOWABLE: Final = "not_knowable"
VERDICTS: Final = (AGREES, WAITING, MISMATCH, SHOWN, LOOK, LOSS, GAIN, NOT_KNOWABLE)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a comparison came to. difference: [micro], None when not knowable. facts: [micro] and texts behind it."""

    verdict: str
    cause: str = ""
    difference: int | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Compared:
    """A verdict at a usage point, in its own bounds [ms UTC] of a period."""

    point: str
    district: str
    start: int
    end: int
    result: Verdict


@dataclass(frozen=True, slots=True)
class Scope:
    """Which usage points. district "": all. points: only these."""

    district: str = ""
    points: tuple[str, ...] | None = None
