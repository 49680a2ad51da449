"""What a farm of serial buses consists of: settings as TOML, checked like every other file of ours.

seed = 7
log = "answers.tsv"
control_port = 0
[[bus]]
name = "stair-3"
kind = "pty"
link = "var/ttyStair3"
baud = 2400
parity = "even"
[[bus.meter]]
meter = "W-0001"
address = "00000805000001"
profile = "water-cjt188"
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, get_args

from pydantic import Field, model_validator

from metering.quantities import INT64_MAX
from metering.settings import SettingsModel, load
from simulators.consumption import CURVES

BusFaultKind = Literal["silent", "late", "cut", "flip", "wrong_address", "noise"]
BUS_FAULT_KINDS: tuple[BusFaultKind, ...] = get_args(BusFaultKind)


class BusFaultSettings(SettingsModel):
    """How a meter on a bus misbehaves. Which number belongs to which kind stands in `docs/simulators.md`."""

    kind: BusFaultKind
    seconds: Annotated[float, Field(ge=0, le=3600)] = 2.0  # late: [s]
    keep: Annotated[int, Field(ge=0, le=260)] = 7  # cut: bytes that still arrive
    size: Annotated[int, Field(ge=1, le=260)] = 6  # noise: bytes before the frame
    share: Annotated[float, Field(gt=0, le=1)] = 1.0  # of the answers that are hit, drawn from the seed
    times: Annotated[int, Field(ge=1)] | None = None  # ends after so many hits


class BusMeterSettings(SettingsModel):
    """One simulated meter. unit: Modbus; address: every other protocol, as in a plan.

    start_index: [10⁻⁶ house units] at 2024-01-01 local, drawn from the seed when absent.
    """

    meter: Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[^\t\r\n]+$")]
    profile: str
    unit: Annotated[int, Field(ge=0, le=255)] = 1
    address: Annotated[str, Field(max_length=40)] = ""
    curve: str = "household_gas"
    start_index: Annotated[int, Field(ge=0, le=INT64_MAX)] | None = None
    clock_off_s: Annotated[int, Field(ge=-(10**9), le=10**9)] = 0  # its clock less UTC; a local zone is +28800 or so
    echoes_ser: bool = True  # CJ/T 188: repeats the master's SER, or always sends 03
    fault: BusFaultSettings | None = None

    @model_validator(mode="after")
    def _curve_is_known(self) -> BusMeterSettings:
        if self.curve not in CURVES:
            raise ValueError(f"curve {self.curve!r} is unknown; allowed: {', '.join(CURVES)}")
        return self


class SimulatedBusSettings(SettingsModel):
    """One pair of wires and how it is reached: a pseudo-terminal, a transparent TCP port, or RFC 2217.

    link: for a pty, a name that is kept pointing to it. port: 0 takes a free one. pace: False answers as fast as it
    can. echo: the adapter hears what it sends. turnaround_s: [s] from a request's last byte to the answer's first.
    """

    name: Annotated[str, Field(min_length=1, max_length=64)]
    kind: Literal["pty", "tcp", "rfc2217"] = "pty"
    link: Path | None = None
    port: Annotated[int, Field(ge=0, le=65535)] = 0
    baud: Annotated[int, Field(ge=300, le=921_600)] = 9600
    parity: Literal["none", "even", "odd"] = "none"
    data_bits: Literal[7, 8] = 8
    stop_bits: Literal[1, 2] = 1
    turnaround_s: Annotated[float, Field(ge=0, le=10)] = 0.01
    pace: bool = True
    echo: bool = False
    meter: tuple[BusMeterSettings, ...] = ()

    @property
    def char_s(self) -> float:
        """[s] that one character takes."""
        return (1 + self.data_bits + (self.parity != "none") + self.stop_bits) / self.baud


class BusFarmSettings(SettingsModel):
    """A farm of buses in one process. log: file of the answer log, none when absent. control_port: as in a farm."""

    bus: tuple[SimulatedBusSettings, ...]
    host: str = "127.0.0.1"
    seed: Annotated[int, Field(ge=0, le=2**63 - 1)] = 1
    log: Path | None = None
    control_port: Annotated[int, Field(ge=0, le=65535)] | None = None
    profiles: tuple[Path, ...] = ()

    @model_validator(mode="after")
    def _names_are_distinct(self) -> BusFarmSettings:
        for what, names in (
            ("bus", [bus.name for bus in self.bus]),
            ("meter", [meter.meter for bus in self.bus for meter in bus.meter]),
        ):
            twice = sorted({name for name in names if names.count(name) > 1})
            if twice:
                raise ValueError(f"{what} {twice[0]!r} stands in the farm twice")
        return self


def load_bus_farm(path: Path) -> BusFarmSettings:
    """Read a farm of buses from TOML. Raises: SettingsError."""
    return load(path, BusFarmSettings)
