"""The interface of every reading store; two implementations pass one contract suite.

Calls block (they run in a worker thread) and raise only `StoreError`, which means: not now, try again.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

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


@dataclass(frozen=True, slots=True)
class Columns:
    """Readings of one quantity as arrays of one length, in no order. meter: place in the list that was asked for.

    read_at, received_at: [ms UTC], received_at 0 when unknown. micro: [10⁻⁶ of the house unit].
    """

    meter: NDArray[np.int64]
    read_at: NDArray[np.int64]
    received_at: NDArray[np.int64]
    micro: NDArray[np.int64]
    flags: NDArray[np.int64]
    imported: NDArray[np.bool_]
    estimated: NDArray[np.bool_]


@runtime_checkable
class ColumnStore(Protocol):
    """Optional ability of a store: months of a city without an object per reading."""

    def columns(self, meters: Sequence[str], quantity: Quantity, t0: int, t1: int) -> Columns:
        """Return readings that carry `quantity` with t0 <= read_at < t1 [ms UTC]. Raises: StoreError."""
