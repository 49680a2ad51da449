"""The interface of every reading store; two implementations pass one contract suite.

Calls block (they run in a worker thread) and raise only `StoreError`, which means: not now, try again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

from metering.quantities import Quantity
from metering.reading import Reading

Key = tuple[str, int]
"""(meter, read_at [ms UTC]): what makes a reading the same reading."""


class ReadingStore(Protocol):
    """Time series of readings keyed by (meter, read_at)."""

    def write(self, readings: Sequence[Reading]) -> list[str | None]:
        """Store durably; return one entry per reading: None when stored, else why this one was refused.

        Idempotent per key; quantities of one key are merged, a quantity that is written again replaces the old one
        (ingest looks first and never sends a differing value). Returns only after the commit.
        Raises: StoreError when nothing can be promised; the caller sends the same batch again.
        """

    def get(self, keys: Sequence[Key]) -> dict[Key, Reading]:
        """Return the readings that exist among `keys`."""

    def range(
        self,
        meters: Sequence[str] | None,
        t0: int,
        t1: int,
        *,
        quantities: Sequence[Quantity] | None = None,
        limit: int | None = None,
        after: Key | None = None,
    ) -> Iterator[Reading]:
        """Yield readings with t0 <= read_at < t1 [ms UTC], ordered by (meter, read_at).

        meters None: all. quantities: only these, and only readings that carry one of them. after: start behind
        this key (cursor pages).
        """

    def at_or_before(self, meters: Sequence[str], t: int, *, quantity: Quantity | None = None) -> dict[str, Reading]:
        """Return for each meter its last reading with read_at <= t (that carries `quantity`, when given)."""

    def counts(self, t0: int, t1: int) -> dict[str, int]:
        """Return readings per meter with t0 <= read_at < t1."""

    def close(self) -> None:
        """Release everything; calling twice is harmless."""
