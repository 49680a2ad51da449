"""What a run of the virtual house came to, held against the truth: stored, found, billed, ordered.

The truth is not asked of the house: what meters said stands in their own answer log, what they should have counted in
their curves, what is to be found in the script.
"""

from __future__ import annotations

import csv
import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, Final

import msgspec
import sqlalchemy as sa

from anomaly.scoring import Score, read_labels, score
from api.billing.keep import refresh
from api.billing.rows import spoken
from api.billing.settings import BillingSettings
from ingest.store_sqlite import SqliteStore
from metergate.judge import Verdict, judge
from metergate.virtual import VirtualHouse
from metering.clock import rfc3339
from metering.quantities import MICRO, from_micro
from metering.reading import Reading
from registry import billing as books
from registry.database import Database
from registry.models import Quarantine
from registry.models_findings import FindingRecord
from registry.models_work_orders import WorkOrder
from simulators.answer_log import Answer, read_answers
from simulators.scenario_fleet import SimMeter

_ALL_TIME: Final = 2**62
_SAID_ODDLY: Final = frozenset({"late", "zero_index", "freeze"})
"""Answers with a fault that a gateway cannot see: what they say is read like any other."""
_SHOWN: Final = 20
_STEP: Final = MICRO // 10
"""A register's last digit at most: billed and true consumption may be apart by the digits that it does not show."""

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


def report(house: VirtualHouse) -> dict[str, Any]:
    """Judge a run that ended, write its exports, and return the figures. Also written as report.json."""
    with house.registry() as database, closing(SqliteStore(house.store_path, mode="read")) as store:
        if house.scenario.bill:
            now = house.clock.now_ms()
            refresh(database, store, BillingSettings(), house.scenario.bill, now=now)
        _export(house, database, store)
        answers = list(read_answers(house.answers))
        found: dict[str, Any] = {
            "scenario": house.scenario.title,
            "seed": house.scenario.seed,
            "from": rfc3339(house.scenario.start_ms),
            "to": rfc3339(house.scenario.end_ms),
            "meters": len(house.meters),
            "frames": _frames(house, answers),
            "stored": _stored(house, database, store, answers),
            "found": _found(house, database),
            "billed": _billed(house, database),
            "ordered": _ordered(database),
            "exports": {name: _digest(house.folder / f"{name}.jsonl") for name in EXPORTS},
        }
    text = json.dumps(found, ensure_ascii=False, indent=1)
    (house.folder / "report.json").write_text(text + "\n", "utf-8")
    return found


def problems(found: dict[str, Any]) -> list[str]:
    """Return what of a report breaks a promise; empty when nothing does."""
    stored, frames, billed = found["stored"], found["frames"], found["billed"]
    out = [f"{stored[name]} readings {name}" for name in ("lost", "invented") if stored[name]]
    if frames["sent"] != frames["seen"]:
        out.append(f"{frames['sent']} requests sent, {frames['seen']} seen by the meters")
    if frames["healthy_planned"] != frames["healthy_answered"]:
        out.append(f"{frames['healthy_planned']} polls planned, {frames['healthy_answered']} answered")
    if billed["wrong"]:
        out.append(f"{len(billed['wrong'])} totals differ from the truth")
    return out


def _frames(house: VirtualHouse, answers: Iterable[Answer]) -> dict[str, int]:
    """Requests by plan and on the wire; for meters whose line and house had no event one by one."""
    frames = house.frames
    if house.disturbed:
        return {"planned": frames.planned, "sent": frames.sent, "seen": frames.seen, "polls": frames.polls,
                "healthy_planned": 0, "healthy_answered": 0}  # fmt: skip
    healthy = {meter.name for meter in house.meters if not house.is_disturbed(meter)}
    answered = Counter(answer.meter for answer in answers if answer.outcome == "ok" and answer.meter in healthy)
    planned = sum(count for name, count in house.planned.items() if name in healthy)
    return {
        "planned": frames.planned, "sent": frames.sent, "seen": frames.seen, "polls": frames.polls,
        "healthy_planned": planned, "healthy_answered": answered.total(),
    }  # fmt: skip


def _stored(house: VirtualHouse, database: Database, store: SqliteStore, answers: list[Answer]) -> dict[str, int]:
    """What meters said against what is stored, one by one."""
    with database.read() as connection:
        kept = connection.execute(sa.select(Quarantine.meter, Quarantine.read_at, Quarantine.reason)).all()
    refused = {(row.meter, row.read_at) for row in kept}
    doubtful = {a.number for a in answers if a.outcome == "late"}
    said = (msgspec.structs.replace(a, outcome="ok") if a.outcome in _SAID_ODDLY else a for a in answers)
    verdict: Verdict = judge(
        said,
        store.range(None, 0, _ALL_TIME),
        {m.name: q for m in house.meters if (q := house.profiles[m.group.profile].index.quantity)},
        excuse=lambda a: a.number in doubtful or (a.meter, a.at_ms) in refused,
    )
    return {
        "answers": verdict.served,
        "readings": verdict.stored,
        "lost": len(verdict.lost),
        "invented": len(verdict.invented),
        "late_or_quarantined": verdict.excused,
        "quarantined": len(kept),
        "worst_ms": verdict.worst_ms,
    }


def _found(house: VirtualHouse, database: Database) -> dict[str, Any]:
    """Findings against the labels of the script."""
    labels = read_labels(house.folder / "labels.csv", house.folder / "hard_negatives.csv")
    names = {meter.name for meter in house.meters}
    with database.read() as connection:
        rows = connection.execute(sa.select(FindingRecord.meter, FindingRecord.kind, FindingRecord.detected_at)).all()
    findings = [
        {"meter_id": row.meter, "kind": row.kind, "detected_at": row.detected_at / 1000}
        for row in rows
        if row.meter in names
    ]
    result: Score = score(
        findings,
        labels,
        intervals={meter.name: float(meter.group.interval_s) for meter in house.meters},
        meter_days=len(house.meters) * house.scenario.days,
    )
    kinds = {
        kind: {
            "events": each.events,
            "found": each.found,
            "recall": round(each.recall, 3),
            "precision": round(each.precision, 3),
            "delay_h": None if each.delay_h is None else round(each.delay_h, 2),
            "false": each.false,
        }
        for kind, each in result.kinds.items()
    }
    return {
        "findings": len(rows),
        "recall": round(result.recall, 3),
        "precision": round(result.precision, 3),
        "false_per_1000_month": round(result.false_per_1000, 2),
        "kinds": kinds,
    }


def _billed(house: VirtualHouse, database: Database) -> dict[str, Any]:
    """Totals against what went through the meters, to the last digit that their registers show."""
    states: Counter[str] = Counter()
    missing: Counter[str] = Counter()
    wrong: list[str] = []
    meters = {meter.name: meter for meter in house.meters}
    for row in _totals(house, database):
        states[row["state"]] += 1
        if row["state"] == "billed":
            truth = true_consumption(house, meters[row["usage_point_id"]], row["opening_at"], row["closing_at"])
            if truth != row["consumption"]:
                wrong.append(f"{row['usage_point_id']}: billed {from_micro(row['consumption'])}, {_said(truth)}")
        elif row["state"] in ("missing", "doubtful"):
            missing[row["cause"]] += 1
    return {
        "period": house.scenario.bill,
        "states": dict(sorted(states.items())),
        "not_billed_because": dict(sorted(missing.items())),
        "wrong": wrong[:_SHOWN],
    }


def true_consumption(house: VirtualHouse, meter: SimMeter, begin: int, end: int) -> int | None:
    """Return what went through [10⁻⁶ units], by the digits that the register shows; None where the register lied."""
    passed = meter.curve.passed(end) - meter.curve.passed(begin)
    simulated = house.farm.meters[meter.name]
    shown = simulated.shown_at(end) - simulated.shown_at(begin)
    turnover = 10 ** (house.profiles[meter.group.profile].index_digits or 8) * MICRO
    shown += round((passed - shown) / turnover) * turnover
    return shown if abs(shown - passed) <= _STEP else None


def _ordered(database: Database) -> dict[str, Any]:
    with database.read() as connection:
        rows = connection.execute(sa.select(WorkOrder.type, WorkOrder.state)).all()
    return {"orders": len(rows), "types": dict(sorted(Counter(row.type for row in rows).items()))}


# --- exports: one JSON object a line, sorted by key, the same for the same seed -------------------------------------


def _export(house: VirtualHouse, database: Database, store: SqliteStore) -> None:
    _write_lines(house.folder / "readings.jsonl", map(_reading, store.range(None, 0, _ALL_TIME)))
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
    rows = sorted(_totals(house, database), key=lambda row: str(row["usage_point_id"]))
    if not rows:
        return
    with database.read() as connection:
        lines = books.lines_of(connection, house.scenario.bill, [row["usage_point_id"] for row in rows])
    for row in rows:
        yield spoken(row, lines.get(row["usage_point_id"], []))


def _totals(house: VirtualHouse, database: Database) -> list[Any]:
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


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _second(moment: float) -> str:
    return rfc3339(int(moment) * 1000)


def _said(truth: int | None) -> str:
    return "and the register does not say what went through" if truth is None else f"true {from_micro(truth)}"
