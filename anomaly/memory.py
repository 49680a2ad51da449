"""Findings on their way into the registry and back: their stable key, what is recorded, and what the rules remember.

The registry's `finding` is what people see; `watch_finding` is what the rules need to hold, repeat or withdraw one
after a restart (until when it held, which slot it speaks of). Both are written in one transaction.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, Final

from anomaly.days import DAY_S
from anomaly.engine import Engine
from anomaly.findings import RULES, Finding
from anomaly.stored import Places
from registry.findings_words import KEY_LENGTH, FindingFacts

MARGIN_S: Final = 2 * DAY_S
"""[s] for which a finding is remembered beyond the time within which a repeat is the same finding."""
LATE_DATA: Final = "late readings disproved it"


def key_of(finding: Finding) -> str:
    """Name a finding. A service that starts again and finds the same thing at the same moment names it the same."""
    name = f"{finding.meter_id}:{finding.kind}:{finding.rule}:{finding.at_s}:{finding.detected_s}"
    return name[-KEY_LENGTH:]


def facts_of(
    finding: Finding, changed_s: int, *, usage_point: str, wiring: Mapping[str, str], parent_key: str = ""
) -> FindingFacts:
    """Return what is recorded. wiring: gateway, bus and district of the meter."""
    evidence = dict(finding.evidence)
    version, thresholds = evidence.pop("rule_version", RULES[finding.rule].version), evidence.pop("thresholds", "")
    return FindingFacts(
        key=key_of(finding),
        usage_point=usage_point,
        meter=finding.meter_id,
        kind=finding.kind,
        rule=finding.rule,
        rule_version=str(version),
        severity=finding.severity,
        started_at=finding.started_s * 1000,
        detected_at=finding.detected_s * 1000,
        updated_at=changed_s * 1000,
        cleared_at=_ms(finding.cleared_s),
        withdrawn_at=_ms(finding.withdrawn_s),
        withdrawn_why=LATE_DATA if finding.withdrawn_s is not None else "",
        repeats=finding.repeats,
        evidence={name: value for name, value in evidence.items() if _sayable(value)},
        thresholds_version=str(thresholds),
        gateway=wiring.get("gateway", ""),
        bus=wiring.get("bus", ""),
        district=wiring.get("district", ""),
        parent_key=parent_key,
    )


def _ms(seconds: int | None) -> int | None:
    return None if seconds is None else seconds * 1000


def _sayable(value: Any) -> bool:
    return not isinstance(value, float) or math.isfinite(value)


# --- what the rules remember --------------------------------------------------------------------------------------


def body_of(engine: Engine, finding: Finding) -> dict[str, Any]:
    """Everything of a finding, its slot as a time: slots are counted from a moment that a restart moves."""
    state = finding.state() | {"slot_at": None}
    if finding.slot >= 0 and finding.rule != "clock":
        grid = engine.shards[int(engine.register.home[finding.row])].grid
        state["slot_at"] = int(grid.time_of(finding.slot))
    return state


def finding_from(engine: Engine, places: Places, body: Mapping[str, Any]) -> Finding | None:
    """Return a finding in a new engine, None when its meter is not ours any more."""
    state = dict(body)
    slot_at = state.pop("slot_at")
    row = engine.meters.rows.get(str(state["meter_id"]))
    if row is None:
        stays = places.stays.get(str(state["meter_id"]))
        row = stays[-1][2] if stays else None
    if row is None or state["rule"] not in RULES:
        return None
    state["row"] = row
    if slot_at is not None:
        shape = engine.shards[int(engine.register.home[row])].grid.shape
        state["slot"] = (int(slot_at) - shape.origin_s) // shape.slot_s
    return Finding(**state)


class Saved:
    """Which findings are remembered in the registry, and as what. repeat_s: [s] a repeat is the same finding."""

    def __init__(self, repeat_s: int = 7 * DAY_S) -> None:
        self._forget_s = repeat_s + MARGIN_S
        self._last: dict[str, tuple[Any, ...]] = {}
        self._ended: dict[str, int] = {}

    def known(self, findings: Iterable[Finding]) -> None:
        """These were just loaded."""
        for finding in findings:
            self._note(key_of(finding), finding)

    def news(self, findings: Iterable[Finding]) -> dict[str, Finding]:
        """Return those whose memory changed."""
        out = {}
        for finding in findings:
            if finding.row >= 0 and self._last.get(key := key_of(finding)) != _sign(finding):
                out[key] = finding
        return out

    def saved(self, news: Mapping[str, Finding]) -> None:
        for key, finding in news.items():
            self._note(key, finding)

    def stale(self, now_s: int) -> list[str]:
        """Return keys of findings that ended so long ago that nothing can come back to them, and forget them."""
        gone = [key for key, ended in self._ended.items() if ended < now_s - self._forget_s]
        for key in gone:
            del self._ended[key], self._last[key]
        return gone

    def _note(self, key: str, finding: Finding) -> None:
        self._last[key] = _sign(finding)
        self._ended.pop(key, None)
        if not finding.open:
            self._ended[key] = max(finding.cleared_s or 0, finding.withdrawn_s or 0, finding.held_s)


def _sign(finding: Finding) -> tuple[Any, ...]:
    return finding.held_s, finding.cleared_s, finding.withdrawn_s, finding.repeats, finding.slot
