"""What a run of the virtual house came to, held against the truth: stored, found, billed, ordered.

The truth is not asked of the house: what meters said stands in their own answer log, what they should have counted in
their curves, what is to be found in the script.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import closing
from typing import Any, Final

import msgspec
import sqlalchemy as sa

from api.billing.keep import refresh
from api.billing.settings import BillingSettings
from ingest.store_sqlite import SqliteStore
from metergate.judge import Verdict, judge
from metergate.virtual import VirtualHouse
from metergate.virtual_billed import billed
from metergate.virtual_course import on_wires
from metergate.virtual_exports import ALL_TIME, EXPORTS, digests, write_exports, write_truth
from metergate.virtual_found import found
from metergate.virtual_injected import spoilt_meters, write_injected
from metergate.virtual_words import words
from metering.clock import rfc3339
from registry.database import Database
from registry.models import EventRecord, Quarantine
from registry.models_work_orders import WorkOrder
from simulators.answer_log import Answer, read_answers

__all__ = ["EXPORTS", "problems", "report", "words", "write_truth"]

_SAID_ODDLY: Final = frozenset({"late", "zero_index", "freeze"})
"""Answers with a fault that a gateway cannot see: what they say is read like any other."""


def report(house: VirtualHouse) -> dict[str, Any]:
    """Judge a run that ended, write its exports, and return the figures; also as report.json and report.txt."""
    with house.registry() as database, closing(SqliteStore(house.store_path, mode="read")) as store:
        if house.scenario.bill:
            now = house.clock.now_ms()
            refresh(database, store, BillingSettings(), house.scenario.bill, now=now)
        write_injected(house)
        write_exports(house, database, store)
        answers = list(read_answers(house.answers))
        result: dict[str, Any] = {
            "title": house.scenario.title,
            "seed": house.scenario.seed,
            "first_day": house.scenario.start.isoformat(),
            "days": house.scenario.days,
            "from": rfc3339(house.scenario.start_ms),
            "to": rfc3339(house.scenario.end_ms),
            "meters": len(house.meters),
            "frames": _frames(house, answers),
            "stored": _stored(house, database, store, answers),
            "found": found(house, database),
            "billed": billed(house, database),
            "ordered": _ordered(database),
            "exports": digests(house.folder),
        }
    text = json.dumps(result, ensure_ascii=False, indent=1)
    (house.folder / "report.json").write_text(text + "\n", "utf-8")
    (house.folder / "report.txt").write_text(words(result), "utf-8")
    return result


def problems(result: dict[str, Any]) -> list[str]:
    """Return what of a report breaks a promise; empty when nothing does."""
    stored, frames, totals = result["stored"], result["frames"], result["billed"]
    out = [f"{stored[name]} readings {name}" for name in ("lost", "invented") if stored[name]]
    if stored["late_unexplained"]:
        out.append(f"{stored['late_unexplained']} late answers are neither stored nor told as failed reads")
    for name, wire in frames["wires"].items():
        if wire["comparable"] and wire["sent"] != wire["seen"]:
            out.append(f"{wire['sent']} sent over {name}, {wire['seen']} seen at the other end")
    if frames["healthy_planned"] != frames["healthy_answered"]:
        out.append(f"{frames['healthy_planned']} polls planned, {frames['healthy_answered']} answered")
    if totals["wrong"]:
        out.append(f"{len(totals['wrong'])} totals differ from the truth")
    if totals["unnamed"]:
        out.append(f"{len(totals['unnamed'])} totals are not billed, and nothing in the story says why")
    return out


def _frames(house: VirtualHouse, answers: Iterable[Answer]) -> dict[str, Any]:
    """Requests by plan and on the wire; for meters whose line and house had no event one by one."""
    frames = house.frames
    if house.disturbed:
        return {"planned": frames.planned, "sent": frames.sent, "seen": frames.seen, "polls": frames.polls,
                "healthy_planned": 0, "healthy_answered": 0, "wires": on_wires(house)}  # fmt: skip
    healthy = {meter.name for meter in house.meters if not house.is_disturbed(meter)} - spoilt_meters(house)
    answered = Counter(answer.meter for answer in answers if answer.outcome == "ok" and answer.meter in healthy)
    planned = sum(count for name, count in house.planned.items() if name in healthy)
    return {
        "planned": frames.planned, "sent": frames.sent, "seen": frames.seen, "polls": frames.polls,
        "healthy_planned": planned, "healthy_answered": answered.total(), "wires": on_wires(house),
    }  # fmt: skip


def _stored(house: VirtualHouse, database: Database, store: SqliteStore, answers: list[Answer]) -> dict[str, int]:
    """What meters said against what is stored, one by one."""
    with database.read() as connection:
        kept = connection.execute(sa.select(Quarantine.meter, Quarantine.read_at, Quarantine.reason)).all()
    late = {answer.number for answer in answers if answer.outcome == "late"}
    excuses = _Excuses({(row.meter, row.read_at) for row in kept}, late, house.never_produced)
    said = (msgspec.structs.replace(a, outcome="ok") if a.outcome in _SAID_ODDLY else a for a in answers)
    verdict: Verdict = judge(
        said,
        store.range(None, house.scenario.start_ms, ALL_TIME),
        {m.name: q for m in house.meters if (q := house.fleet.quantity(m))},
        excuse=excuses,
    )
    return {
        "answers": verdict.served,
        "readings": verdict.stored,
        "lost": len(verdict.lost),
        "invented": len(verdict.invented),
        "late": excuses.late.total(),
        "late_unexplained": unexplained(excuses.late, failed_reads(database)),
        "in_quarantine": excuses.refused,
        "never_produced": excuses.unproduced,
        "quarantined": len(kept),
        "worst_ms": verdict.worst_ms,
    }


class _Excuses:
    """Which answers may be missing in the store.

    late: how many by meter that came late; refused: by ingest; unproduced: died in a gateway's memory with it.
    """

    def __init__(
        self, quarantined: set[tuple[str, int]], late: set[int], never_produced: Callable[[Answer], bool]
    ) -> None:
        self._quarantined, self._late, self._never_produced = quarantined, late, never_produced
        self.late: Counter[str] = Counter()
        self.refused = self.unproduced = 0

    def __call__(self, answer: Answer) -> bool:
        if answer.number in self._late:
            self.late[answer.meter] += 1
            return True
        refused = (answer.meter, answer.at_ms) in self._quarantined
        self.refused += refused
        unproduced = not refused and self._never_produced(answer)
        self.unproduced += unproduced
        return refused or unproduced


def unexplained(late: Counter[str], failed: Counter[str]) -> int:
    """Return how many late answers no failed read stands for: each one that was not stored was a read that failed."""
    return sum(max(0, count - failed[meter]) for meter, count in late.items())


def failed_reads(database: Database) -> Counter[str]:
    """Return the failed reads of each meter, as its gateway told them.

    A recovery tells all failures before it; while a meter still fails they are told at 1, 2, 4, 8, …, so that up to
    as many more may stand behind the last one.
    """
    kinds = ("read_failed", "read_recovered")
    columns = (EventRecord.meter, EventRecord.kind, EventRecord.count.label("times"))
    with database.read() as connection:
        rows = connection.execute(
            sa.select(*columns).where(EventRecord.kind.in_(kinds)).order_by(EventRecord.at, EventRecord.id)
        ).all()
    done: Counter[str] = Counter()
    going_on: Counter[str] = Counter()
    for row in rows:
        if row.kind == "read_recovered":
            done[row.meter] += row.times
            del going_on[row.meter]
        else:
            going_on[row.meter] += row.times
    for meter, told in going_on.items():
        done[meter] += 2 * told - 1
    return done


def _ordered(database: Database) -> dict[str, Any]:
    with database.read() as connection:
        rows = connection.execute(sa.select(WorkOrder.type, WorkOrder.state)).all()
    return {"orders": len(rows), "types": dict(sorted(Counter(row.type for row in rows).items()))}
