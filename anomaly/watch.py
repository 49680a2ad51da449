"""The engine as a service drives it: arrivals in order, timers when they are due, and what changed meanwhile.

The same rows give the same findings as `anomaly.run.run` on a file, in however many pieces they come: a timer fires
only when the caller says that everything which arrived before it is known.
"""

from __future__ import annotations

import numpy as np

from anomaly.engine import Engine
from anomaly.files import Readings, joined
from anomaly.findings import Finding
from anomaly.run import TIMER_S, arrivals


class Watch:
    """One engine on its way.

    judged_s: [s since 1970] the last timer that was fired; nothing counts as arrived before it. changed: findings
    that changed since the reader emptied it, each with the moment [s since 1970] of its last change.
    """

    def __init__(self, engine: Engine, judged_s: int) -> None:
        self.engine, self.judged_s = engine, judged_s
        self.changed: dict[int, tuple[Finding, int]] = {}
        self._waiting: Readings | None = None

    def take(self, rows: Readings | None, upto_s: int) -> bool:
        """Take rows in order of arrival and fire the timers up to `upto_s`; True when one was fired.

        Rows behind a timer that may not fire yet wait for it; rows that come after their timer count as of it.
        """
        before = self.judged_s
        parts = [part for part in (self._waiting, rows) if part is not None and len(part)]
        self._waiting = None
        if parts:
            self._rows(joined(parts), upto_s)
        self._fire(upto_s)
        return self.judged_s > before

    def _rows(self, rows: Readings, upto_s: int) -> None:
        received = np.maximum(rows.received, self.judged_s)
        order = np.argsort(received, kind="stable")
        rows = rows.take(order)
        for part, second in arrivals(received[order]):
            self._fire(min(second - 1, upto_s))
            if second > self.judged_s + TIMER_S:
                self._waiting = rows.take(slice(part.start, None))
                return
            self._push(rows, part, second)

    def _push(self, r: Readings, part: slice, second: int) -> None:
        engine = self.engine
        engine.push(r.meter[part], r.ts[part], r.received[part], r.micro[part], r.flags[part])
        if engine.quick.enabled:
            engine.judge_now(r.meter[part], second)
            self._note(second)

    def _fire(self, upto_s: int) -> None:
        while self.judged_s + TIMER_S <= upto_s:
            self._note(self.judged_s)
            self.judged_s += TIMER_S
            self.engine.tick(self.judged_s)
            self._note(self.judged_s)

    def _note(self, now_s: int) -> None:
        for finding in self.engine.book.changed:
            self.changed[id(finding)] = finding, now_s
        self.engine.book.changed = []

    def drain(self) -> list[tuple[Finding, int]]:
        """Return what changed, and forget it."""
        changed, self.changed = list(self.changed.values()), {}
        return changed
