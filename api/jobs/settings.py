"""Settings of background jobs."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from metering.settings import SettingsModel


class JobSettings(SettingsModel):
    """Long work of the API (back-tests, exports, imports): where results lie, how many at once, how long kept."""

    folder: Path = Field(Path("var/jobs"), description="Folder of the results that wait to be downloaded.")
    at_once: int = Field(
        1, description="Jobs that one API process does at the same time, each in a process of its own, 1 to 16.",
        ge=1, le=16,
    )  # fmt: skip
    waiting_per_caller: int = Field(
        20, description="Jobs that one caller may have waiting or running, 1 to 1000.", ge=1, le=1000
    )
    longest_h: float = Field(
        12.0, description="Hours after which a running job is ended, above 0 to 240.", gt=0, le=240
    )
    keep_h: float = Field(72.0, description="Hours for which a result is kept, above 0 to 8760.", gt=0, le=8760)
    poll_s: float = Field(
        1.0, description="Seconds between two looks for jobs of other API processes, 0.05 to 60.", ge=0.05, le=60
    )
    lease_s: float = Field(
        60.0,
        description="Seconds without a sign of life after which a job counts as interrupted, 5 to 3600.",
        ge=5,
        le=3600,
    )
