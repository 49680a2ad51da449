"""What a dialect makes of one MQTT message: readings, or a notice that it is none."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from metering.quantities import Quantity


@dataclass(frozen=True, slots=True)
class Sample:
    """Values of one moment. read_at: [ms UTC] the row's own time; None: the time of arrival must do.

    values: {quantity: 10⁻⁶ of the house unit}. flags: see `metering.reading.Flag`. historical: sent late on purpose.
    """

    values: dict[Quantity, int]
    read_at: int | None = None
    flags: int = 0
    historical: bool = False


@dataclass(frozen=True, slots=True)
class Counter:
    """The sender's own counter of messages. modulus: where it begins again at 0, None when it does not."""

    value: int
    modulus: int | None = None


@dataclass(frozen=True, slots=True)
class Readings:
    """Values of one device, oldest first as sent. dedup: what names this message wherever it is delivered again."""

    device: str
    samples: tuple[Sample, ...]
    counter: Counter | None = None
    dedup: str = ""


@dataclass(frozen=True, slots=True)
class Notice:
    """A message that carries no reading and is no error: a join, an acknowledgement, a state.

    kind: the dialect's word. facts: what else it says.
    """

    device: str
    kind: str
    text: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)


Message = Readings | Notice
