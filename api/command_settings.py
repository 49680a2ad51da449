"""Settings of the office's side of commands: the signing key, and the monthly set-clock."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field

from metering.settings import SettingsModel

DayOfMonth = Annotated[int, Field(ge=1, le=28)]


class CommandSettings(SettingsModel):
    """How the office speaks to its gateways: signed commands and plans."""

    signing_key: Path = Field(
        Path("var/commands/signing.key"),
        description="File with the office's private key, made at the first use; the .pub beside it is for gateways.",
    )
    command_deadline_s: int = Field(
        300, ge=10, le=86_400, description="Seconds after which a command is not begun any more, 10 to 86400."
    )
    dispatch_interval_s: float = Field(
        0.5, ge=0.05, le=60, description="Seconds between two looks for commands to send and results, 0.05 to 60."
    )
    set_clock_days: tuple[DayOfMonth, ...] = Field(
        (),
        description="Days of the month (1 to 28) on which each gateway's meters are set once, such as [18, 19].",
    )
    set_clock_hour: int = Field(
        2, ge=0, le=23, description="Hour from which that is done, in the time zone below, 0 to 23."
    )
    set_clock_spread_h: int = Field(3, ge=1, le=23, description="Hours over which the gateways are spread, 1 to 23.")
    set_clock_tz: str = Field("Asia/Shanghai", description="Time zone of days and hour, such as Asia/Shanghai.")
