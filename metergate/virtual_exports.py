"""What a run of the virtual house leaves to be compared: one JSON object a line, sorted by key, and what was true.

The same scenario and seed give the same bytes.
"""

from __future__ import annotations

import csv
import hashlib
import json
import math
from collections.abc import Iterable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa

from api.billing.rows import spoken
from ingest.store_sqlite import SqliteStore
from metergate.virtual import VirtualHouse
from metering.clock import rfc3339
from metering.quantities import from_micro
from metering.reading import Reading
from registry import billing as books
from registry.database import Database
from registry.models_findings import FindingRecord
from registry.models_work_orders import WorkOrder
from simulators.scenario_fleet import weather_of

ALL_TIME: Final = 2**62
EXPORTS: Final = ("readings", "findings", "orders", "totals")


def write_truth(house: VirtualHouse) -> None:
    """Write labels, ordinary situations and weather beside the run, before anything has happened."""
    scenario = house.scenario
    end = scenario.end_ms / 1000
    labels = [
        (m.name, label.kind, _second(label.start), _second(min(label.end, end)), label.severity, label.note)
        for m in house.meters
        for label in sorted(m.trace.labels, key=lambda label: (label.start, label.kind))
        if label.start < end
    ]
    ordinary = [
        (m.name, s.kind, _second(s.start), _second(min(s.end, end)))
        for m in house.meters
        for s in sorted(m.trace.situations, key=lambda s: (s.start, s.kind))
        if s.start < end
    ]
    _write_csv(house.folder / "labels.csv", ("meter_id", "kind", "start", "end", "severity", "note"), labels)
    _write_csv(house.folder / "hard_negatives.csv", ("meter_id", "kind", "start", "end"), ordinary)
    first = scenario.start - timedelta(days=scenario.history_days)
    means = weather_of(scenario, math.ceil(scenario.history_days + scenario.days)).tolist()
    days = [((first + timedelta(days=number)).isoformat(), f"{mean:g}") for number, mean in enumerate(means)]
    _write_csv(house.folder / "weather.csv", ("date", "temp_avg_c"), days)


def write_exports(house: VirtualHouse, database: Database, store: SqliteStore) -> None:
    """Write readings of the run (not those of before it), findings, orders and totals."""
    readings = store.range(None, house.scenario.start_ms, ALL_TIME)
    _write_lines(house.folder / "readings.jsonl", map(_reading, readings))
    with database.read() as connection:
        findings = list(connection.execute(sa.select(FindingRecord.__table__).order_by(FindingRecord.key)).mappings())
        orders = list(
            connection.execute(
                sa.select(WorkOrder.__table__).order_by(WorkOrder.opened_at, WorkOrder.place, WorkOrder.type)
            ).mappings()
        )
    _write_lines(house.folder / "findings.jsonl", (_row(row, "id", "version") for row in findings))
    _write_lines(house.folder / "orders.jsonl", (_row(row, "id", "version", "parent_id") for row in orders))
    _write_lines(house.folder / "totals.jsonl", _total_lines(house, database))


def _reading(reading: Reading) -> dict[str, Any]:
    out: dict[str, Any] = {"meter": reading.meter, "read_at": rfc3339(reading.read_at)}
    if reading.received_at:
        out["received_at"] = rfc3339(reading.received_at)
    out |= {name: from_micro(value) for name, value in sorted(reading.values.items())}
    return out | {"quality": reading.quality, "reason": reading.reason, "flags": reading.flags}


def _row(row: Any, *without: str) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name not in without}


def _total_lines(house: VirtualHouse, database: Database) -> Iterator[dict[str, Any]]:
    rows = sorted(totals_of_run(house, database), key=lambda row: str(row["usage_point_id"]))
    if not rows:
        return
    with database.read() as connection:
        lines = books.lines_of(connection, house.scenario.bill, [row["usage_point_id"] for row in rows])
    for row in rows:
        yield spoken(row, lines.get(row["usage_point_id"], []))


def totals_of_run(house: VirtualHouse, database: Database) -> list[Any]:
    """Return the totals of the period that the scenario bills; none when it bills none."""
    if not house.scenario.bill:
        return []
    with database.read() as connection:
        nowhere = {"customer_class": "", "medium": "", "district": "", "state": ""}
        return list(books.totals_of(connection, house.scenario.bill, nowhere))


def _write_lines(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(row, ensure_ascii=False, sort_keys=True) + "\n" for row in rows)


def _write_csv(path: Path, head: tuple[str, ...], rows: list[Any]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(head)
        writer.writerows(rows)


def digests(folder: Path) -> dict[str, str]:
    """Return the SHA-256 of each export."""
    return {name: hashlib.sha256((folder / f"{name}.jsonl").read_bytes()).hexdigest() for name in EXPORTS}


def _second(moment: float) -> str:
    return rfc3339(int(moment) * 1000)
