"""Security events, rate bounded: the first of a cause at once, those of the next minute as one row that counts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import structlog

from metering.clock import Clock
from metering.reading import Event

_EVERY_S: Final = 60.0
_log = structlog.get_logger(__name__)


@dataclass(slots=True)
class _Told:
    at: float
    since: int = 0
    text: str = ""


class Refusals:
    """See the module. tell: takes the events."""

    def __init__(self, clock: Clock, tell: Callable[[Event], object]) -> None:
        self.counters: dict[str, int] = {}
        self._clock = clock
        self._tell = tell
        self._told: dict[str, _Told] = {}

    def note(self, cause: str, text: str) -> None:
        """Count a refusal, and tell it now or later."""
        self.counters[f"refused_{cause}"] = self.counters.get(f"refused_{cause}", 0) + 1
        now, told = self._clock.monotonic(), self._told.get(cause)
        if told is None:
            self._told[cause] = _Told(now)
            self._say(cause, text, 1)
            return
        told.since, told.text = told.since + 1, text
        if now - told.at >= _EVERY_S:
            self.settle()

    def settle(self) -> None:
        """Tell what was kept back for a minute."""
        now = self._clock.monotonic()
        for cause, told in list(self._told.items()):
            if now - told.at < _EVERY_S:
                continue
            if told.since:
                self._say(cause, told.text, told.since)
                self._told[cause] = _Told(now)
            else:
                del self._told[cause]

    def _say(self, cause: str, text: str, count: int) -> None:
        _log.warning("refused", cause=cause, why=text, times=count)
        clean = text[:500].encode("utf-8", "replace").decode()
        self._tell(Event(kind="security", at=self._clock.now_ms(), cause=cause, count=count, text=clean))
