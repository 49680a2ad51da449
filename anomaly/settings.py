"""Settings of the anomaly service; composition is the front door's."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field

from metering.messages import PARTS
from metering.settings import SettingsModel


class FloodSettings(SettingsModel):
    """When a gateway, bus or district counts as silent as a whole, so that it is one alarm."""

    quiet_intervals: float = Field(
        2.5, description="Reading intervals without a reading after which a meter is quiet, 1 to 100.", ge=1, le=100
    )
    quiet_share: float = Field(
        0.8,
        description="Share of the meters of a gateway or bus, above 0 to 1, that must be quiet for it to look bad.",
        gt=0,
        le=1,
    )
    fewest_meters: int = Field(
        3,
        description="Meters that a gateway or bus must have to be judged by their silence, 1 to 100000.",
        ge=1,
        le=100_000,
    )
    gateways_share: float = Field(
        0.6,
        description="Share of a district's gateways, above 0 to 1, that fall silent together when it is one alarm.",
        gt=0,
        le=1,
    )
    fewest_gateways: int = Field(
        3,
        description="Gateways that must fall silent together for one alarm of their district, 2 to 10000.",
        ge=2,
        le=10_000,
    )
    together_s: float = Field(
        900.0, description="Seconds within which gateways fall silent together, 1 to 86400.", ge=1, le=86_400
    )
    settle_s: float = Field(
        90.0,
        description="Seconds for which a gateway or bus must look bad before it is an alarm, 0 to 3600; so long the "
        "communication losses of its meters wait.",
        ge=0,
        le=3600,
    )
    grace_s: float = Field(
        7200.0,
        description="Seconds after its return at which a place lets go of meters that are still silent, so that each "
        "is an alarm of its own, 0 to 604800.",
        ge=0,
        le=604_800,
    )
    longest_s: float = Field(
        86_400.0,
        description="Seconds that a place which is back stays an alarm while the rules still hold losses of meters "
        "that are read again, 0 to 2592000.",
        ge=0,
        le=2_592_000,
    )


class AnomalySettings(SettingsModel):
    """How the rules follow what is stored."""

    instance: str = Field(
        "anomaly-1",
        description="Name of this anomaly process in metrics and leases; two processes never share one.",
        min_length=1,
        max_length=48,
        pattern=r"^[A-Za-z0-9._-]+$",
    )
    parts: tuple[Annotated[int, Field(ge=0, lt=PARTS)], ...] = Field(
        (),
        description="Parts of the city (0 to 63) whose meters this process judges; an empty list means all. "
        "Processes that share a city name different parts.",
    )
    thresholds: Path | None = Field(
        None, description="File of thresholds that is laid over the built-in ones; docs/anomaly.md describes it."
    )
    quick: bool = Field(
        True,
        description="Whether burst, reverse flow, unauthorised use, bad values and changes of unit are looked for as "
        "soon as a reading is stored; else they wait for late data as the other rules do.",
    )
    history_days: int = Field(
        60,
        description="Days of readings that are read at the start, 50 to 240; rules know nothing older, and long_zero "
        "(index long at rest) needs as many days as its threshold.",
        ge=50,
        le=240,
    )
    first_look_h: float = Field(
        30.0,
        description="Hours before the very first start that are judged, 1 to 336: what goes on already is found.",
        ge=1,
        le=336,
    )
    catch_up_days: float = Field(
        14.0,
        description="Days without the service, 1 to 45, that are judged hour by hour at its next start; what lies "
        "before them is history.",
        ge=1,
        le=45,
    )
    compact_from: int = Field(
        20_000,
        description="Number of meters from which consumption is kept in 32-bit floats, which halves the memory, 0 to "
        "100000000.",
        ge=0,
        le=100_000_000,
    )
    look_s: float = Field(
        0.2, description="Seconds between two looks at what ingest has stored, 0.05 to 3600.", ge=0.05, le=3600
    )
    settle_s: float = Field(
        5.0,
        description="Seconds that the hourly judgement waits for readings on their way into the store, 0 to 600.",
        ge=0,
        le=600,
    )
    reload_s: float = Field(
        30.0,
        description="Seconds between two looks at the registry for new meters, exchanges and thresholds, 1 to 3600.",
        ge=0.5,
        le=3600,
    )
    flood_s: float = Field(
        10.0,
        description="Seconds between two looks at silent gateways, buses and districts, 0.5 to 3600.",
        ge=0.5,
        le=3600,
    )
    gateway_stale_s: float = Field(
        180.0,
        description="Seconds without a sign of life after which a gateway counts as away, 10 to 86400.",
        ge=10,
        le=86_400,
    )
    lease_s: float = Field(
        30.0,
        description="Seconds after which the parts of a process that says nothing are free, 3 to 86400.",
        ge=3,
        le=86_400,
    )
    report_s: float = Field(
        2.0,
        description="Seconds between two reports of counters and health to the registry, 0.5 to 3600.",
        ge=0.5,
        le=3600,
    )
    heartbeat_file: Path | None = Field(
        None, description="File that is touched after each judgement; a watchdog outside misses it when we stop."
    )
    heartbeat_url: str = Field(
        "",
        description="Address that gets an HTTP POST each heartbeat_s while judging goes on (as healthchecks services "
        "take it); whoever serves it raises the alarm when it stays away. Empty sends none.",
        pattern=r"^(https?://[^\s]+)?$",
        max_length=500,
    )
    heartbeat_s: float = Field(60.0, description="Seconds between two such calls, 1 to 3600.", ge=1, le=3600)
    flood: FloodSettings = FloodSettings()
