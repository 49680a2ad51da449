"""Settings of the API: where it listens, and how much it takes from one caller."""

from __future__ import annotations

import ipaddress
from pathlib import Path
from typing import Final, Literal

from pydantic import Field, ValidationInfo, field_validator, model_validator

from metering.settings import SettingsModel

KIB = 1024
MIB = 1024 * KIB

NEEDS_TLS: Final = (
    "must be a loopback address (127.0.0.1 or ::1) unless tls_cert and tls_key are set, "
    'or front = "proxy" and the proxy encrypts'
)


class ApiSettings(SettingsModel):
    """Where the API listens and what it refuses."""

    tls_cert: Path | None = Field(
        None, description="PEM file of the API's certificate and its chain; turns TLS on, needs tls_key."
    )
    tls_key: Path | None = Field(
        None, description="PEM file of the key of tls_cert, without a passphrase; changed files are taken over."
    )
    front: Literal["none", "proxy"] = Field(
        "none",
        description="What callers meet before us: none, or a proxy, which then must encrypt and be the only one who "
        "reaches our port.",
    )
    host: str = Field(
        "127.0.0.1",
        description="Address that the API listens on; one that others can reach needs tls_cert and tls_key, or "
        'front = "proxy", and an administrator with a password of his own.',
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
    max_event_streams: int = Field(
        256,
        ge=1,
        le=10_000,
        description="Most pages kept live at once, beside max_requests; more get a 503.",
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
    read_rate_target: float = Field(
        98.0, ge=0, le=100, description="Read rate 抄见率 [%] below which the overview calls for attention."
    )

    names: tuple[str, ...] = Field(
        (),
        description="Host names and addresses, beside loopback, by which callers may ask for the API, such as "
        '["metergate.example"]; a request for any other name is answered with 421.',
    )
    rate_per_s: float = Field(
        100.0, gt=0, le=1_000_000, description="Requests that one key or user may send per second; more is a 429."
    )
    rate_burst: int = Field(
        400, ge=1, le=10_000_000, description="Requests that one key or user may send at once before that counts."
    )
    unknown_per_s: float = Field(
        5.0, gt=0, le=1_000_000, description="Requests per second of one address that shows neither key nor login."
    )
    unknown_burst: int = Field(
        60, ge=1, le=10_000_000, description="Requests that such an address may send at once before that counts."
    )
    tries_per_min: float = Field(
        6.0,
        gt=0,
        le=60_000,
        description="Logins and unknown keys that one address may try per minute, beside the locks of each account.",
    )
    tries_burst: int = Field(
        20, ge=1, le=10_000, description="Logins and unknown keys that one address may try before that counts."
    )
    identity_cache_s: float = Field(
        2.0,
        ge=0,
        le=30,
        description="Time for which the API remembers whose key or login it saw [s]; a revoked one works as long.",
    )

    @field_validator("names")
    @classmethod
    def _plain_names(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        for name in names:
            if not name or name != name.strip() or any(sign in name for sign in "/*@ ") or "://" in name:
                raise ValueError(f"{name!r} is not a host name or address, such as metergate.example")
        return tuple(name.lower() for name in names)

    @field_validator("host")
    @classmethod
    def _no_password_in_the_clear(cls, host: str, info: ValidationInfo) -> str:
        """The fields that decide stand before `host`, so that the complaint can name the line of the address."""
        if not is_loopback(host) and not _is_address(host):
            raise ValueError(f"{NEEDS_TLS}; and an IP address of this machine, 0.0.0.0 or :: for all of them")
        if not is_loopback(host) and info.data.get("front") != "proxy" and info.data.get("tls_key") is None:
            raise ValueError(NEEDS_TLS)
        return host

    @model_validator(mode="after")
    def _certificate_is_whole(self) -> ApiSettings:
        if (self.tls_cert is None) != (self.tls_key is None):
            raise ValueError("tls_cert and tls_key belong together: set both or none")
        return self

    @property
    def encrypted(self) -> bool:
        """True when what others send us travels encrypted, by us or by a proxy."""
        return self.front == "proxy" or (self.tls_cert is not None and self.tls_key is not None)

    def read_rate_since(self, now_ms: int) -> int:
        """Return when the period of the read rate that ends at `now_ms` began [ms UTC]."""
        return now_ms - round(self.read_rate_window_s * 1000)


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return "%" not in host


def is_loopback(host: str) -> bool:
    """True for an IP address that only this machine reaches, and for the name localhost."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback and "%" not in host
    except ValueError:
        return False
