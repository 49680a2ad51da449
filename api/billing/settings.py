"""Settings of billing: tolerances, limits of what a person must look at, and who approves what."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, field_validator

from api.billing.reconcile_settings import ReconcileSettings
from api.billing.rules import Rules
from metering.quantities import to_micro
from metering.settings import SettingsModel

_HOUR_MS = 3_600_000


class BillingSettings(SettingsModel):
    """How monthly totals are made, and which of them a person must look at."""

    tolerance_h: int = Field(
        24,
        ge=0,
        le=31 * 24,
        description="Hours that a boundary index may be older than its boundary, 0 to 744; otherwise it is missing.",
    )
    manual_days: int = Field(
        3,
        ge=0,
        le=31,
        description="Days after the boundary within which a manual reading may close a period and open the next, "
        "0 to 31; in a window of reading days always to its end.",
    )
    estimation: Literal["off", "linear"] = Field(
        "off",
        description="What happens to a missing boundary index: off leaves it missing, linear draws it between its "
        "neighbours and marks the total everywhere.",
    )
    lookback_days: int = Field(
        35,
        ge=1,
        le=400,
        description="Days before a period that are searched for index changes without a recorded exchange, 1 to 400.",
    )
    limits: tuple[str, ...] = Field(
        ("residential gas 50 100", "residential_heating gas 50 100"),
        description="Consumption of a month [m³ or kWh] by class and medium: above the first number it is shown, "
        'above the second it must be read again before it is billed; each one text such as "residential gas 50 100".',
    )
    team_approval: int = Field(
        500,
        ge=0,
        description="Size of a correction [m³ or kWh] above which team lead and department head approve it too, with "
        "a written account.",
    )
    manager_approval: int = Field(
        1000,
        ge=0,
        description="Size of a correction [m³ or kWh] above which finance and deputy manager approve it too.",
    )
    read_rates: tuple[str, ...] = Field(
        (
            "residential gas 98",
            "residential_heating gas 98",
            "restaurant gas 100",
            "commercial gas 100",
            "public gas 100",
            "industrial gas 100",
            "any electricity 100",
            "any water 85",
        ),
        description="Read rate [%] of a period that is wanted, by class and medium; a class of its own goes before "
        'any; each one text such as "residential gas 98".',
    )
    block: int = Field(
        1000, ge=100, le=100_000, description="Usage points that are worked on at once, 100 to 100000."
    )

    @field_validator("read_rates")
    @classmethod
    def _rates_readable(cls, rates: tuple[str, ...]) -> tuple[str, ...]:
        for text in rates:
            parse_rate(text)
        return rates

    reconciliation: ReconcileSettings = ReconcileSettings()

    @field_validator("limits")
    @classmethod
    def _readable(cls, limits: tuple[str, ...]) -> tuple[str, ...]:
        for text in limits:
            parse_limit(text)
        return limits

    def rules(self) -> Rules:
        """Return how far an index may lie from its boundary."""
        return Rules(self.tolerance_h * _HOUR_MS, self.manual_days * 24 * _HOUR_MS, self.estimation)

    def rate_of(self, customer_class: str, medium: str) -> int | None:
        """Return the read rate that is wanted [10⁻⁶ %], None where there is none."""
        found = dict(parse_rate(text) for text in self.read_rates)
        return found.get((customer_class, medium), found.get(("any", medium)))

    def limits_of(self) -> dict[tuple[str, str], tuple[int, int]]:
        """Return (class, medium) -> (show above, read again above), [micro] in a month."""
        return dict(parse_limit(text) for text in self.limits)


def parse_limit(text: str) -> tuple[tuple[str, str], tuple[int, int]]:
    """Take one limit apart. Raises: ValueError that says what is allowed."""
    words = text.split()
    try:
        customer_class, medium, show, again = words
        pair = to_micro(show), to_micro(again)
    except ValueError:
        raise ValueError(f'"{text}": write class, medium and two numbers, such as residential gas 50 100') from None
    if not 0 <= pair[0] <= pair[1]:
        raise ValueError(f'"{text}": the second number must not be below the first')
    return (customer_class, medium), pair


def parse_rate(text: str) -> tuple[tuple[str, str], int]:
    """Take one wanted read rate apart [10⁻⁶ %]. Raises: ValueError that says what is allowed."""
    try:
        customer_class, medium, percent = text.split()
        micro = to_micro(percent)
    except ValueError:
        raise ValueError(f'"{text}": write class (or any), medium and a number, such as residential gas 98') from None
    if not 0 <= micro <= to_micro("100"):
        raise ValueError(f'"{text}": a read rate lies between 0 and 100 %')
    return (customer_class, medium), micro
