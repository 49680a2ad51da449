"""How often one caller may ask: token buckets in bounded memory.

A bucket holds up to `burst` tokens and gains `per_s` each second; a request takes one. Buckets that nobody used for
the longest time make room for new ones: whoever owns that many addresses gains a full bucket by it, and no memory.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from typing import Final

from metering.clock import Clock

MAX_BUCKETS: Final = 10_000


class Buckets:
    """One bucket per key. Used from the event loop only."""

    def __init__(self, *, per_s: float, burst: int, clock: Clock, most: int = MAX_BUCKETS) -> None:
        self.per_s, self.burst, self.most = per_s, burst, most
        self._clock = clock
        self._kept: OrderedDict[str, tuple[float, float]] = OrderedDict()  # key -> (tokens, when [s monotonic])

    def __len__(self) -> int:
        return len(self._kept)

    def take(self, key: str) -> int:
        """Take one token. Return 0 when there was one, else the whole seconds until there will be."""
        tokens = self._tokens(key)
        if tokens >= 1:
            self._keep(key, tokens - 1)
            return 0
        self._keep(key, tokens)
        return max(1, math.ceil((1 - tokens) / self.per_s))

    def wait(self, key: str) -> int:
        """Return what `take` would, and take nothing."""
        tokens = self._tokens(key)
        return 0 if tokens >= 1 else max(1, math.ceil((1 - tokens) / self.per_s))

    def give_back(self, key: str) -> None:
        """The request turned out to be a good one."""
        self._keep(key, min(float(self.burst), self._tokens(key) + 1))

    def _tokens(self, key: str) -> float:
        tokens, since = self._kept.get(key, (float(self.burst), self._clock.monotonic()))
        return min(float(self.burst), tokens + (self._clock.monotonic() - since) * self.per_s)

    def _keep(self, key: str, tokens: float) -> None:
        self._kept[key] = (tokens, self._clock.monotonic())
        self._kept.move_to_end(key)
        if len(self._kept) > self.most:
            self._kept.popitem(last=False)
