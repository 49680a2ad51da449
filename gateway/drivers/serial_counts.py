"""What one bus knows of each meter: answered, silent, late, damaged, foreign, refused, and the time it took."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True)
class MeterCount:
    """Counts of one address. busy_s: [s] of the bus's time. answered_at: [ms UTC], 0 when never.

    late: answers that came after their timeout. foreign: frames of others, or to nobody's question, while this meter
    was asked. damaged: by sort (checksum, crc, length, noise, …).
    """

    asked: int = 0
    answered: int = 0
    silent: int = 0
    refused: int = 0
    late: int = 0
    foreign: int = 0
    lost: int = 0
    busy_s: float = 0.0
    answered_at: int = 0
    damaged: dict[str, int] = field(default_factory=dict)

    def damage(self, sort: str) -> None:
        """Count bytes that were no frame, or a broken one."""
        self.damaged[sort] = self.damaged.get(sort, 0) + 1

    @property
    def damages(self) -> int:
        """All damaged frames; plain noise around good ones is none."""
        return sum(count for sort, count in self.damaged.items() if sort != "noise")


class BusCounts:
    """Counts of one bus by address. unasked: [bytes] that came while nobody was asked."""

    def __init__(self) -> None:
        self.meters: dict[str, MeterCount] = {}
        self.unasked = 0
        self.echoes = 0
        self.opened = 0

    def of(self, address: str) -> MeterCount:
        """Return the counts of an address, new ones when it is new."""
        count = self.meters.get(address)
        if count is None:
            count = self.meters[address] = MeterCount()
        return count
