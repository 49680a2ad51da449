"""Settings of the room `ingest`; composition with broker and registry is the front door's."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from metering.admission import TimeLimits
from metering.messages import PARTS
from metering.settings import SettingsModel

_DAY_MS = 86_400_000


class StoreSettings(SettingsModel):
    """Where readings are kept."""

    kind: Literal["sqlite"] = Field(
        "sqlite", description="Kind of the reading store: sqlite is one file on this host."
    )
    path: Path = Field(
        Path("var/readings.db"), description="File of the sqlite store; exactly one ingest process writes it."
    )


class IngestSettings(SettingsModel):
    """How messages of gateways become readings in the store."""

    instance: str = Field(
        "ingest-1",
        description="Name of this ingest process at the broker and in metrics; two processes never share one.",
        min_length=1,
        max_length=48,
        pattern=r"^[A-Za-z0-9._-]+$",
    )
    parts: tuple[Annotated[int, Field(ge=0, lt=PARTS)], ...] = Field(
        (), description="Parts of the city (0 to 63) that this process works on; an empty list means all."
    )
    batch_messages: int = Field(
        50,
        description="Messages that are checked, stored and acknowledged together at most, 1 to 1000.",
        ge=1,
        le=1000,
    )
    max_message_kb: int = Field(
        128,
        description="Largest message that is looked into [KiB], 64 to 1024; larger ones are refused.",
        ge=64,
        le=1024,
    )
    max_ahead_s: int = Field(
        300,
        description="Seconds that a reading's time may lie in the future, 1 to 3600; beyond is quarantine.",
        ge=1,
        le=3600,
    )
    doubt_ahead_s: int = Field(
        60, description="Seconds in the future from which a reading is kept as suspect, 0 to 3600.", ge=0, le=3600
    )
    max_age_days: int = Field(
        400,
        description="Days that a reading may be old when it arrives, 1 to 3660; beyond is quarantine.",
        ge=1,
        le=3660,
    )
    estimates: Literal["refuse", "keep"] = Field(
        "refuse",
        description="What happens to readings marked as estimates: refuse quarantines them, keep stores them.",
    )
    flush_s: float = Field(
        1.0, description="Seconds between two writes of latest readings and daily closings, 0.1 to 60.", ge=0.1, le=60
    )
    report_s: float = Field(
        2.0,
        description="Seconds between two reports of counters and health to the registry, 0.5 to 60.",
        ge=0.5,
        le=60,
    )
    reload_s: float = Field(
        30.0,
        description="Seconds between two looks at the registry for new and moved meters, 1 to 3600.",
        ge=1,
        le=3600,
    )

    def limits(self) -> TimeLimits:
        """Return what `metering.admission` needs."""
        return TimeLimits(
            behind_ms=self.max_age_days * _DAY_MS,
            ahead_ms=self.max_ahead_s * 1000,
            doubt_ahead_ms=min(self.doubt_ahead_s, self.max_ahead_s) * 1000,
        )
