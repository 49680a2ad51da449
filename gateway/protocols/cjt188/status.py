"""The two status bytes ST of CJ/T 188: valve and battery. Vendors disagree, so the map is an argument."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

ValveWord = Literal["open", "closed", "moving", "abnormal", "unknown"]

VALVE_CODES: Final[Mapping[str, int]] = {"open": 0, "closed": 1, "moving": 2, "abnormal": 2}
"""Our quantity `valve`: 0 open, 1 closed, 2 moving or fault; "unknown" has none."""


@dataclass(frozen=True, slots=True)
class StatusMap:
    """How one vendor fills the first status byte. valve_mask, battery_mask: bits; words: masked bits -> valve."""

    valve_mask: int = 0x03
    words: Mapping[int, ValveWord] = field(default_factory=lambda: {0: "open", 1: "closed", 3: "abnormal"})
    battery_mask: int = 0x04

    def valve(self, status: bytes) -> ValveWord:
        """Return the valve's state, "unknown" for bits without a meaning."""
        return self.words.get(status[0] & self.valve_mask, "unknown")

    def battery_low(self, status: bytes) -> bool:
        return bool(status[0] & self.battery_mask)


STANDARD_STATUS: Final = StatusMap()
"""Bits 1-0: 00 open, 01 closed, 11 abnormal; bit 2 battery low. 10 is unknown here; one program reads closed."""
MIRRORED_STATUS: Final = StatusMap(0xC0, {0: "open", 0x40: "closed", 0xC0: "abnormal"}, 0x20)
"""The mirrored bits that one C program uses."""
