"""Security events, each told as it is as long as there are few, and counted when there are many.

Whoever forges messages chooses how many. The first of a cause in an hour get an event each, with topic and claimed
gateway (and, where it is a message, its raw bytes in quarantine); the rest of the hour is one event a minute that
carries a count. So 10,000 forgeries leave a few dozen rows, and none is left out of the figures.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from typing import Final

from ingest.records import own_event
from registry.ledger import EventRow

EACH: Final = 20
"""Events of one cause in one hour that are told one by one."""
_HOUR_MS: Final = 3_600_000
_EVERY_MS: Final = 60_000
_WAITING: Final = 1000  # of causes outside the pipeline, while the registry is away


@dataclass(slots=True)
class _Cause:
    hour: int = -1
    told: int = 0
    held: int = 0
    last: str = ""
    counted_at: int = 0


class Alarms:
    """Decides which security events become rows of their own. Counts every one of them."""

    def __init__(self, counters: Counter[tuple[str, str]]) -> None:
        self._counters = counters
        self._causes: dict[str, _Cause] = {}
        self._waiting: list[EventRow] = []

    def event(self, gateway: str, cause: str, text: str, now: int, key: str = "") -> EventRow | None:
        """Return the event's row; None when it is one of too many and only counts. cause: of our own short list."""
        self._counters["security_total", f'cause="{cause}"'] += 1
        known = self._causes.setdefault(cause, _Cause())
        if known.hour != now // _HOUR_MS:
            known.hour, known.told = now // _HOUR_MS, 0
        if known.told < EACH:
            known.told += 1
            return own_event("security", cause, text, now, gateway=gateway, key=key)
        if not known.held:
            known.counted_at = now
        known.held += 1
        known.last = f"{gateway}: {text}" if gateway else text
        return None

    def hold(self, gateway: str, cause: str, text: str, now: int, key: str = "") -> None:
        """As `event`, for whoever has no transaction of its own: the row waits for `take`."""
        row = self.event(gateway, cause, text, now, key)
        if row is not None and len(self._waiting) < _WAITING:
            self._waiting.append(row)

    def take(self, now: int) -> list[EventRow]:
        """Return what waits, and one counted event for each cause of which some were only counted for a minute."""
        rows, self._waiting = self._waiting, []
        for cause, known in self._causes.items():
            if known.held and now - known.counted_at >= _EVERY_MS:
                text = f"{known.held} more within {(now - known.counted_at) // 1000} s; the last one: {known.last}"
                row = own_event("security", cause, text, now, key=f"{now} {known.held}")
                rows.append(replace(row, count=known.held))
                known.held = 0
        return rows

    def put_back(self, rows: list[EventRow]) -> None:
        """The registry could not take them."""
        self._waiting = (rows + self._waiting)[:_WAITING]
