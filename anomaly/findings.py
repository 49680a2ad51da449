"""Findings and their life: opened, updated, cleared, withdrawn; one per cause, repeats within a week are one."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from metering.clock import rfc3339


@dataclass(frozen=True, slots=True)
class RuleInfo:
    """What the engine must know of a rule.

    kind: word in files, API and scorer. severity: of its findings. clear_h: [h] it must stay quiet before an open
    finding is cleared. suppressed_by: kinds whose open finding explains this one. event: opened and cleared at once.
    version: raised when the rule's meaning changes. memory_h: [h] how far back the rule looks, so that it may still
    hold so long after the cause was mended.
    """

    rule: str
    kind: str
    severity: str
    clear_h: float = 48.0
    suppressed_by: frozenset[str] = frozenset()
    event: bool = False
    version: str = "1"
    memory_h: float = 60 * 24


def _rules(*items: RuleInfo) -> dict[str, RuleInfo]:
    return {item.rule: item for item in items}


_BROKEN: Final = frozenset({"unit_error", "unauthorised"})
_AT_REST: Final = frozenset({"zero_use", "stuck"})
_DAYS: Final = 48.0
"""[h] memory of rules that judge one day: the one on which the cause was mended, and its end."""

RULES: Final = _rules(
    RuleInfo("burst", "leak", "critical", 12, memory_h=_DAYS),
    RuleInfo("leak_continuous", "leak", "major", 36, frozenset({"unit_error", "leak_intermittent"}), memory_h=_DAYS),
    RuleInfo("leak_floor", "leak", "major", 72, _BROKEN | {"leak_intermittent", "high_use"}),
    RuleInfo("leak_daily", "leak", "major", 72, _BROKEN | {"leak_intermittent", "high_use"}),
    RuleInfo("micro_leak", "leak", "minor", 48, _BROKEN | {"leak_intermittent"}, memory_h=_DAYS),
    RuleInfo("leak_intermittent", "leak_intermittent", "minor", 120, _BROKEN | {"leak", "high_use"}),
    RuleInfo(
        "zero_use", "zero_use", "minor", 24, frozenset({"stuck", "unauthorised", "reverse_flow"}), memory_h=_DAYS
    ),
    RuleInfo("long_zero", "info_long_zero", "info", 24, _AT_REST),
    RuleInfo("stuck", "stuck", "major", 24, frozenset({"zero_use", "reverse_flow"}), memory_h=_DAYS),
    RuleInfo("reverse_flow", "reverse_flow", "major", 168, frozenset({"unit_error"}), memory_h=120),
    RuleInfo("high_use", "high_use", "minor", 96, _BROKEN | {"leak", "spike"}),
    RuleInfo("month_over_limit", "high_use", "minor", 240, _BROKEN | {"leak"}),
    RuleInfo("month_over_first", "info_month_over", "info", 240, _BROKEN | {"leak", "high_use"}),
    RuleInfo("over_range", "info_over_range", "minor", 48, frozenset({"unit_error", "leak"})),
    RuleInfo("tamper_drop", "tamper", "major", 120, _BROKEN | _AT_REST | {"reverse_flow"}),
    RuleInfo("tamper_flags", "tamper", "critical", 72, memory_h=96),
    RuleInfo("drift", "drift", "minor", 240, _BROKEN | _AT_REST | {"reverse_flow", "leak", "tamper", "high_use"}),
    RuleInfo("unauthorised", "unauthorised", "critical", 168, memory_h=72),
    RuleInfo("unit_error", "unit_error", "major", event=True),
    RuleInfo("spike", "spike", "minor", event=True),
    RuleInfo("comms_loss", "comms_loss", "major", 1, frozenset({"info_outage"}), memory_h=_DAYS),
    RuleInfo("outage", "info_outage", "major", 1),
    RuleInfo("rollover", "info_rollover", "info", event=True),
    RuleInfo("exchange", "info_exchange", "info", event=True),
    RuleInfo("low_battery", "info_low_battery", "info", 72),
    RuleInfo("valve", "info_valve", "info", 24),
    RuleInfo("clock", "info_clock", "info", event=True),
    RuleInfo("supply_balance", "info_supply_balance", "minor", 72),
)


@dataclass(slots=True)
class Finding:
    """One cause at one usage point. Times: [s since 1970]. row: number of the meter in the fleet.

    at_s: event time at which the rule was first met; held_s: last event time at which it still was. slot: of an
    event, or the last one read before a silence.
    """

    row: int
    meter_id: str
    kind: str
    rule: str
    severity: str
    started_s: int
    detected_s: int
    at_s: int
    held_s: int
    cleared_s: int | None = None
    withdrawn_s: int | None = None
    slot: int = -1
    repeats: int = 0
    evidence: dict[str, Any] = field(default_factory=dict)

    @property
    def open(self) -> bool:
        return self.cleared_s is None and self.withdrawn_s is None

    def line(self) -> dict[str, Any]:
        """The form of the findings file."""
        return {
            "meter_id": self.meter_id,
            "kind": self.kind,
            "rule": self.rule,
            "started_at": _stamp(self.started_s),
            "detected_at": _stamp(self.detected_s),
            "cleared_at": _stamp(self.cleared_s),
            "withdrawn_at": _stamp(self.withdrawn_s),
            "severity": self.severity,
            "evidence": {**self.evidence, **({"repeats": self.repeats} if self.repeats else {})},
        }

    def state(self) -> dict[str, Any]:
        """Everything, for a store; `Finding(**state)` is the way back."""
        return asdict(self)


def _stamp(seconds: int | None) -> str | None:
    return None if seconds is None else rfc3339(seconds * 1000).replace(".000Z", "Z")


class Book:
    """All findings of a fleet; at most one open per usage point and kind."""

    def __init__(self, version_at: Callable[[int], str], *, repeat_s: int, spike_repeat_s: int) -> None:
        """version_at: of the thresholds that judge an event time [s since 1970]."""
        self.version_at, self.repeat_s, self.spike_repeat_s = version_at, repeat_s, spike_repeat_s
        self.findings: list[Finding] = []
        self._open: dict[tuple[int, str], Finding] = {}
        self._last: dict[tuple[int, str], Finding] = {}
        self.by_rule: dict[str, dict[int, Finding]] = {rule: {} for rule in RULES}
        """Open findings of a rule by meter row."""
        self.changed: list[Finding] = []
        """Findings that were touched since the reader emptied this list."""

    def load(self, findings: list[Finding]) -> None:
        """Take over findings of an earlier run (restart)."""
        for finding in findings:
            self._enter(finding)

    def _enter(self, finding: Finding) -> None:
        self.findings.append(finding)
        if finding.withdrawn_s is None:
            self._last[finding.row, finding.kind] = finding
        if finding.open:
            self._open[finding.row, finding.kind] = finding
            self.by_rule[finding.rule][finding.row] = finding

    def explained(self, row: int, info: RuleInfo) -> bool:
        """True when an open finding of another kind is the cause."""
        return any((row, kind) in self._open for kind in info.suppressed_by)

    def recent(self, rule: str, row: int, at_s: int) -> bool:
        """True when another event of the rule's kind at `at_s` would be a repeat."""
        last = self._last.get((row, RULES[rule].kind))
        return last is not None and at_s - last.held_s <= self.spike_repeat_s

    def raise_(
        self,
        info: RuleInfo,
        row: int,
        meter_id: str,
        *,
        started_s: int,
        at_s: int,
        now_s: int,
        evidence: dict[str, Any],
        slot: int = -1,
    ) -> Finding | None:
        """Open, update or repeat. Return the finding, None when another cause explains it."""
        finding = self._open.get((row, info.kind))
        if finding is not None:
            finding.held_s = max(finding.held_s, at_s)
            return finding
        if self.explained(row, info):
            return None
        proof = {**evidence, "thresholds": self.version_at(at_s), "rule_version": info.version}
        last = self._last.get((row, info.kind))
        limit = self.spike_repeat_s if info.event else self.repeat_s
        if last is not None and last.withdrawn_s is None and at_s - last.held_s <= limit:
            if info.event and last.slot == slot:
                return last
            last.repeats, last.held_s, last.cleared_s = last.repeats + 1, max(last.held_s, at_s), None
            finding = last
            if info.event:
                last.cleared_s = now_s
            else:
                self._open[row, info.kind] = last
                self.by_rule[last.rule][row] = last
        else:
            finding = Finding(
                row,
                meter_id,
                info.kind,
                info.rule,
                info.severity,
                started_s,
                now_s,
                at_s,
                at_s,
                evidence=proof,
                slot=slot,
            )
            if info.event:
                finding.cleared_s = now_s
            self._enter(finding)
        self.changed.append(finding)
        return finding

    def clear(self, finding: Finding, now_s: int) -> None:
        """The situation is over."""
        finding.cleared_s = now_s
        self._close(finding)

    def withdraw(self, finding: Finding, now_s: int) -> None:
        """Late data disproved it; it stays in the file with the time of withdrawal."""
        finding.withdrawn_s = now_s
        if self._last.get((finding.row, finding.kind)) is finding:
            del self._last[finding.row, finding.kind]
        self._close(finding)

    def _close(self, finding: Finding) -> None:
        self._open.pop((finding.row, finding.kind), None)
        self.by_rule[finding.rule].pop(finding.row, None)
        self.changed.append(finding)

    def open_of(self, rule: str) -> Iterator[Finding]:
        """Open findings of a rule (a copy: they may be closed on the way)."""
        yield from list(self.by_rule[rule].values())

    def open_among(self, rows: Container[int]) -> list[Finding]:
        """Open findings of some meters."""
        return [finding for (row, _), finding in self._open.items() if row in rows]

    def events_of(self, kind: str, rows: Iterable[int]) -> list[Finding]:
        """The latest event of a kind at each of some meters, where there is one that stands."""
        return [self._last[row, kind] for row in rows if (row, kind) in self._last]
