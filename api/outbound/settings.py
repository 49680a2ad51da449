"""Settings of what leaves the house."""

from __future__ import annotations

import ipaddress
from functools import cached_property
from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr, field_validator

from metering.settings import SettingsModel

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class OutboundSettings(SettingsModel):
    """What leaves the house: webhooks, e-mail, notifications, and the heartbeat that others may miss."""

    enabled: bool = Field(True, description="Whether this API sends webhooks and notifications at all.")
    look_s: float = Field(
        1.0, gt=0, le=60, description="Time between two looks for events to tell and messages to send [s]."
    )
    lease_s: float = Field(
        15.0, ge=2, le=600, description="Time after which another API process sends in place of one that died [s]."
    )
    timeout_s: float = Field(10.0, gt=0, le=120, description="Time in which a receiver must have answered [s].")
    max_answer_bytes: int = Field(
        16_384,
        ge=256,
        le=1_048_576,
        description="Most that is read of a receiver's answer [bytes]; then it is cut off.",
    )
    max_attempts: int = Field(
        12, ge=1, le=100, description="Attempts after which a message is dead; a person can send it again."
    )
    retry_first_s: float = Field(
        5.0, gt=0, le=3600, description="Wait after the first failure [s]; it doubles with each further one."
    )
    retry_longest_s: float = Field(21_600.0, gt=0, le=604_800, description="Longest wait between two attempts [s].")
    max_webhooks: int = Field(100, ge=1, le=1000, description="Most webhooks; each is served on its own, one by one.")
    keep_days: int = Field(30, ge=1, le=3660, description="Time for which events and sent messages are kept [d].")
    allow_private: tuple[str, ...] = Field(
        (),
        description='Networks inside the house to which webhooks may go, such as ["10.20.0.0/16"]; other private, '
        "loopback, link-local and metadata addresses are refused.",
    )
    http_hosts: tuple[str, ...] = Field(
        (), description="Hosts to which webhooks may go without TLS (http://); all others need https."
    )
    tls_ca: Path | None = Field(
        None, description="PEM file of authorities that receivers' certificates may come from, beside the system's."
    )
    smtp_host: str = Field("", description="Mail server; without one no e-mail is sent.", max_length=253)
    smtp_port: int = Field(587, ge=1, le=65535, description="TCP port of the mail server.")
    smtp_security: Literal["starttls", "tls", "none"] = Field(
        "starttls",
        description="How mail is encrypted: starttls (port 587), tls (port 465), none (not over a network).",
    )
    smtp_user: str = Field("", description="Name at the mail server; empty for none.")
    smtp_password: SecretStr = Field(
        SecretStr(""), description="Password at the mail server, better given by smtp_password_file."
    )
    mail_from: str = Field("metergate@localhost", description="Address that e-mails come from.", max_length=254)
    heartbeat_stale_s: float = Field(
        60.0,
        ge=2,
        le=86_400,
        description="Silence of ingest or of the anomaly service [s] after which those who are to know are told.",
    )
    heartbeat_url: str = Field(
        "",
        pattern=r"^(https?://[^\s]+)?$",
        description="Address outside that gets an HTTP POST each heartbeat_s while registry, ingest and rules work; "
        "whoever misses it raises the alarm. Empty: none.",
    )
    heartbeat_s: float = Field(60.0, ge=1, le=3600, description="Time between two such calls [s].")

    @field_validator("allow_private")
    @classmethod
    def _networks(cls, networks: tuple[str, ...]) -> tuple[str, ...]:
        for network in networks:
            try:
                ipaddress.ip_network(network)
            except ValueError as error:
                raise ValueError(f"{network!r} is not a network such as 10.20.0.0/16: {error}") from error
        return networks

    @field_validator("mail_from")
    @classmethod
    def _one_address(cls, address: str) -> str:
        if not is_mail_address(address):
            raise ValueError(f"{address!r} is not an e-mail address")
        return address

    @cached_property
    def networks(self) -> tuple[Network, ...]:
        """The networks of allow_private."""
        return tuple(ipaddress.ip_network(network) for network in self.allow_private)


def is_mail_address(text: str) -> bool:
    """True for one plain address: no names, no lists, nothing that could begin another header."""
    local, at, domain = text.rpartition("@")
    plain = len(text) <= 254 and text.isascii() and text.isprintable() and not set(text) & set(' ,;:<>()[]"\\')
    return bool(plain and at and local and domain and "@" not in local and ".." not in text and local[0] != "-")
