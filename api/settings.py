"""Settings of the API: where it listens, and how much it takes from one caller."""

from __future__ import annotations

import ipaddress

from pydantic import Field, field_validator

from metering.settings import SettingsModel

KIB = 1024
MIB = 1024 * KIB


class ApiSettings(SettingsModel):
    """Where the API listens and what it refuses."""

    host: str = Field(
        "127.0.0.1",
        description="Loopback address that the API listens on; every other address is refused until callers must "
        "show who they are.",
    )
    port: int = Field(8080, ge=0, le=65535, description="TCP port of the API; 0 takes any free one.")
    max_body_bytes: int = Field(
        MIB, ge=0, le=64 * MIB, description="Largest request body [bytes]; more is answered with 413."
    )
    max_header_bytes: int = Field(
        16 * KIB, ge=KIB, le=MIB, description="Largest request line and headers together [bytes]; more is a 431."
    )
    max_headers: int = Field(64, ge=8, le=1000, description="Most header lines of one request; more is a 431.")
    header_timeout_s: float = Field(
        10.0, gt=0, le=300, description="Time in which a request's headers must be complete [s]; then 408 and closed."
    )
    body_timeout_s: float = Field(
        30.0, gt=0, le=3600, description="Time in which a request's body must be complete [s]; then 408 and closed."
    )
    idle_timeout_s: int = Field(
        15, ge=1, le=3600, description="Time that a connection may stay open between two requests [s]."
    )
    write_timeout_s: float = Field(
        20.0, gt=0, le=3600, description="Time that a caller may let an answer wait unread [s]; then it is cut off."
    )
    response_timeout_s: float = Field(
        15.0, gt=0, le=600, description="Time in which an answer must begin [s]; then 503."
    )
    max_connections: int = Field(
        512,
        ge=4,
        le=100_000,
        description="Most open connections; when full, the one that has waited longest without a request makes room.",
    )
    max_requests: int = Field(
        64, ge=1, le=10_000, description="Most requests worked on at the same time; more are answered with 503."
    )
    threads: int = Field(4, ge=1, le=64, description="Threads that read the registry and the store.")
    ingest_stale_s: float = Field(
        20.0, gt=0, le=3600, description="Silence of ingest's counters [s] after which /readyz calls it gone."
    )
    gateway_stale_s: float = Field(
        60.0, gt=0, le=86400, description="Silence of a gateway [s] after which it counts as offline."
    )
    read_rate_window_s: float = Field(
        86400.0,
        gt=0,
        le=31 * 86400,
        description="Period [s] in which a meter must have been read to count into the read rate 抄见率.",
    )

    @field_validator("host")
    @classmethod
    def _only_loopback(cls, host: str) -> str:
        if not is_loopback(host):
            raise ValueError("must be a loopback address (127.0.0.1 or ::1): the API does not know its callers yet")
        return host


def is_loopback(host: str) -> bool:
    """True for an IP address that only this machine reaches, and for the name localhost."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback and "%" not in host
    except ValueError:
        return False
