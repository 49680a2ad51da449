"""What was changed in a running simulation: numbered, listed, and taken back in any order that makes sense."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from metering.clock import Clock

Undo = Callable[[], None]
Touched = tuple[str, str]
"""(meter or bus, what of it)."""
Which = int | Literal["last", "all"]


@dataclass(frozen=True, slots=True)
class Injection:
    """One order that changed something. undo: puts back what was before."""

    number: int
    at: int
    order: dict[str, Any]
    touched: frozenset[Touched]
    undo: Undo


class Changes(Protocol):
    """A simulated meter whose state can be put back."""

    def index_at(self, t_ms: int) -> int:
        """Return the index [10⁻⁶ house units]."""

    def set_index(self, micro: int, now_ms: int) -> None:
        """Let the index jump."""

    def keeper(self, what: str) -> Callable[[int], None]:
        """Return what puts one thing back to what it is now."""


def undo_of(meters: Iterable[Changes], whats: Iterable[str], index: int | None, clock: Clock) -> Undo:
    """Return what takes back a change that is about to be made to these meters.

    whats: fault, flow, flags. index: the value [10⁻⁶ house units] to which the index is about to jump, if it does; it
    jumps back by as much, so that what was used in between stays counted.
    """
    now_ms, kept = clock.now_ms(), list(meters)
    keepers = [meter.keeper(what) for meter in kept for what in whats]
    jumps = [(meter, index - meter.index_at(now_ms)) for meter in kept] if index is not None else []

    def undo() -> None:
        later_ms = clock.now_ms()
        for put_back in keepers:
            put_back(later_ms)
        for meter, jump in jumps:
            meter.set_index(meter.index_at(later_ms) - jump, later_ms)

    return undo


class Injections:
    """See the module."""

    def __init__(self) -> None:
        self._count = 0
        self._active: list[Injection] = []
        self.history: list[tuple[Injection, int | None]] = []
        """All that was ever changed, with the time [ms UTC] at which it was taken back; None while it is in force."""

    def add(self, at: int, order: dict[str, Any], touched: Iterable[Touched], undo: Undo) -> int:
        """Note a change that was made; return its number."""
        self._count += 1
        made = Injection(self._count, at, order, frozenset(touched), undo)
        self._active.append(made)
        self.history.append((made, None))
        return self._count

    def listed(self) -> list[dict[str, Any]]:
        """Return what is in force, oldest first."""
        return [{"number": each.number, "at": each.at, **each.order} for each in self._active]

    def undo(self, which: Which, at: int = 0) -> list[int]:
        """Take back one change (by number, or the last) or all, newest first; return their numbers. at: [ms UTC] now.

        Raises: ValueError when there is no such change, or a later one at the same meter must go first.
        """
        if which == "all":
            return [self._take_back(each, at) for each in reversed(tuple(self._active))]
        if not self._active:
            raise ValueError("nothing is in force that could be undone")
        if which == "last":
            return [self._take_back(self._active[-1], at)]
        return [self._take_back(self._find(which), at)]

    def _find(self, number: int) -> Injection:
        found = next((each for each in self._active if each.number == number), None)
        if found is None:
            raise ValueError(f"no change number {number} is in force")
        later = [each.number for each in self._active if each.number > number and each.touched & found.touched]
        if later:
            raise ValueError(f"number {later[-1]} came later and changed the same: undo that first")
        return found

    def _take_back(self, injection: Injection, at: int) -> int:
        injection.undo()
        self._active.remove(injection)
        self.history[injection.number - 1] = (injection, at)
        return injection.number
