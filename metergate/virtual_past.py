"""The past of a virtual house: what its store and its books hold when the story begins.

Rules learn a customer's habits for weeks, and a billing period begins before most stories do. So a scenario may say
how many days of readings the store knows already: what the registers showed, one each interval, arrived together
twice an hour as from a gateway that gathers. The run's own readings begin behind them; what is judged and exported
are those alone.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from contextlib import closing
from itertools import islice
from typing import TYPE_CHECKING, Final

from api.billing.calendars import Calendar
from api.billing.rule_book import add_calendar
from ingest.store_sqlite import SqliteStore
from metering.errors import MetergateError
from metering.reading import Reading
from registry.roles import service

if TYPE_CHECKING:
    from metergate.virtual import VirtualHouse

_BATCH: Final = 20_000
_DAY_MS: Final = 86_400_000
_GATHERED_MS: Final = 1_800_000
_FINEST_MS: Final = 900_000
"""Rules look at quarter hours at the finest."""


def remember(house: VirtualHouse) -> int:
    """Write the readings of the days before the story into the store; return how many."""
    if not house.scenario.history_days:
        return 0
    count, readings = 0, _readings(house)
    with closing(SqliteStore(house.store_path, mode="write")) as store:
        while batch := list(islice(readings, _BATCH)):
            refused = [why for why in store.write(batch) if why]
            if refused:
                raise MetergateError(f"the store refuses the past: {refused[0]}")
            count += len(batch)
    return count


def keep_calendar(house: VirtualHouse) -> None:
    """Let all classes of the city be read on the scenario's own reading day, where it names one."""
    day = house.scenario.calendar.reading_day
    if day is None:
        return
    groups = sorted({(group.customer_class, group.medium) for group in house.scenario.fleet})
    with house.registry() as database, database.begin() as connection:
        for customer_class, medium in groups:
            new = Calendar(customer_class, medium, day, day)
            add_calendar(connection, service("simulate"), new, now=house.clock.now_ms())


def _readings(house: VirtualHouse) -> Iterator[Reading]:
    last = house.scenario.start_ms
    first = last - house.scenario.history_days * _DAY_MS
    for meter in house.meters:
        quantity = house.fleet.quantity(meter)
        if quantity is None:
            continue
        step = max(meter.group.interval_s * 1000, _FINEST_MS)
        for at in range(first + zlib.crc32(meter.name.encode()) % step, last, step):
            arrived = at // _GATHERED_MS * _GATHERED_MS + _GATHERED_MS
            yield Reading(meter.name, at, {quantity: house.fleet.shown_at(meter.name, at)}, received_at=arrived)
