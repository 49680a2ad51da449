"""What a virtual house billed, held against what went through the meters; each total that is not billed has its name.

The cause is the product's own word; the name beside it comes from the script and the calendar: which event, which
ordinary situation, or that the run ended before the reading day.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from typing import Any, Final

from metergate.virtual import VirtualHouse
from metergate.virtual_exports import totals_of_run
from metergate.virtual_injected import injected_meters
from metering.clock import rfc3339
from metering.quantities import MICRO, from_micro
from registry.database import Database
from simulators.scenario_fleet import SimMeter

_SHOWN: Final = 20
_STEP: Final = MICRO // 10
"""A register's last digit at most: billed and true consumption may be apart by the digits that it does not show."""
_REACH_MS: Final = 24 * 3_600_000
"""[ms] before a boundary within which an index closes it (billing.tolerance_h)."""
_STATES: Final = ("doubtful", "missing", "excluded")


def billed(house: VirtualHouse, database: Database) -> dict[str, Any]:
    """Return the totals by state, the named causes of those that are not billed, and what differs from the truth."""
    states: Counter[str] = Counter()
    because: defaultdict[str, Counter[str]] = defaultdict(Counter)
    wrong: list[str] = []
    unnamed: list[str] = []
    meters = {meter.name: meter for meter in house.meters}
    injected = injected_meters(house)
    for row in totals_of_run(house, database):
        point, state = str(row["usage_point_id"]), str(row["state"])
        states[state] += 1
        if point in injected:
            because[state]["changed from outside"] += state != "billed"
            continue
        if state == "billed":
            truth = true_consumption(house, meters[point], row["opening_at"], row["closing_at"])
            if truth != row["consumption"]:
                wrong.append(f"{point}: billed {from_micro(row['consumption'])}, {_said(truth)}")
            continue
        name = _name(house, meters[point], row) or _true_all_the_same(house, meters[point], row)
        because[state][f"{row['cause']} ({name})" if name else f"{row['cause']} (no reason known)"] += 1
        if not name:
            unnamed.append(f"{point}: {state}, {row['cause']}: {row['detail']}")
    return {
        "period": house.scenario.bill,
        "states": dict(sorted(states.items())),
        "because": {state: dict(sorted(because[state].items())) for state in _STATES if because[state]},
        "unnamed": unnamed,
        "wrong": wrong[:_SHOWN],
    }


def true_consumption(house: VirtualHouse, meter: SimMeter, begin: int, end: int) -> int | None:
    """Return what went through [10⁻⁶ units], by the digits that the register shows; None where the register lied."""
    passed = meter.curve.passed(end) - meter.curve.passed(begin)
    shown = house.fleet.counted(meter, begin, end)
    turnover = 10 ** (house.digits[meter.group.profile] or 8) * MICRO
    shown += round((passed - shown) / turnover) * turnover
    return shown if abs(shown - passed) <= _STEP else None


def _name(house: VirtualHouse, meter: SimMeter, row: Mapping[str, Any]) -> str:
    """Say what in the story explains that this period of a meter is not billed; "" when nothing does."""
    scenario, begin, end = house.scenario, int(row["start_at"]), int(row["end_at"])
    first = scenario.start_ms - scenario.history_days * 86_400_000
    if row["state"] == "missing" and end > scenario.end_ms:
        return f"its reading day {rfc3339(end)[:10]} lies behind the end of the run"
    if row["state"] == "missing" and begin <= first:
        return f"its period begins {rfc3339(begin)[:10]}, before anything was read"
    if row["state"] == "excluded":
        return "by the books"
    told = [event.kind for event, since, until in meter.events if since < end and until > begin - _REACH_MS]
    told += [e.kind for e in scenario.event if e.bus == meter.bus and _spans(house, e, begin, end)]
    told += [e.kind for e in scenario.event if e.gateway == meter.group.gateway and _spans(house, e, begin, end)]
    if told:
        return f"event {', '.join(dict.fromkeys(told))}"
    return ""


def _true_all_the_same(house: VirtualHouse, meter: SimMeter, row: Mapping[str, Any]) -> str:
    """Say that a doubtful total is what went through the meter, so that only its size calls for a person."""
    if row["state"] != "doubtful" or row["consumption"] is None:
        return ""
    truth = true_consumption(house, meter, int(row["opening_at"]), int(row["closing_at"]))
    return "equal to the truth, for a person to look at" if truth == row["consumption"] else ""


def _spans(house: VirtualHouse, event: Any, begin: int, end: int) -> bool:
    since, until = house.scenario.span(event)
    return since < end and until > begin - _REACH_MS


def _said(truth: int | None) -> str:
    return "and the register does not say what went through" if truth is None else f"true {from_micro(truth)}"
