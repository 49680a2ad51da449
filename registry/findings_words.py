"""What rules say of a finding, and what a change of one is told as."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final, Literal

KEY_LENGTH: Final = 160
OUTAGE: Final = "info_outage"
"""Kind of the parents: gateways, buses and districts that are out as a whole."""
Severity = Literal["info", "minor", "major", "critical"]
Priority = Literal["none", "low", "medium", "high", "urgent"]
SEVERITIES: Final = ("info", "minor", "major", "critical")
PRIORITIES: Final = ("none", "low", "medium", "high", "urgent")
Sort = Literal[
    "opened",
    "updated",
    "cleared",
    "reopened",
    "withdrawn",
    "suppressed",
    "released",
    "acknowledged",
    "commented",
    "shelved",
    "unshelved",
    "out_of_service",
    "returned",
]


@dataclass(frozen=True, slots=True)
class FindingFacts:
    """What the rules say now; idempotent: the same facts twice change nothing. Times [ms UTC].

    key: stable name of the finding, at most 160 characters. severity: info, minor, major or critical. evidence: JSON
    types only. parent_key: key of the outage that explains it; while that and its own condition last it is DSUPR.
    updated_at: when the rules last changed their mind; older facts than those recorded never bring back what is over,
    so that a service that starts again may repeat its past. cleared_at, withdrawn_at: None while that is not so.
    """

    key: str
    usage_point: str
    meter: str
    kind: str
    rule: str
    rule_version: str
    severity: str
    started_at: int
    detected_at: int
    updated_at: int
    cleared_at: int | None
    withdrawn_at: int | None
    withdrawn_why: str
    repeats: int
    evidence: dict[str, Any]
    thresholds_version: str
    gateway: str = ""
    bus: str = ""
    district: str = ""
    parent_key: str = ""


@dataclass(frozen=True, slots=True)
class Change:
    """What became of one finding. old_state: "" when it is new. at: [ms UTC].

    An `opened` one may be DSUPR or OOSRV from the start: whoever notifies looks at new_state. people: those who had
    acknowledged, commented or shelved it before it was withdrawn, in order; empty for other sorts.
    """

    finding_id: int
    key: str
    sort: Sort
    old_state: str
    new_state: str
    at: int
    kind: str
    severity: str
    priority: str
    usage_point: str = ""
    meter: str = ""
    gateway: str = ""
    district: str = ""
    note: str = ""
    people: tuple[str, ...] = field(default=())
