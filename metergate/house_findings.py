"""What is wrong in the demo's house: three simulated meters whose flow (and nothing else) tells of it.

A demo lasts seconds and rules need days. So the house brings six weeks of its meters' past: what the same simulated
meters would have shown each hour, handed over as imported readings through the gateway's outbox, the broker and
ingest like every other row. A leak and a rest lie in that past and go on while the demo runs; the third meter begins
to run backwards while it is polled.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa

from anomaly.service import READY_KEY
from gateway.outbox import Outbox
from gateway.profiles import load_profiles
from metergate.house import GATEWAY, House
from metergate.supervisor import Supervisor
from metering.clock import Clock
from metering.reading import Reading
from registry.database import Database
from registry.ledger import get_state
from registry.models_findings import FindingRecord
from registry.models_work_orders import WorkOrder, WorkOrderFinding
from simulators.farm_settings import FarmSettings, FlowSettings, load_farm
from simulators.modbus_farm import Farm

HISTORY_DAYS: Final = 45
_HOUR_MS: Final = 3_600_000
_ORDER_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class Wrong:
    """One thing that is wrong. prefix: of the meter. since_h: [h] before the demo begins; None: while it runs."""

    prefix: str
    kind: str
    flow: str
    rate: float = 0.0
    since_h: int | None = None


WRONG: Final = (
    Wrong("G-HH", "leak", "leak", rate=2.0, since_h=9),  # m³/h at a household's gas meter: a pipe has burst
    Wrong("W-HH", "zero_use", "zero", since_h=24 * 16),  # nobody has used water for sixteen days
    Wrong("E-HH", "reverse_flow", "reverse", rate=30.0),  # kW backwards: wired the wrong way round
)


def meter_of(wrong: Wrong, meters: Sequence[str]) -> str:
    """Return the first meter of the sort that something is wrong with."""
    return next(meter for meter in meters if meter.startswith(wrong.prefix))


def inject_past(path: Path, now_ms: int) -> dict[str, str]:
    """Let what began before the demo have begun; return meter -> kind of everything that is or will be wrong."""
    farm = load_farm(path)
    names = [meter.meter for port in farm.port for meter in port.meter]
    expected = {meter_of(wrong, names): wrong.kind for wrong in WRONG}
    flows = {meter_of(wrong, names): _past(wrong, now_ms) for wrong in WRONG if wrong.since_h is not None}
    ports = tuple(
        port.model_copy(
            update={
                "meter": tuple(
                    meter.model_copy(update={"flow": flows[meter.meter]}) if meter.meter in flows else meter
                    for meter in port.meter
                )
            }
        )
        for port in farm.port
    )
    changed = farm.model_copy(update={"port": ports})
    path.write_text(changed.model_dump_json(indent=1, exclude_none=True), "utf-8")
    return expected


def _past(wrong: Wrong, now_ms: int) -> FlowSettings:
    assert wrong.since_h is not None
    since_ms = now_ms // _HOUR_MS * _HOUR_MS - wrong.since_h * _HOUR_MS
    return FlowSettings.model_validate({"kind": wrong.flow, "rate": wrong.rate, "since_ms": since_ms})


def put_history(path: Path, outbox: Path, meters: Sequence[str], clock: Clock) -> int:
    """Lay the meters' past into the gateway's outbox, each hour and now; return how many rows that is."""
    farm = load_farm(path)
    rows = list(_history(farm, meters, clock))
    asyncio.run(_lay(outbox, rows, clock))
    return len(rows)


def _history(settings: FarmSettings, meters: Sequence[str], clock: Clock) -> Iterator[Reading]:
    farm = Farm(settings.model_copy(update={"log": None}), clock)
    quantities = {name: profile.index.quantity for name, profile in load_profiles().items()}
    now_ms = clock.now_ms()
    first = now_ms // _HOUR_MS * _HOUR_MS - HISTORY_DAYS * 24 * _HOUR_MS
    for name in meters:
        meter = farm.meters[name]
        quantity = quantities[meter.settings.profile]
        assert quantity is not None  # every profile names what it bills
        for at in [*range(first, now_ms - 1, _HOUR_MS), now_ms]:
            yield Reading(name, at, {quantity: meter.shown_at(at)}, source="import")


async def _lay(path: Path, rows: Sequence[Reading], clock: Clock) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    outbox = Outbox(path, gateway=GATEWAY, clock=clock, rng=random.Random(2026))
    await outbox.open()
    await outbox.append(list(rows))
    await outbox.close()


async def inject_now(control_port: int, meters: Sequence[str], clock: Clock) -> None:
    """Let what is to begin while the demo runs begin: one line to the farm. Raises: OSError, TimeoutError."""
    reader, writer = await asyncio.open_connection("127.0.0.1", control_port)
    try:
        for wrong in WRONG:
            if wrong.since_h is None:
                order = {"meter": meter_of(wrong, meters), "flow": {"kind": wrong.flow, "rate": wrong.rate}}
                writer.write(json.dumps(order).encode() + b"\n")
                await writer.drain()
                await clock.timeout(reader.readline(), _ORDER_S)
    finally:
        writer.close()


def read_findings(registry_url: str, expected: dict[str, str]) -> dict[tuple[str, str], dict[str, Any]]:
    """Return what was found of what is wrong: (meter, kind) -> the first finding of it."""
    database = Database(registry_url)
    try:
        with database.read() as connection:
            table = FindingRecord.__table__
            rows = connection.execute(sa.select(table).order_by(FindingRecord.id)).mappings().all()
    finally:
        database.close()
    found: dict[tuple[str, str], dict[str, Any]] = {}
    for row in rows:
        if expected.get(row["meter"]) == row["kind"]:
            found.setdefault((row["meter"], row["kind"]), dict(row))
    return found


def read_orders(registry_url: str) -> dict[int, dict[str, Any]]:
    """Return the work orders that findings opened: id of the finding -> number, type, priority, state, reason."""
    names = ("id", "type", "priority", "state", "reason_en")
    columns = [getattr(WorkOrder, name) for name in names]
    statement = sa.select(WorkOrderFinding.finding_id, *columns).join(
        WorkOrder, WorkOrder.id == WorkOrderFinding.order_id
    )
    database = Database(registry_url)
    try:
        with database.read() as connection:
            rows = connection.execute(statement).all()
    finally:
        database.close()
    return {row.finding_id: {name: getattr(row, name) for name in names} for row in rows}


@dataclass(frozen=True, slots=True)
class Injected:
    """What is wrong in this house: meter -> kind. rows: of history in the gateway's outbox.

    began: meter -> when its flow changed [ms UTC]; one that changes while the demo runs is entered then.
    """

    expected: dict[str, str]
    rows: int
    began: dict[str, int]


def prepare(house: House, clock: Clock) -> Injected:
    """Before anything starts: what began earlier has begun, and the past of those meters waits in the outbox."""
    path = house.folder / "farm.json"
    expected = inject_past(path, clock.now_ms())
    meters = [meter for port in load_farm(path).port for meter in port.meter]
    began = {m.meter: m.flow.since_ms for m in meters if m.flow is not None and m.flow.since_ms is not None}
    return Injected(expected, put_history(path, house.outbox, sorted(expected), clock), began)


async def watch_rules(
    house: House, injected: Injected, rules: Supervisor, stored: Callable[[], int], clock: Clock
) -> None:
    """Start the rules when the past is stored, then let the third meter begin to run backwards."""
    while stored() < injected.rows:
        await clock.sleep(0.1)
    await rules.start()
    while not _judging(house):
        await clock.sleep(0.1)
    await inject_now(house.control_port, sorted(injected.expected), clock)
    injected.began.update({meter: clock.now_ms() for meter in injected.expected if meter not in injected.began})


def _judging(house: House) -> bool:
    database = Database(house.registry_url)
    try:
        with database.read() as connection:
            said = get_state(connection, f"{READY_KEY}anomaly-1")
    finally:
        database.close()
    return said is not None and bool(json.loads(said)["evaluated_at"])


def found_lines(house: House, injected: Injected) -> list[dict[str, Any]]:
    """Return what came of each: meter, kind, rule, how long [s] after its flow changed the readings proved it, its
    work order."""
    found = read_findings(house.registry_url, injected.expected)
    orders = read_orders(house.registry_url)
    lines = []
    for meter, kind in sorted(injected.expected.items()):
        row = found.get((meter, kind))
        line: dict[str, Any] = {"meter": meter, "kind": kind, "found": row is not None}
        if row is not None:
            line |= {"rule": row["rule"], "state": row["state"]}
            line["after_s"] = max(0, row["detected_at"] - injected.began.get(meter, row["detected_at"])) // 1000
            if (order := orders.get(row["id"])) is not None:
                line["order"] = order
        lines.append(line)
    return lines
