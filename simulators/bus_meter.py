"""One meter on a simulated bus: a curve, what it shows beside its index, its faults. Frames are made elsewhere."""

from __future__ import annotations

import random
import zlib
from collections.abc import Callable
from dataclasses import dataclass

from gateway.profile import MeterField, Profile
from metering.quantities import MICRO, Quantity
from simulators.bus_settings import BusFaultSettings, BusMeterSettings
from simulators.consumption import Curve, make_curve
from simulators.meter_clock import MeterClock
from simulators.side_values import side_values


@dataclass(frozen=True, slots=True)
class Spoken:
    """One good answer. asked: the answer log's columns. index: what it says, None when it holds none."""

    frame: bytes
    asked: str
    index: int | None = None


class BusMeter:
    """See the module. step: [10⁻⁶ house units] the last digit of what its index can show."""

    def __init__(
        self, settings: BusMeterSettings, profile: Profile, *, seed: int, step: int, curve: Curve | None = None
    ) -> None:
        """curve: instead of the one that the settings name."""
        self.settings = settings
        self.profile = profile
        self.step = step
        self.rng = random.Random(zlib.crc32(settings.meter.encode()) ^ seed)
        self._curve = curve or make_curve(
            settings.curve, seed=seed, meter=settings.meter, start_index=settings.start_index, step=step
        )
        self._side = side_values(profile.medium, meter=settings.meter, seed=seed)
        self._moved = 0
        self.flags = 0
        self.clock = MeterClock(settings.clock_off_s * 1000)
        self.times_set: list[int] = []
        self._set: int | None = None
        self._fault: BusFaultSettings | None = None
        self._left: int | None = None
        self.set_fault(settings.fault)

    @property
    def is_sick(self) -> bool:
        """True while a fault is switched on."""
        return self._fault is not None

    def set_fault(self, fault: BusFaultSettings | None) -> None:
        """Switch a fault on, or off with None."""
        self._fault = fault
        self._left = fault.times if fault else None

    @property
    def clock_ms(self) -> int:
        """[ms] by which its clock was ahead of UTC when it was set last."""
        return self.clock.off_ms

    def hit(self) -> BusFaultSettings | None:
        """Return the fault that spoils the next answer, if one does, and count it."""
        fault = self._fault
        if fault is None or self.rng.random() >= fault.share:
            return None
        if self._left is not None:
            self._left -= 1
            if self._left <= 0:
                self._fault = None
        return fault

    def local_ms(self, now_ms: int) -> int:
        """Return what its clock shows [ms as if local time were UTC]; off by `clock_off_s` until it is set."""
        return self.clock.shown_ms(now_ms)

    def set_clock(self, local_ms: int, now_ms: int) -> None:
        """Take a time."""
        self.clock.set(local_ms, now_ms)
        self.times_set.append(now_ms)

    def set_index(self, micro: int, now_ms: int) -> None:
        """Let the index jump, as after a meter exchange."""
        self._moved = micro - self._curve.index(now_ms)

    def index_at(self, t_ms: int) -> int:
        """Return the index [10⁻⁶ house units] without its counter's digits."""
        return self._curve.index(t_ms) + self._moved

    def keeper(self, what: str) -> Callable[[int], None]:
        """Return what puts the fault back to what it is now (`what` is always the fault here)."""
        fault, left = self._fault, self._left

        def put_back(now_ms: int) -> None:
            self._fault, self._left = fault, left

        return put_back

    def index(self, now_ms: int) -> int:
        """Return the billed index as its last digit shows it [10⁻⁶ house units], rolled over at its digits."""
        return self.shown(self._curve.index(now_ms) + self._moved)

    def shown(self, index: int) -> int:
        """Return what its register shows of an index [10⁻⁶ house units]."""
        raw = max(0, index) // self.step * self.step
        digits = self.profile.index_digits
        return raw % (10**digits * MICRO) if digits else raw

    def values(self, index: int, now_ms: int) -> dict[Quantity, int]:
        """Return what it shows with this index: the index under its own quantity, the others beside it."""
        found = self._side(index, self._curve.flow(now_ms), now_ms)
        if self.profile.index.quantity is not None:
            found[self.profile.index.quantity] = index
        return found

    def value_of(self, field: MeterField, index: int, now_ms: int) -> int:
        """Return one field [10⁻⁶ house units]; 0 for what this medium does not show."""
        return self.values(index, now_ms).get(field.quantity, 0) if field.quantity else 0
