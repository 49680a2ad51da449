"""What arrives while the service reads for long is judged by its timer, as if reading took no time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from anomaly.city import City
from ingest.store_sqlite import SqliteStore
from metering.quantities import Quantity
from metering.store import Columns
from tests.anomaly.site import HOUR, Site
from tests.anomaly.test_city import START, house, live, reading, use

TIMER = START + 240 * HOUR + 900


class Slow(SqliteStore):
    """A store that `meanwhile` happens to when it is read next."""

    meanwhile: Callable[[], None] | None = None

    def columns(self, meters: Sequence[str], quantity: Quantity, t0: int, t1: int) -> Columns:
        found = super().columns(meters, quantity, t0, t1)
        happens, self.meanwhile = self.meanwhile, None
        if happens is not None:
            happens()
        return found


def _judged(city: City) -> float:
    return city.figures()["metergate_anomaly_judged_timestamp_seconds"]


def _meanwhile(site: Site) -> None:
    """A minute goes by; a reading comes just in time for the timer, which by now has passed."""
    site.clock.now_s = TIMER - 5
    site.take([reading(240, use(240), arrived=240 + 895 / HOUR)])
    site.clock.now_s = TIMER + 60


def test_a_timer_that_passes_while_the_store_is_read_waits_for_the_next_look(tmp_path: Path) -> None:
    site = house(tmp_path)
    live(site, 0, 240)
    store = Slow(tmp_path / "readings.db", mode="read")
    city = City(site.settings, database=site.database, store=store, clock=site.clock)
    city.start()
    site.clock.now_s = TIMER - 60
    site.take([reading(239.5, use(239), arrived=240.1)])
    store.meanwhile = lambda: _meanwhile(site)
    city.look()
    assert _judged(city) == TIMER - HOUR
    city.look()
    assert _judged(city) == TIMER
    site.close()


def test_a_timer_that_passes_during_a_start_waits_for_the_first_look(tmp_path: Path) -> None:
    site = house(tmp_path)
    live(site, 0, 240)
    site.clock.now_s = TIMER - 60
    store = Slow(tmp_path / "readings.db", mode="read")
    store.meanwhile = lambda: _meanwhile(site)
    city = City(site.settings, database=site.database, store=store, clock=site.clock)
    city.start()
    assert _judged(city) == TIMER - HOUR
    city.look()
    assert _judged(city) == TIMER
    site.close()
