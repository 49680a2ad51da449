"""Counters that senders put into their messages: what is missing between two of them; and how often to complain."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

LATE: Final = 16
"""A counter this little behind the last one is a message that was overtaken; further behind, the sender restarted."""


@dataclass(frozen=True, slots=True)
class Step:
    """last: what to remember. missing: how many messages are, at least. restarted: the sender began again."""

    last: int
    missing: int = 0
    restarted: bool = False


def step(last: int | None, value: int, modulus: int | None, *, again: bool) -> Step:
    """Judge the counter `value` of a message after `last`. modulus: where it begins again at 0.

    again: the broker says that it delivers the message once more, so that being behind means nothing.
    """
    if last is None:
        return Step(value)
    ahead = value - last
    if modulus is not None and ahead < 0 and value + modulus - last <= modulus // 2:
        ahead = value + modulus - last
    if ahead > 0:
        return Step(value, ahead - 1)
    if again or ahead >= -LATE:
        return Step(last)
    return Step(value, 0, restarted=True)


class Complaints:
    """Lets the first of its kind pass, then one per `every_ms` with the number of those held back."""

    MOST: Final = 1000
    """Kinds remembered; what comes beyond shares one entry, so that a flood of invented names costs nothing."""

    def __init__(self, every_ms: int = 3_600_000) -> None:
        self._every_ms = every_ms
        self._known: dict[tuple[str, str], tuple[int, int]] = {}

    def note(self, cause: str, subject: str, now_ms: int) -> int:
        """Return how many to report now (this one included), 0 for: not yet."""
        key = (cause, subject)
        if key not in self._known and len(self._known) >= self.MOST:
            key = (cause, "")
        since, held = self._known.get(key, (-self._every_ms, 0))
        if abs(now_ms - since) < self._every_ms:
            self._known[key] = (since, held + 1)
            return 0
        self._known[key] = (now_ms, 0)
        return held + 1
