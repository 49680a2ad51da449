"""Helpers: one simulated meter with a log that the test can read."""

from __future__ import annotations

from typing import Any

from simulators.farm_settings import MeterSettings
from simulators.register_image import RegisterImage
from simulators.side_values import side_values
from simulators.simulated_meter import SimulatedMeter
from tests.simulators.profiles import PROFILES

NOW = 1_772_323_200_000  # 2026-03-01T00:00:00Z
READ_INDEX = bytes.fromhex("0001 0000 0006 01 03 0064 0003")
"""Transaction 1, unit 1, function 3, registers 100…102."""


class ListLog:
    """Keeps what was logged: (at_ms, columns, index, outcome)."""

    def __init__(self) -> None:
        self.lines: list[tuple[int, str, int | None, str]] = []

    def add(self, at_ms: int, asked: str, index: int | None, outcome: str = "ok") -> None:
        """Keep one answer."""
        self.lines.append((at_ms, asked, index, outcome))


def make_meter(log: ListLog, **settings: Any) -> SimulatedMeter:
    """Return a meter "G1" of the test corrector at rest at 12.345 m³, changed by `settings`."""
    given = {"meter": "G1", "profile": "test-corrector", "curve": "rest", "start_index": 12_345_000, **settings}
    chosen = MeterSettings.model_validate(given)
    profile = PROFILES[chosen.profile]
    image = RegisterImage(profile, gaps=chosen.gaps)
    return SimulatedMeter(chosen, image, side_values(profile.medium, meter="G1", seed=1), seed=1, log=log)
