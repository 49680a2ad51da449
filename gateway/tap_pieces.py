"""Join what a UART hands over in pieces to one frame a line."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from metering.recording import Direction, Frame

GAP_S: Final = 0.05
"""Pieces of one frame follow each other within this time."""
_LONGEST: Final = 4096


@dataclass(slots=True)
class Piece:
    """Bytes as they came. joins: may be a part of what came before on the same bus."""

    t: float
    at: int
    way: Direction
    bus: str
    meter: str
    data: bytes
    joins: bool
    topic: str = ""
    qos: int = 0
    retain: bool = False
    parts: list[tuple[float, int]] = field(default_factory=list)
    """Moment and size of each piece."""

    @property
    def last(self) -> float:
        """[s] moment of the last piece."""
        return self.parts[-1][0]

    def frame(self) -> Frame:
        """Return the line."""
        pieces = [(round(t - self.t, 6), size) for t, size in self.parts] if len(self.parts) > 1 else []
        return Frame(
            round(self.t, 6), self.at, self.way, self.data.hex(), self.bus, self.meter, pieces,
            self.topic, self.qos, self.retain,
        )  # fmt: skip


class Pieces:
    """Holds back at most one unfinished frame a bus."""

    def __init__(self) -> None:
        self._held: dict[str, Piece] = {}

    def add(self, piece: Piece) -> list[Frame]:
        """Take a piece; return the frames that are whole now, in the order of their bus."""
        piece.parts.append((piece.t, len(piece.data)))
        held = self._held.get(piece.bus)
        if held is not None and self._belongs(held, piece):
            held.data += piece.data
            held.parts += piece.parts
            return []
        done = [self._held.pop(piece.bus).frame()] if held is not None else []
        if piece.joins and piece.way == "rx":
            self._held[piece.bus] = piece
        else:
            done.append(piece.frame())
        return done

    def settle(self, now: float) -> list[Frame]:
        """Return what nothing followed for a while."""
        ripe = [bus for bus, held in self._held.items() if now - held.last > GAP_S]
        return [self._held.pop(bus).frame() for bus in ripe]

    def flush(self) -> list[Frame]:
        """Return all that is held."""
        held, self._held = self._held, {}
        return [piece.frame() for piece in held.values()]

    @staticmethod
    def _belongs(held: Piece, piece: Piece) -> bool:
        return (
            piece.joins and piece.way == "rx" and piece.meter == held.meter
            and piece.t - held.last <= GAP_S and len(held.data) < _LONGEST
        )  # fmt: skip
