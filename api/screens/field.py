"""How the pages of the field network say times and shares."""

from __future__ import annotations

from typing import Final

from metering.clock import parse_rfc3339

CLOCK_MS: Final = 5000
"""A gateway's clock that is wrong by more is worth a look."""
OLD_MS: Final = 3_600_000
"""So is a row that waits for longer."""
_UNITS: Final = (("d", 86_400_000), ("h", 3_600_000), ("min", 60_000), ("s", 1000))


def span(ms: int | float) -> str:
    """Return a time span in its two largest units: "2 d 3 h", "45 s"."""
    left = int(abs(ms))
    parts: list[str] = []
    for unit, size in _UNITS:
        if left >= size or (parts and unit == "s"):
            parts.append(f"{left // size} {unit}")
            left %= size
        if len(parts) == 2:
            break
    return " ".join(part for part in parts if not part.startswith("0 ")) or "0 s"


def since(when: str | int | None, now_ms: int) -> int | None:
    """Return [ms] from a time (RFC 3339 or [ms UTC]) until now, None without one."""
    if when is None:
        return None
    return now_ms - (parse_rfc3339(when) if isinstance(when, str) else when)


def offset(ms: int) -> str:
    """Return how far a clock is ahead: "+0.2 s", "−3 min"."""
    if abs(ms) < 60_000:
        return f"{'−' if ms < 0 else '+'}{abs(ms) / 1000:.1f} s"
    return f"{'−' if ms < 0 else '+'}{span(ms)}"


def share(part: float | None) -> str:
    """Return a part of a bus's time in percent, "–" for what is not known."""
    return "–" if part is None else f"{part * 100:.1f} %"
