"""What a run came to as files that two runs can be compared by: JSON lines, sorted by key, the same bytes each time.

readings.jsonl   meter, read_at, quality, reason, flags, values (decimals of the house unit)
events.jsonl     meter, at, kind, cause, count
counts.jsonl     bus, meter, kind, count
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from metering.clock import rfc3339
from metering.quantities import from_micro
from metering.reading import Event, Reading, Row


def reading_line(reading: Reading) -> dict[str, Any]:
    """Return a reading as its line."""
    return {
        "meter": reading.meter, "read_at": rfc3339(reading.read_at), "quality": reading.quality,
        "reason": reading.reason, "flags": reading.flags,
        "values": {name: from_micro(micro) for name, micro in sorted(reading.values.items())},
    }  # fmt: skip


def event_line(event: Event) -> dict[str, Any]:
    """Return an event as its line; its words for people are left out: they may be bettered."""
    return {
        "meter": event.meter, "at": rfc3339(event.at), "kind": event.kind, "cause": event.cause, "count": event.count
    }  # fmt: skip


def write_outcome(folder: Path, rows: Iterable[Row], counts: Iterable[Mapping[str, Any]]) -> None:
    """Write the three files. Raises: OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    kept = list(rows)
    readings = sorted((r for r in kept if isinstance(r, Reading)), key=lambda r: (r.meter, r.read_at))
    events = sorted((e for e in kept if isinstance(e, Event)), key=lambda e: (e.meter, e.at, e.kind, e.cause))
    _write(folder / "readings.jsonl", map(reading_line, readings))
    _write(folder / "events.jsonl", map(event_line, events))
    _write(folder / "counts.jsonl", sorted(counts, key=lambda c: (c["bus"], c["meter"], c["kind"])))


def _write(path: Path, lines: Iterable[Mapping[str, Any]]) -> None:
    path.write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines), "utf-8")
