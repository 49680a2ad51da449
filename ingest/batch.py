"""What one turn of the pipeline carries from the broker's deliveries to the acknowledgements."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from metering.messages import Refused, part_of
from metering.mqtt import Delivery
from metering.reading import Event, Reading
from metering.store import Key
from registry.ledger import EventRow, Position, QuarantineRow


@dataclass(slots=True)
class Heard:
    """What this batch itself heard of one outbox. reused: rows came under numbers that other rows had before."""

    spans: list[tuple[int, int]] = field(default_factory=list)
    oldest: int = 2**63
    reused: bool = False


@dataclass(frozen=True, slots=True)
class Origin:
    """Where rows came from. position: the batch's own copy, which becomes true with the commit."""

    gateway: str
    epoch: str
    position: Position
    heard: Heard


class Placed(NamedTuple):
    """A row with its place in the gateway's outbox. known: this seq was accounted for before (a redelivery)."""

    row: Reading | Event
    origin: Origin
    seq: int
    known: bool


class Older(NamedTuple):
    """A reading whose key may exist already; the store is asked before it is written."""

    reading: Reading
    origin: Origin
    seq: int
    known: bool


@dataclass(slots=True, eq=False)
class Batch:
    """One turn of the pipeline.

    fresh: readings newer than anything of their meter. older: to be looked up first. merged: older ones that are to
    be written after all, with every quantity of their key. unsure, strangers: rows and messages of meters and
    gateways that the registry is asked about once more. refused: answers to messages that could not be read.
    """

    now: int
    fresh: list[Reading] = field(default_factory=list)
    older: list[Older] = field(default_factory=list)
    merged: dict[Key, Reading] = field(default_factory=dict)
    unsure: list[Placed] = field(default_factory=list)
    strangers: list[tuple[str, Delivery]] = field(default_factory=list)
    events: list[EventRow] = field(default_factory=list)
    quarantine: list[QuarantineRow] = field(default_factory=list)
    origins: dict[tuple[str, str], Origin] = field(default_factory=dict)
    refused: list[tuple[str, Refused]] = field(default_factory=list)

    def origin(self, gateway: str, epoch: str, committed: Mapping[tuple[str, str], Position]) -> Origin:
        """Return where rows of this epoch are accounted for: a copy, because nothing counts before the commit."""
        origin = self.origins.get((gateway, epoch))
        if origin is None:
            known = committed.get((gateway, epoch))
            if known is None:
                position = Position(gateway, epoch, part_of(gateway))
            else:
                position = replace(known, spans=list(known.spans))
            origin = self.origins[gateway, epoch] = Origin(gateway, epoch, position, Heard())
        return origin

    def positions(self) -> list[Position]:
        """Return what will be committed of each outbox that spoke."""
        return [origin.position for origin in self.origins.values()]

    def writes(self) -> list[Reading]:
        """Return what the store is to write, in an order in which the fullest row of a key comes last."""
        return [*self.fresh, *self.merged.values()] if self.merged else self.fresh

    def touched(self) -> list[Reading]:
        """Return what is in the store and was not accounted for before; some may have been written by a lost turn."""
        if not self.older:
            return self.fresh
        return [*self.fresh, *(older.reading for older in self.older if not older.known)]
