"""The clock of a simulated meter: off by a fixed time, and by more each day while it goes wrong."""

from __future__ import annotations


class MeterClock:
    """off_ms: [ms] by which it is ahead of UTC when it goes right."""

    def __init__(self, off_ms: int = 0) -> None:
        self.off_ms = off_ms
        self._since: int | None = None
        self._s_a_day = 0.0

    def shown_ms(self, now_ms: int) -> int:
        """Return what it shows [ms]."""
        since = now_ms if self._since is None else self._since
        return now_ms + self.off_ms + round((now_ms - since) * self._s_a_day / 86_400)

    def drift(self, s_a_day: float, now_ms: int) -> None:
        """Go wrong by so much a day from now on; with 0 right again, from where it stands."""
        self.set(self.shown_ms(now_ms), now_ms)
        self._s_a_day = s_a_day

    def set(self, shown_ms: int, now_ms: int) -> None:
        """Take a time."""
        self.off_ms, self._since = shown_ms - now_ms, now_ms
