"""Readings of a stored period, or of files, as rows of a gateway of another name: other meters' ids, same values."""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from metering.clock import Clock, parse_rfc3339
from metering.errors import SettingsError
from metering.quantities import UNITS, Quantity, to_micro
from metering.reading import Reading, Row

_BATCH: Final = 500


def read_rows(path: Path, quantity: Quantity) -> tuple[list[Reading], list[str]]:
    """Read readings.jsonl (of a run) or a CSV with meter_id, ts, index, also .gz; in order of time.

    quantity: what the column index means. Returns the sound rows, and a sentence for every line that is not.
    Raises: SettingsError when not one line is sound; OSError.
    """
    raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    text, rows, faults = raw.decode("utf-8-sig", "replace"), [], []
    lines = _csv_lines(text) if ".csv" in path.suffixes else _json_lines(text)
    for number, line in lines:
        try:
            rows.append(_reading(line, quantity))
        except (ValueError, KeyError, TypeError, msgspec.ValidationError) as error:
            faults.append(f"{path.name}:{number}: {error!s:.200}; left out")
    if not rows:
        raise SettingsError([f"{path.name}: not one reading", *faults[:3]])
    return sorted(rows, key=lambda row: (row.read_at, row.meter)), faults


def renamed(rows: Iterable[Reading], *, prefix: str, shift_ms: int = 0) -> Iterator[Reading]:
    """Yield the rows under other names, later by a fixed time."""
    for row in rows:
        other = msgspec.structs.replace(
            row, meter=prefix + row.meter, read_at=row.read_at + shift_ms, received_at=None
        )
        if row.meter_time is not None:
            other.meter_time = row.meter_time + shift_ms
        yield other


async def send_rows(
    rows: Iterable[Reading], append: Callable[[Sequence[Row]], Awaitable[None]], clock: Clock, *, speed: float
) -> int:
    """Hand rows on at their own distances (speed times as fast, 0 without waiting); return how many.

    append: returns after the commit to an outbox. Raises: OutboxError.
    """
    sent, first, begun, batch = 0, None, clock.monotonic(), list[Row]()
    for row in rows:
        first = row.read_at if first is None else first
        rest = begun + (row.read_at - first) / 1000 / speed - clock.monotonic() if speed else 0.0
        if batch and (rest > 0 or len(batch) >= _BATCH):
            await append(batch)
            batch = []
        if rest > 0:
            await clock.sleep(rest)
        batch.append(row)
        sent += 1
    if batch:
        await append(batch)
    return sent


def _reading(line: dict[str, Any], quantity: Quantity) -> Reading:
    at = line.get("read_at") or line["ts"]
    flat = {name: line[name] for name in UNITS if line.get(name) not in (None, "")}
    values = line.get("values") or flat or {quantity: line["index"]}
    facts = {
        "type": "reading", "meter": line.get("meter") or line["meter_id"], "read_at": parse_rfc3339(str(at)),
        "values": {name: to_micro(str(value)) for name, value in values.items()},
        "quality": line.get("quality") or "valid", "reason": line.get("reason") or "",
        "flags": line["flags"] if isinstance(line.get("flags"), int) else 0,
    }  # fmt: skip
    return msgspec.convert(facts, Reading)


def _json_lines(text: str) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError:
            row = None
        yield number, row if isinstance(row, dict) else {}


def _csv_lines(text: str) -> Iterator[tuple[int, dict[str, Any]]]:
    yield from enumerate(csv.DictReader(io.StringIO(text)), start=2)
