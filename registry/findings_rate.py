"""How many alarms an operator gets: per ten minutes, and whether it is a flood.

Derived from the history: a line that leads to UNACK is a new alarm in somebody's list. Children of an outage are
never UNACK, so that they do not count. Source of the limits: ANSI/ISA-18.2 and EEMUA 191: one new alarm in ten
minutes can be managed; a flood begins at ten in ten minutes and is over below five.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import sqlalchemy as sa
from sqlalchemy.engine import Connection

from registry.findings_settings import AlarmSettings
from registry.findings_store import FINDING, HISTORY

MINUTE_MS: Final = 60_000
WINDOW_MIN: Final = 10
_LOOK_BACK_MIN: Final = 6 * 60


@dataclass(frozen=True, slots=True)
class AlarmRate:
    """now: new alarms in the last ten minutes. flood: it is one. states: number of open alarms by state."""

    now: int
    flood: bool
    states: Mapping[str, int]


def alarm_rate(connection: Connection, now_ms: int, settings: AlarmSettings) -> AlarmRate:
    """Return the rate at `now_ms` [ms UTC]."""
    ages = _minutes(connection, now_ms)
    counts = [sum(ages.get(age + i, 0) for i in range(WINDOW_MIN)) for age in range(_LOOK_BACK_MIN)]
    statement = sa.select(FINDING.c.state, sa.func.count()).where(FINDING.c.state != "NORM").group_by(FINDING.c.state)
    states = {str(state): int(count) for state, count in connection.execute(statement)}
    flood = in_flood(counts[::-1], begins=settings.flood_begins, ends=settings.flood_ends)
    return AlarmRate(counts[0], flood, states)


def rate_series(connection: Connection, now_ms: int) -> list[int]:
    """Return new alarms of each ten minutes of the last six hours, oldest first; the last one ends at `now_ms`."""
    ages = _minutes(connection, now_ms)
    tens = range(_LOOK_BACK_MIN // WINDOW_MIN - 1, -1, -1)
    return [sum(ages.get(ten * WINDOW_MIN + minute, 0) for minute in range(WINDOW_MIN)) for ten in tens]


def _minutes(connection: Connection, now_ms: int) -> dict[int, int]:
    """New alarms by age in whole minutes; 0 is the last minute."""
    oldest = now_ms - (_LOOK_BACK_MIN + WINDOW_MIN) * MINUTE_MS
    statement = (
        sa.select(HISTORY.c.at, sa.func.count())
        .where(HISTORY.c.to_state == "UNACK", HISTORY.c.from_state != "UNACK")
        .where(HISTORY.c.at > oldest, HISTORY.c.at <= now_ms)
        .group_by(HISTORY.c.at)
    )
    found: dict[int, int] = {}
    for at, count in connection.execute(statement):
        age = (now_ms - at) // MINUTE_MS
        found[age] = found.get(age, 0) + count
    return found


def in_flood(counts: list[int], *, begins: int, ends: int) -> bool:
    """True when it is a flood at the end of `counts` (alarms in ten minutes, minute after minute, oldest first)."""
    flood = False
    for count in counts:
        flood = count >= (ends if flood else begins)
    return flood
