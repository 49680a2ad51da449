"""Settings of alarms: priorities, ends, rates."""

from __future__ import annotations

from functools import cached_property
from typing import Final, get_args

from pydantic import Field, field_validator, model_validator

from metering.settings import SettingsModel, nearest
from registry.findings_words import Priority

_WORDS: Final = get_args(Priority)


class AlarmSettings(SettingsModel):
    """Alarms: which priority a finding gets, how long it may be put aside, and what counts as a flood."""

    priority_info: Priority = Field(
        "none",
        description="Priority of findings of severity info; none makes them events that nobody must acknowledge.",
    )
    priority_minor: Priority = Field("low", description="Priority of findings of severity minor.")
    priority_major: Priority = Field("high", description="Priority of findings of severity major.")
    priority_critical: Priority = Field("urgent", description="Priority of findings of severity critical.")
    priorities_by_kind: list[str] = Field(
        ["comms_loss=medium", "stuck=medium"],
        description="Kinds of findings with a priority of their own, whatever their severity, as kind=priority.",
    )
    shelve_max_h: float = Field(
        72.0, gt=0, le=24 * 366, description="Longest time [h] for which an alarm may be shelved 搁置 at once."
    )
    out_of_service_max_h: float = Field(
        24.0 * 31,
        gt=0,
        le=24 * 366,
        description="Longest time [h] for which an alarm may be taken out of service 停用 at once, and of a "
        "maintenance window.",
    )
    rate_manageable: int = Field(
        1, ge=1, le=10_000, description="New alarms in 10 minutes that one operator can manage (EEMUA 191, ISA-18.2)."
    )
    flood_begins: int = Field(
        10, ge=2, le=100_000, description="New alarms in 10 minutes with which a flood of alarms begins (ISA-18.2)."
    )
    flood_ends: int = Field(
        5, ge=1, le=100_000, description="New alarms in 10 minutes below which a flood of alarms is over (ISA-18.2)."
    )

    most_flagged_share: float = Field(
        0.2,
        ge=0,
        le=1,
        description="Share of all meters that may have an open alarm after a change of thresholds, by its back-test; "
        "above it whoever confirms the change must say the number.",
    )

    @field_validator("priorities_by_kind")
    @classmethod
    def _pairs(cls, pairs: list[str]) -> list[str]:
        for pair in pairs:
            kind, sign, priority = pair.partition("=")
            if not kind or not sign:
                raise ValueError(f"{pair!r}: write kind=priority, for example leak=urgent")
            if priority not in _WORDS:
                raise ValueError(f"{pair!r}: allowed: {', '.join(_WORDS)}; {nearest(priority, list(_WORDS))}")
        return pairs

    @model_validator(mode="after")
    def _in_order(self) -> AlarmSettings:
        if self.flood_ends > self.flood_begins:
            raise ValueError("flood_ends must not be above flood_begins")
        return self

    @cached_property
    def _by_kind(self) -> dict[str, str]:
        return dict(pair.split("=", 1) for pair in self.priorities_by_kind)

    def priority(self, kind: str, severity: str) -> str:
        """Return the priority of a finding. Raises: KeyError for an unknown severity."""
        by_severity = {
            "info": self.priority_info,
            "minor": self.priority_minor,
            "major": self.priority_major,
            "critical": self.priority_critical,
        }
        return self._by_kind.get(kind, by_severity[severity])
