"""Settings of the tap that records raw frames."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from metering.settings import SettingsModel


class TapSettings(SettingsModel):
    """Recording of raw frames; see docs/recordings.md."""

    on: bool = Field(False, description="Whether this gateway records from its start on, true or false.")
    buses: tuple[str, ...] = Field((), description="Names of the buses that are recorded then; all when empty.")
    meters: tuple[str, ...] = Field((), description="Ids of the meters that are recorded then; all when empty.")
    topics: bool = Field(True, description="Whether messages of the field broker are recorded too, true or false.")
    folder: Path = Field(
        Path("tap"), description="Folder for recordings, however they were begun; relative to the outbox's folder."
    )
    file_mb: float = Field(
        16.0, description="Megabytes after which the next file is begun, 0.001 to 1024.", ge=0.001, le=1024
    )
    files: int = Field(
        8, description="Recordings kept in the folder, 1 to 1000; the oldest file goes first.", ge=1, le=1000
    )
    queue_lines: int = Field(
        10_000, description="Frames kept in memory for the disk, 10 to 1000000; more are dropped and counted.",
        ge=10, le=1_000_000,
    )  # fmt: skip
