"""What a rule says of every meter at one moment."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(slots=True)
class Verdict:
    """on: raise it. hold: keep an open finding open (the lower half of the hysteresis). back_h: [h] how long before
    the judged moment it began. evidence: the numbers that prove it, one array per name."""

    on: NDArray[np.bool_]
    hold: NDArray[np.bool_]
    back_h: NDArray[Any]
    evidence: dict[str, NDArray[Any]] = field(default_factory=dict)

    def take(self, rows: NDArray[np.int64]) -> Verdict:
        """The verdict on some of the meters."""
        numbers = {name: array[rows] for name, array in self.evidence.items()}
        return Verdict(self.on[rows], self.hold[rows], self.back_h[rows], numbers)

    def proof(self, row: int) -> dict[str, float]:
        """Numbers for one meter, rounded to 6 digits; unknown ones are left out."""
        values = {name: float(array[row]) for name, array in self.evidence.items()}
        return {name: float(f"{value:.6g}") for name, value in values.items() if np.isfinite(value)}
