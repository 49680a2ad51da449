"""One fleet from one seed: meters, their rows, and what is true about them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np

from simulators.fleet.city import City, make_city
from simulators.fleet.events import add_anomaly, add_spikes
from simulators.fleet.model import Meter, Trace
from simulators.fleet.population import draw_meter, fit_to_use
from simulators.fleet.situations import add_exchange, add_outages, add_situations, heating_from
from simulators.fleet.telemetry import Rows, rows_of
from simulators.fleet.use import use_of

ANOMALOUS_SHARE: Final = 0.25


@dataclass(frozen=True, slots=True)
class Fleet:
    """A city, and its meters one after the other (they need not fit into memory with all their quarter hours)."""

    city: City
    seed: int
    meters: int

    def each(self) -> Iterator[tuple[Meter, Trace, Rows]]:
        """Yield every meter with what is true about it and its rows; each depends on the seed and its number only."""
        for number in range(1, self.meters + 1):
            yield make_meter(number, self.city, _generator(self.seed, number))


def make_fleet(meters: int, seed: int) -> Fleet:
    """Return a fleet; the same arguments give the same fleet. Raises: ValueError for less than one meter."""
    if meters < 1:
        raise ValueError(f"a fleet needs at least one meter, not {meters}")
    if seed < 0:
        raise ValueError(f"a seed is 0 or more, not {seed}")
    return Fleet(make_city(_generator(seed, 0)), seed, meters)


def make_meter(number: int, city: City, rng: np.random.Generator) -> tuple[Meter, Trace, Rows]:
    """Draw one meter and live its life."""
    meter = draw_meter(number, rng)
    heated_from = heating_from(meter, rng)
    trace = Trace(use_of(meter, city.temperatures(meter.start, meter.days), heated_from, rng))
    add_situations(meter, trace, heated_from, rng)
    healthy = trace.use.copy()
    if rng.random() < ANOMALOUS_SHARE:
        add_anomaly(meter, trace, rng)
    else:
        add_exchange(meter, trace, rng)
    add_spikes(trace, rng)
    add_outages(meter, trace, city, rng)
    peak_per_h = float(healthy.reshape(-1, 4).sum(axis=1).max())
    if fit_to_use(meter, float(healthy.sum()), peak_per_h, rng):
        trace.note_whole(meter, "rollover")
    return meter, trace, rows_of(meter, trace, rng)


def _generator(seed: int, number: int) -> np.random.Generator:
    return np.random.default_rng((seed, number))  # noqa: TID251  the seed comes from the caller
