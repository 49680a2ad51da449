"""What a Sparkplug host must remember of an edge node: births, aliases, seq; pure, no clock, no connection.

A gap in seq, or data before a birth: ask for a rebirth, do not guess. After a gap an alias could have been given to
another metric by a birth that was missed, so until the next birth only metrics that bring their own name count.

Source: Eclipse Sparkplug specification 3.0, chapters 5 and 6.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, Literal

from gateway.protocols.sparkplug_b import BD_SEQ, Metric, Payload, Topic, Value, value_of
from metering.errors import FrameError

_MODULUS: Final = 256

Kind = Literal["birth", "data", "death", "ignored"]


class SeqWatch:
    """Watches a counter 0-255 that all messages of one edge node share."""

    def __init__(self) -> None:
        self.last: int | None = None

    def start(self, seq: int) -> None:
        """A birth sets the counter."""
        self.last = seq

    def missing(self, seq: int) -> int:
        """Take the next number; return how many (at least) are missing before it, 0 when it is the right one."""
        lost = 0 if self.last is None else (seq - self.last - 1) % _MODULUS
        self.last = seq
        return lost


@dataclass(frozen=True, slots=True)
class Resolved:
    """One metric with its name. timestamp: [ms UTC], the metric's own, else the message's; None when neither is sent.

    problem: why value is None although the metric is not null, "" otherwise.
    """

    name: str
    datatype: int | None
    value: Value
    timestamp: int | None
    historical: bool
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one message meant. device: "" for the node. missing: messages lost before this one (QoS 0).

    rebirth: why a rebirth must be asked for, "" when all is well. unresolved: metrics that could not be named.
    """

    kind: Kind
    device: str
    metrics: tuple[Resolved, ...] = ()
    missing: int = 0
    rebirth: str = ""
    unresolved: int = 0


@dataclass
class EdgeNode:
    """State of one edge node. `apply` each of its messages, in the order they came."""

    born: bool = False
    stale: bool = False
    bd_seq: int | None = None
    online_devices: set[str] = field(default_factory=set)
    _seq: SeqWatch = field(default_factory=SeqWatch)
    _names: dict[int, tuple[str, str, int | None]] = field(default_factory=dict)  # alias -> device, name, datatype
    _types: dict[tuple[str, str], int] = field(default_factory=dict)  # (device, name) -> datatype
    _last: tuple[int | None, int | None] = (None, None)

    def apply(self, topic: Topic, payload: Payload) -> Outcome:
        """Take one message in. Commands and host states are ignored."""
        match topic.type:
            case "NBIRTH":
                return self._node_birth(payload)
            case "NDEATH":
                return self._node_death(payload)
            case "DBIRTH" | "NDATA" | "DDATA" | "DDEATH":
                return self._sequenced(topic, payload)
            case _:
                return Outcome("ignored", topic.device)

    def _node_birth(self, payload: Payload) -> Outcome:
        self._names.clear()
        self._types.clear()
        self.online_devices.clear()
        self._seq.start(payload.seq or 0)
        self.born, self.stale = True, False
        self.bd_seq = _bd_seq(payload)
        self._last = (payload.seq, payload.timestamp)
        return Outcome("birth", "", self._learn("", payload))

    def _node_death(self, payload: Payload) -> Outcome:
        """A will of an earlier session comes late: its bdSeq is not that of the birth."""
        if self.born and self.bd_seq is not None and _bd_seq(payload) != self.bd_seq:
            return Outcome("ignored", "")
        self.born = False
        self.online_devices.clear()
        return Outcome("death", "")

    def _sequenced(self, topic: Topic, payload: Payload) -> Outcome:
        if not self.born:
            return Outcome("ignored", topic.device, rebirth="a message before the birth")
        if payload.seq is None:
            return Outcome("ignored", topic.device, rebirth="a message without seq")
        if self._last == (payload.seq, payload.timestamp):
            return Outcome("ignored", topic.device)  # delivered twice
        self._last = (payload.seq, payload.timestamp)
        missing = self._seq.missing(payload.seq)
        rebirth = f"{missing} messages are missing before seq {payload.seq}" if missing else ""
        self.stale = self.stale or bool(missing)
        if topic.type == "DDEATH":
            self.online_devices.discard(topic.device)
            return Outcome("death", topic.device, missing=missing, rebirth=rebirth)
        if topic.type == "DBIRTH":
            self.online_devices.add(topic.device)
            return Outcome("birth", topic.device, self._learn(topic.device, payload), missing, rebirth)
        return self._data(topic, payload, missing, rebirth)

    def _data(self, topic: Topic, payload: Payload, missing: int, rebirth: str) -> Outcome:
        if topic.device and topic.device not in self.online_devices:
            return Outcome("ignored", topic.device, (), missing, rebirth or "data of a device before its birth")
        found = [self._resolve(topic.device, metric, payload) for metric in payload.metrics]
        metrics = tuple(metric for metric in found if metric is not None)
        unresolved = len(found) - len(metrics)
        if unresolved and not rebirth:
            rebirth = "an alias that no birth has named"
        return Outcome("data", topic.device, metrics, missing, rebirth, unresolved)

    def _learn(self, device: str, payload: Payload) -> tuple[Resolved, ...]:
        for metric in payload.metrics:
            if metric.alias is not None and metric.name:
                self._names[metric.alias] = (device, metric.name, metric.datatype)
            if metric.datatype is not None and metric.name:
                self._types[device, metric.name] = metric.datatype
        return tuple(_resolved(m.name, m, m.datatype, payload) for m in payload.metrics if m.name)

    def _resolve(self, device: str, metric: Metric, payload: Payload) -> Resolved | None:
        if metric.name:
            return _resolved(metric.name, metric, self._types.get((device, metric.name)), payload)
        if metric.alias is None or self.stale or metric.alias not in self._names:
            return None
        owner, name, datatype = self._names[metric.alias]
        return _resolved(name, metric, datatype, payload) if owner == device else None


def _resolved(name: str, metric: Metric, datatype: int | None, payload: Payload) -> Resolved:
    kind = metric.datatype if metric.datatype is not None else datatype
    timestamp = metric.timestamp if metric.timestamp is not None else payload.timestamp
    try:
        value, problem = value_of(metric, kind), ""
    except FrameError as error:
        value, problem = None, error.message
    if value is None and not metric.null and not problem:
        problem = "not a finite number" if metric.raw else "no value"
    return Resolved(name, kind, value, timestamp, metric.historical, problem)


def _bd_seq(payload: Payload) -> int | None:
    for metric in payload.metrics:
        if metric.name == BD_SEQ:
            value = value_of(metric)
            return value if isinstance(value, int) else None
    return None
