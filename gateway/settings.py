"""Settings of the room `gateway`; the broker it hands on to is the front door's."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr

from gateway.tap_settings import TapSettings
from metering.mqtt import BrokerSettings
from metering.settings import SettingsModel


class FieldBrokerSettings(BrokerSettings):
    """The broker on which MQTT meters and platforms send; it may be the one that readings are handed on to."""

    password: SecretStr = Field(
        SecretStr(""),
        description="Password at the broker; better given as a file by METERGATE__FIELD_BROKER__PASSWORD_FILE.",
    )
    client_id: str = Field(
        "", description="Our name at the broker, the same for ever; empty takes metergate-GATEWAY.", max_length=64
    )
    session_expiry_s: int = Field(
        604_800,
        description="Seconds for which the broker is asked to keep messages for us while we are away, 0 to 31536000.",
        ge=0,
        le=31_536_000,
    )
    receive_maximum: int = Field(
        100, description="Messages that we have not acknowledged yet, at most, 1 to 5000 (MQTT 5).", ge=1, le=5000
    )


class GatewaySettings(SettingsModel):
    """How meters are polled, how readings are kept on this disk, and how they are handed on."""

    plan: Path = Field(Path("plan.toml"), description="File with the plan: buses, meters, profiles, intervals.")
    profiles: tuple[Path, ...] = Field(
        (), description="Folders with further meter profiles; one of ours is replaced by one of the same id."
    )
    over_dense: Literal["refuse", "run"] = Field(
        "refuse",
        description="What happens to a plan whose serial buses cannot keep its intervals: refuse it, or run it late.",
    )
    office_keys: tuple[Path, ...] = Field(
        (),
        description="Files with the office's public keys (PEM); without any, its commands and plans are refused.",
    )
    outbox: Path = Field(
        Path("var/gateway/outbox.db"),
        description="File that keeps every reading until ingest has it; health.json is written beside it.",
    )
    memory_rows: int = Field(
        100_000,
        description="Rows kept in memory while the disk refuses them, 100 to 10000000; then polling stops.",
        ge=100,
        le=10_000_000,
    )
    commit_interval_s: float = Field(
        0.02,
        description="Seconds between two commits to the outbox, 0 to 3600; rows between share one.",
        ge=0,
        le=3600,
    )
    window_messages: int = Field(16, description="Messages on their way to ingest at once, 1 to 200.", ge=1, le=200)
    ack_timeout_s: float = Field(
        15.0,
        description="Seconds without an acknowledgement after which rows are sent again, 1 to 600.",
        ge=1,
        le=600,
    )
    backlog_rows_s: float = Field(
        2000.0, description="Rows per second of an outage's backlog, 1 to 1000000; live rows go first.", ge=1, le=1e6
    )
    gather_s: float = Field(
        0.1, description="Seconds for which live rows are gathered into one message, 0 to 3600.", ge=0, le=3600
    )
    health_interval_s: float = Field(
        5.0, description="Seconds between two health reports (broker and health.json), 0.2 to 3600.", ge=0.2, le=3600
    )
    look_s: float = Field(
        0.25,
        description="Seconds between two looks at the host's clock and the outbox while no meter is due, 0.05 to 60.",
        ge=0.05,
        le=60,
    )
    retry_first_s: float = Field(
        2.0, description="Seconds until a meter that did not answer is asked again, 0.1 to 600; doubles each time.",
        ge=0.1, le=600,
    )  # fmt: skip
    retry_last_s: float = Field(300.0, description="Longest such pause in seconds, 1 to 86400.", ge=1, le=86_400)
    silent_share: float = Field(
        0.1, description="Share of a bus's time that silent meters may cost together, 0.01 to 1.", ge=0.01, le=1
    )
    tap: TapSettings = TapSettings()
