"""Settings of the room `ingest`; composition with broker and registry is the front door's."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, SecretStr

from metering.admission import TimeLimits
from metering.messages import PARTS
from metering.settings import SettingsModel

_DAY_MS = 86_400_000


class InfluxSettings(SettingsModel):
    """The InfluxDB that keeps the readings when store.kind is influxdb; docs/stores.md says which were tried."""

    url: str = Field(
        "http://127.0.0.1:8086",
        description="Address of the server, http or https.",
        pattern=r"^https?://[^\s/?#]+[^\s?#]*$",
    )
    wire: Literal["v1", "v2"] = Field(
        "v1", description="How lines are written: v1 is /write (1.x and later), v2 is /api/v2/write (1.8, 2.x and 3)."
    )
    database: str = Field(
        "metergate", description="Database of the v1 wire.", min_length=1, max_length=64, pattern=r"^[A-Za-z0-9_.-]+$"
    )
    retention_policy: str = Field(
        "",
        description="Retention policy of the v1 wire; empty means the database's default one.",
        max_length=64,
        pattern=r"^[A-Za-z0-9_.-]*$",
    )
    bucket: str = Field(
        "metergate",
        description="Bucket of the v2 wire; readings are asked for by InfluxQL under the same name as a database.",
        min_length=1,
        max_length=64,
        pattern=r"^[A-Za-z0-9_./-]+$",
    )
    org: str = Field("", description="Organisation of the v2 wire; empty where the server has none.", max_length=64)
    token: SecretStr = Field(SecretStr(""), description="Token; the v2 wire needs one, better given by token_file.")
    username: str = Field("", description="User name of the v1 wire when no token is given; empty goes without one.")
    password: SecretStr = Field(SecretStr(""), description="Password of that user; better given by password_file.")
    retention_days: int = Field(
        0,
        description="Days that readings are kept, 0 to 36500; 0 is for ever. Used when we create the database or "
        "bucket; an existing one is never changed.",
        ge=0,
        le=36_500,
    )
    timeout_s: float = Field(
        10.0, description="Seconds to wait for an answer before trying again, 0.5 to 120.", ge=0.5, le=120
    )
    connections: int = Field(2, description="Posts on their way at the same time, 1 to 8.", ge=1, le=8)
    read_back_s: float = Field(
        1.0,
        description="Seconds between two looks whether rows just written are there, 0 to 3600; 0 looks after every "
        "write. Some servers say yes and drop.",
        ge=0,
        le=3600,
    )
    read_back_rows: int = Field(
        3, description="Rows that one such look asks for, 0 to 100; 0 never looks.", ge=0, le=100
    )


class StoreSettings(SettingsModel):
    """Where readings are kept."""

    kind: Literal["sqlite", "influxdb"] = Field(
        "sqlite", description="Kind of the reading store: sqlite is one file on this host, influxdb a server."
    )
    path: Path = Field(
        Path("var/readings.db"), description="File of the sqlite store; exactly one ingest process writes it."
    )
    influxdb: InfluxSettings = InfluxSettings()


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
    sharing: Literal["settings", "lease"] = Field(
        "settings",
        description="Who decides on the parts: settings works on `parts` alone; lease shares all 64 with every other "
        "live ingest process through the registry, and moves those of a dead one.",
    )
    lease_s: float = Field(
        10.0,
        description="Seconds after which the parts of an ingest process without a sign of life move on, 1 to 300.",
        ge=1,
        le=300,
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
    office_age_days: int = Field(
        3660,
        description="Days that a manual, imported or adopted reading of the office may be old, 1 to 36500.",
        ge=1,
        le=36_500,
    )
    estimates: Literal["refuse", "keep"] = Field(
        "refuse",
        description="What happens to readings marked as estimates: refuse quarantines them, keep stores them.",
    )
    flush_s: float = Field(
        0.5,
        description="Seconds between two writes of latest readings and daily closings, 0.1 to 3600.",
        ge=0.1,
        le=3600,
    )
    report_s: float = Field(
        2.0,
        description="Seconds between two reports of counters and health to the registry, 0.5 to 3600.",
        ge=0.5,
        le=3600,
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
            office_behind_ms=self.office_age_days * _DAY_MS,
            ahead_ms=self.max_ahead_s * 1000,
            doubt_ahead_ms=min(self.doubt_ahead_s, self.max_ahead_s) * 1000,
        )
