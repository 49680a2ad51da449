"""How far an index may lie from its boundary; apart from the rest, because settings need only this."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

LINEAR: Final = "linear"


@dataclass(frozen=True, slots=True)
class Rules:
    """How far an index may lie from its boundary. tolerance_ms: before it. manual_ms: after it, by hand only.

    estimation: linear draws a missing index between its neighbours and marks it everywhere.
    """

    tolerance_ms: int = 86_400_000
    manual_ms: int = 3 * 86_400_000
    estimation: Literal["off", "linear"] = "off"
