"""What people changed in a running virtual house (`metergate inject`): part of the truth, as if it had been scripted.

Written beside the run when it has ended: injections.jsonl, and a label for each change that a rule is to find. What
such a meter uses is no longer its curve, so its totals are held against nothing.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

from metering.clock import rfc3339

if TYPE_CHECKING:
    from metergate.virtual import VirtualHouse

_KINDS: Final = {"leak": "leak", "zero": "zero_use", "reverse": "reverse_flow"}
_BURST: Final = 0.5
"""[house units per hour] from which on a leak is called a burst, as in scenarios."""


def injected_meters(house: VirtualHouse) -> frozenset[str]:
    """Return the meters whose counter somebody changed."""
    return frozenset(meter for meter, what in _touched(house) if what in ("flow", "index"))


def spoilt_meters(house: VirtualHouse) -> frozenset[str]:
    """Return the meters whose answers somebody spoilt."""
    return frozenset(meter for meter, what in _touched(house) if what == "fault")


def _touched(house: VirtualHouse) -> list[tuple[str, str]]:
    return [mark for made, _ in house.fleet.tcp.control.injections.history for mark in made.touched]


def write_injected(house: VirtualHouse) -> None:
    """Write what was changed, and add its labels to those of the script."""
    history = house.fleet.tcp.control.injections.history
    if not history:
        return
    with (house.folder / "injections.jsonl").open("w", encoding="utf-8") as file:
        for made, until in history:
            line = {"number": made.number, "at": rfc3339(made.at), "until": until and rfc3339(until), **made.order}
            file.write(json.dumps(line, ensure_ascii=False) + "\n")
    with (house.folder / "labels.csv").open("a", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        for made, until in history:
            writer.writerows(_labels(made.order, made.touched, made.at, until or house.scenario.end_ms))


def _labels(order: dict[str, Any], touched: frozenset[tuple[str, str]], begin: int, end: int) -> Iterator[list[str]]:
    flow = order.get("flow")
    kind = _KINDS.get(flow["kind"]) if flow else "spike" if order.get("index") is not None else None
    if kind is None:
        return
    severity = "burst" if kind == "leak" and flow and float(flow["rate"]) >= _BURST else ""
    for meter in sorted({meter for meter, _ in touched}):
        yield [meter, kind, rfc3339(begin), rfc3339(end), severity, "injected"]
