"""Settings of work orders: the policy, the calendar, and how many may open by themselves."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import Field, field_validator, model_validator

from api.orders.follow_up import Share
from api.orders.inspections import Cycle
from api.orders.working_days import WorkCalendar
from metering.settings import SettingsModel


class OrderSettings(SettingsModel):
    """Which findings open work orders, and by when somebody must have been there."""

    policy: Path | None = Field(
        None, description="File with the policy (finding to work order); the one that ships when left out."
    )
    extra_worked: tuple[date, ...] = Field(
        (), description="Local dates that are worked although the Chinese calendar says otherwise."
    )
    extra_off: tuple[date, ...] = Field(
        (), description="Local dates that are off although the Chinese calendar says otherwise."
    )
    max_per_hour: int = Field(
        20,
        ge=1,
        le=100_000,
        description="Most orders that open by themselves in one district and hour; further ones wait. Urgent ones, "
        "and those for whole gateways or districts, do not count and never wait.",
    )
    sweep_interval_s: float = Field(
        1.0, gt=0, le=3600, description="Time between two looks for findings that want an order [s]."
    )

    warn_before_h: float = Field(
        4.0,
        ge=0,
        le=240,
        description="How long before a promise ends dispatchers are told [h]; at most the last quarter of it.",
    )
    follow_up_share: float = Field(
        0.1,
        ge=0,
        le=1,
        description="Share of finished orders that are called back (0 to 1); leaks and paid repairs all are.",
    )
    follow_up_first_day: int = Field(
        3, ge=1, le=60, description="First day for a follow-up call, after completion [d]."
    )
    follow_up_last_day: int = Field(
        5, ge=1, le=60, description="Last day for a follow-up call, after completion [d]."
    )
    follow_up_seed: int = Field(0, description="Seed of the draw; the same books and seed draw the same calls.")
    inspections: Literal["planned", "off"] = Field(
        "planned", description="Whether safety inspections 安检 of gas places are planned and opened by themselves."
    )
    inspections_residential_years: int = Field(
        2, ge=1, le=10, description="Years between two safety inspections of a residential place."
    )
    inspections_other_years: int = Field(
        1, ge=1, le=10, description="Years between two safety inspections of any other place."
    )
    tz: str = Field("Asia/Shanghai", description="Time zone in which days of plans and calls begin.")

    @field_validator("tz")
    @classmethod
    def _known_zone(cls, name: str) -> str:
        try:
            ZoneInfo(name)
        except (ZoneInfoNotFoundError, ValueError):
            raise ValueError('must be a time zone such as "Asia/Shanghai"') from None
        return name

    @model_validator(mode="after")
    def _fits(self) -> OrderSettings:
        if self.follow_up_first_day > self.follow_up_last_day:
            raise ValueError("follow_up_first_day must not lie behind follow_up_last_day")
        self.calendar()
        return self

    def share(self) -> Share:
        """Return how much is called back, and when."""
        return Share(self.follow_up_share, self.follow_up_first_day, self.follow_up_last_day, self.follow_up_seed)

    def cycle(self) -> Cycle:
        """Return how often places are inspected."""
        return Cycle(self.inspections_residential_years, self.inspections_other_years)

    def calendar(self) -> WorkCalendar:
        """Return the working days. Raises: ValueError for a date that is given as worked and as off."""
        return WorkCalendar(worked=self.extra_worked, off=self.extra_off)
