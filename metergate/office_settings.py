"""Settings of the office service."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from metering.settings import SettingsModel


class OfficeSettings(SettingsModel):
    """The office: manual, imported and adopted readings on their way from the registry to ingest."""

    outbox: Path = Field(
        Path("var/office/outbox.db"),
        description="File of the office's outbox; the registry's table of the office can fill it again.",
    )
    poll_s: float = Field(
        1.0, description="Seconds between two looks into the registry for new rows, 0.1 to 60.", ge=0.1, le=60
    )
    batch_rows: int = Field(
        2000, description="Rows taken over from the registry in one transaction, 1 to 20000.", ge=1, le=20_000
    )
