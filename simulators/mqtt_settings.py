"""What simulated MQTT meters consist of: settings as TOML or JSON, checked like every other file of ours.

log = "answers.tsv"
[broker]
port = 1883
[[meter]]
meter = "G-2001"
format = "chirpstack"
device = "0101010101010101"
interval_s = 5
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError, model_validator

from metering.errors import SettingsError
from metering.mqtt import BrokerSettings
from metering.quantities import INT64_MAX
from metering.settings import SettingsModel, load, read_text
from simulators.consumption import CURVES

FormatName = Literal["chirpstack", "ttn", "wmbusmeters", "sparkplug", "iotda", "json", "json-no-clock"]


class MqttMeterSettings(SettingsModel):
    """One simulated meter.

    device: its name on the broker (Sparkplug: group/edge/device). rows: values per message, the earlier ones are
    history. clock_error_s: what its clock is wrong by; clock_dead: it says 1970. drop: share of the messages that get
    lost on the radio (their counter is used up). duplicate: share that is sent twice, byte for byte. retain: the
    broker is asked to keep each message.
    """

    meter: Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[^\t\r\n]+$")]
    format: FormatName
    device: Annotated[str, Field(min_length=1, max_length=200)]
    interval_s: Annotated[float, Field(gt=0, le=86_400)] = 5.0
    qos: Literal[0, 1] = 1
    curve: str = "household_gas"
    start_index: Annotated[int, Field(ge=0, le=INT64_MAX)] | None = None
    rows: Annotated[int, Field(ge=1, le=10)] = 1
    clock_error_s: Annotated[float, Field(ge=-1e10, le=1e10)] = 0.0
    clock_dead: bool = False
    drop: Annotated[float, Field(ge=0, lt=1)] = 0.0
    duplicate: Annotated[float, Field(ge=0, le=1)] = 0.0
    retain: bool = False

    @model_validator(mode="after")
    def _is_sound(self) -> MqttMeterSettings:
        if self.curve not in CURVES:
            raise ValueError(f"curve {self.curve!r} is unknown; allowed: {', '.join(CURVES)}")
        if self.format == "sparkplug" and self.device.count("/") != 2:
            raise ValueError(f"device {self.device!r}: a Sparkplug device is group/edge/device")
        return self


class MqttMetersSettings(SettingsModel):
    """All meters of one process.

    log: file of the answer log, none when absent. wait_for_host: the Sparkplug host whose STATE must be online before
    anything is sent, as a primary host is waited for; "" begins at once.
    """

    meter: tuple[MqttMeterSettings, ...]
    broker: BrokerSettings = BrokerSettings()
    seed: Annotated[int, Field(ge=0, le=2**63 - 1)] = 1
    log: Path | None = None
    wait_for_host: str = ""

    @model_validator(mode="after")
    def _meters_are_distinct(self) -> MqttMetersSettings:
        names = [each.meter for each in self.meter]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"meter {twice[0]!r} stands here twice")
        return self


def load_mqtt_meters(path: Path) -> MqttMetersSettings:
    """Read settings from TOML or, when the name ends in .json, from JSON. Raises: SettingsError."""
    if path.suffix != ".json":
        return load(path, MqttMetersSettings)
    try:
        return MqttMetersSettings.model_validate_json(read_text(path))
    except ValidationError as error:
        problems = [f"{path.name}: {'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()]
        raise SettingsError(problems) from error
