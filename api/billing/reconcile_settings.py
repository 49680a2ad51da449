"""Settings of reconciliation: how far two counts of the same volume may lie apart."""

from __future__ import annotations

from pydantic import Field, field_validator, model_validator

from api.orders.deadlines import Deadline
from metering.quantities import to_micro
from metering.settings import SettingsModel
from registry.supply import limit_of


class ReconcileSettings(SettingsModel):
    """How far purchases, SCADA totals and sums of meters may lie from what the meters counted."""

    prepaid_tolerance_m3: float = Field(
        1.0,
        ge=0,
        le=1000,
        description="Volume [m³] by which bought may differ from used plus left at a prepaid meter, 0 to 1000.",
    )
    prepaid_tolerance_percent: float = Field(
        0.5, ge=0, le=100, description="The same as a share of what was used [%]; the larger of the two counts."
    )
    load_days: int = Field(
        14,
        ge=0,
        le=400,
        description="Days that a customer may take to load a purchase into the meter, 0 to 400; until then it may be "
        "neither used nor left.",
    )
    most_orders: int = Field(
        50,
        ge=0,
        le=100_000,
        description="Most meter exchanges that one reconciliation asks for; when more meters disagree none is asked "
        "for, because a file of purchases is more likely short than so many meters broken.",
    )
    exchange_respond: str = Field(
        "6 h", description="Promise by when the exchange of a prepaid meter that disagrees has begun."
    )
    exchange_deadline: str = Field("24 h", description="Promise by when it is finished.")
    scada_shown_percent: float = Field(
        2.0, ge=0, le=100, description="Deviation [%] from SCADA above which an industrial customer is shown."
    )
    scada_look_percent: float = Field(
        5.0, ge=0, le=100, description="Deviation [%] from SCADA above which somebody must look."
    )
    scada_floor_m3: float = Field(
        1.0, ge=0, le=100_000, description="Difference [m³ or kWh] below which a deviation from SCADA never counts."
    )
    scada_index_min: int = Field(
        60,
        ge=0,
        le=1440,
        description="Minutes that an index may be older than the end of the SCADA day it is compared at, 0 to 1440.",
    )
    scada_covered_percent: float = Field(
        90.0,
        ge=0,
        le=100,
        description="Share of the period [%] that both sides must cover; below it nothing is concluded.",
    )
    accuracy: tuple[str, ...] = Field(
        ("gas 1.5", "water 2", "electricity 1", "heat 3"),
        description="Limit of error [%] of meters by medium where no supply link names a class; each a text such as "
        '"gas 1.5".',
    )

    @field_validator("accuracy")
    @classmethod
    def _readable(cls, texts: tuple[str, ...]) -> tuple[str, ...]:
        for text in texts:
            _accuracy(text)
        return texts

    @field_validator("exchange_respond", "exchange_deadline")
    @classmethod
    def _promise(cls, text: str) -> str:
        Deadline.parse(text)
        return text

    @model_validator(mode="after")
    def _ordered(self) -> ReconcileSettings:
        if self.scada_look_percent < self.scada_shown_percent:
            raise ValueError("scada_look_percent must not be below scada_shown_percent")
        return self

    def limit(self, medium: str, accuracy_class: str) -> int:
        """Return a meter's limit of error [10⁻⁶ %]: of its class, else the medium's usual one, else 2 %."""
        own = limit_of(accuracy_class)
        return dict(map(_accuracy, self.accuracy)).get(medium, 2_000_000) if own is None else own


def _accuracy(text: str) -> tuple[str, int]:
    medium, _, number = text.partition(" ")
    limit = limit_of(number.strip()) if number.strip() else None
    if limit is None or medium not in ("gas", "water", "electricity", "heat"):
        raise ValueError(f'"{text}": write a medium and a limit of error in %, such as gas 1.5')
    return medium, limit


def micro_of(number: float) -> int:
    """Return a setting in 10⁻⁶ of its unit, exactly as it was written."""
    return to_micro(repr(number))
