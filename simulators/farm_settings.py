"""What a Modbus farm consists of: settings as TOML or JSON, checked like every other file of ours.

seed = 7
control_port = 0
[[port]]
port = 5020
[[port.meter]]
meter = "G-0001"
unit = 1
profile = "fuxin-gas-flowmeter"
curve = "restaurant_gas"
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Literal, get_args

from pydantic import Field, ValidationError, model_validator

from metering.errors import SettingsError
from metering.quantities import INT64_MAX
from metering.reading import Flag
from metering.settings import SettingsModel, load, read_text
from simulators.consumption import CURVES

FaultKind = Literal[
    "silent",
    "exception",
    "late",
    "cut",
    "wrong_transaction",
    "wrong_unit",
    "wrong_byte_count",
    "garbage",
    "close",
    "bad_content",
    "not_available",
    "zero_index",
    "freeze",
]
FAULT_KINDS: tuple[FaultKind, ...] = get_args(FaultKind)

FlagName = Literal["VALVE_CLOSED", "MAGNET", "COVER", "LOW_BATTERY", "CLOCK", "ALARM"]

FlowKind = Literal["normal", "leak", "zero", "reverse"]


class FaultSettings(SettingsModel):
    """How a meter misbehaves. Which number belongs to which kind stands in `docs/simulators.md`."""

    kind: FaultKind
    code: Annotated[int, Field(ge=1, le=255)] = 4  # exception: Modbus exception code
    seconds: Annotated[float, Field(ge=0, le=3600)] = 2.0  # late: [s]
    keep: Annotated[int, Field(ge=0, le=260)] = 7  # cut: bytes that still arrive
    share: Annotated[float, Field(gt=0, le=1)] = 1.0  # of the answers that are hit, drawn from the seed
    times: Annotated[int, Field(ge=1)] | None = None  # ends after so many hits


class FlowSettings(SettingsModel):
    """What happens behind the meter from now on (or since `since_ms` [ms UTC]), whatever its curve says.

    rate: [house units per hour] what a leak adds, or a reversed meter takes off; reverse without a rate runs the
    curve itself backwards.
    """

    kind: FlowKind
    rate: Annotated[float, Field(ge=0, le=1e6)] = 0.0
    since_ms: Annotated[int, Field(ge=0, le=253_402_300_799_999)] | None = None


class MeterSettings(SettingsModel):
    """One simulated meter.

    start_index: [10⁻⁶ house units] at 2024-01-01 local, drawn from the seed when absent. gaps: what registers
    between the profile's fields say: zeros, or exception 02.
    """

    meter: Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[^\t\r\n]+$")]
    profile: str
    unit: Annotated[int, Field(ge=0, le=255)] = 1
    curve: str = "household_gas"
    start_index: Annotated[int, Field(ge=0, le=INT64_MAX)] | None = None
    gaps: Literal["zero", "refuse"] = "zero"
    fault: FaultSettings | None = None
    flow: FlowSettings | None = None
    flags: tuple[FlagName, ...] = ()

    @model_validator(mode="after")
    def _curve_is_known(self) -> MeterSettings:
        if self.curve not in CURVES:
            raise ValueError(f"curve {self.curve!r} is unknown; allowed: {', '.join(CURVES)}")
        return self


class PortSettings(SettingsModel):
    """One TCP port: a serial server with meters behind it, or a single meter that answers to any unit.

    port: 0 takes a free one, which the farm then names in its first line.
    """

    meter: tuple[MeterSettings, ...]
    port: Annotated[int, Field(ge=0, le=65535)] = 0
    any_unit: bool = False

    @model_validator(mode="after")
    def _units_are_distinct(self) -> PortSettings:
        units = [m.unit for m in self.meter]
        twice = sorted({unit for unit in units if units.count(unit) > 1})
        if twice:
            raise ValueError(f"port {self.port}: unit {twice[0]} is given to two meters")
        if self.any_unit and len(self.meter) != 1:
            raise ValueError(f"port {self.port}: any_unit needs exactly one meter, not {len(self.meter)}")
        return self


class FarmSettings(SettingsModel):
    """A whole farm in one process.

    log: file of the answer log, none when absent. control_port: loopback port of the control line, 0 takes a free
    one, none when absent. profiles: folders of meter profiles beside the gateway's own.
    """

    port: tuple[PortSettings, ...]
    host: str = "127.0.0.1"
    seed: Annotated[int, Field(ge=0, le=2**63 - 1)] = 1
    log: Path | None = None
    control_port: Annotated[int, Field(ge=0, le=65535)] | None = None
    profiles: tuple[Path, ...] = ()

    @model_validator(mode="after")
    def _meters_are_distinct(self) -> FarmSettings:
        seen: set[str] = set()
        for name in (m.meter for p in self.port for m in p.meter):
            if name in seen:
                raise ValueError(f"meter {name!r} stands in the farm twice")
            seen.add(name)
        return self


def flag_bits(names: Iterable[FlagName]) -> int:
    """Return the bits of `metering.reading.Flag` that these names stand for."""
    return sum(int(getattr(Flag, name)) for name in set(names))


def load_farm(path: Path) -> FarmSettings:
    """Read a farm from TOML or, when its name ends in .json, from JSON. Raises: SettingsError."""
    if path.suffix != ".json":
        return load(path, FarmSettings)
    try:
        return FarmSettings.model_validate_json(read_text(path))
    except ValidationError as error:
        problems = [f"{path.name}: {'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()]
        raise SettingsError(problems) from error


def spread(meters: Sequence[MeterSettings], *, per_port: int = 32) -> tuple[PortSettings, ...]:
    """Put meters on free ports, `per_port` [1 … 247] units behind each, numbering the units from 1."""
    groups = [meters[n : n + per_port] for n in range(0, len(meters), per_port)]
    return tuple(
        PortSettings(meter=tuple(m.model_copy(update={"unit": unit}) for unit, m in enumerate(group, start=1)))
        for group in groups
    )
