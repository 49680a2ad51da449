"""Settings of work orders: the policy, the calendar, and how many may open by themselves."""

from __future__ import annotations

from datetime import date
from pathlib import Path

from pydantic import Field

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

    def calendar(self) -> WorkCalendar:
        """Return the working days. Raises: ValueError for a date that is given as worked and as off."""
        return WorkCalendar(worked=self.extra_worked, off=self.extra_off)
