"""Meter models that speak MQTT: one data file each (`gateway/profiles/mqtt/*.toml`), checked, with golden messages.

id = "example-json"
medium = "water"
protocol = "mqtt-json"
index = "volume"                   # the quantity that is billed
topics = ["meters/+/data"]
device_level = 1                   # the device's name stands in the topic, 0 is the first level
counter = "n"
time = { path = "t", form = "unix_s" }
[[field]]
quantity = "volume"
path = "total"
unit = "l"
[[golden]]
topic = "meters/7/data"
payload = '{"t": 1767225600, "n": 4, "total": 1234}'
device = "7"
expect = { volume = "1.234" }
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from functools import cache
from pathlib import Path
from typing import Final, Literal

from pydantic import Field

from gateway.faults import Fault, sentences
from gateway.profile_file import CaveatFile, Medium
from gateway.protocols import sparkplug_b
from gateway.protocols.mqtt_dialects import DIALECTS, JsonField, JsonProfile, Notice, Sample, TimeRule, sparkplug
from gateway.protocols.mqtt_dialects.lorawan import CODECS
from gateway.protocols.mqtt_dialects.times import TimeForm
from gateway.protocols.sparkplug_state import EdgeNode
from metering.clock import rfc3339
from metering.errors import FrameError, SettingsError
from metering.quantities import COUNTERS, Quantity, from_micro
from metering.settings import SettingsModel, nearest, parse, read_text

FOLDER: Final = Path(__file__).parent / "profiles" / "mqtt"
SPARKPLUG: Final = "sparkplug-b"
ProtocolName = Literal[
    "mqtt-chirpstack-v4", "mqtt-ttn-v3", "mqtt-wmbusmeters", "mqtt-huawei-iotda", "mqtt-json", "sparkplug-b"
]


class JsonFieldFile(SettingsModel):
    """One value of a message; for Sparkplug B `path` is the metric's name."""

    quantity: Quantity = Field(description="What it is.")
    path: str = Field(
        min_length=1, max_length=200, description='Keys and list places joined by dots; "\\\\." in a key.'
    )
    unit: str = Field("", description="Unit in the message; the house unit when left out.")
    scale: str = Field("1", description="Number in the message x scale = number of `unit`, a decimal text.")
    words: dict[str, int] = Field({}, description="Texts, true and false that stand for a number.")
    text: bool = Field(False, description="The number comes as a text, which is refused otherwise.")
    optional: bool = Field(True, description="It may be missing.")
    decimals: int | None = Field(None, ge=0, le=6, description="Round to so many decimals; refused when left out.")


class TimeFile(SettingsModel):
    """Where the time of a value stands."""

    path: str = Field(min_length=1, max_length=200, description="As of a field.")
    form: TimeForm = Field("rfc3339", description="How it is written.")
    offset_minutes: int = Field(0, ge=-840, le=840, description="Of local times, east is positive.")


class GoldenMessageFile(SettingsModel):
    """A message with known content. Those of one Sparkplug file belong together, in their order."""

    topic: str = Field(min_length=1, description="Where it came.")
    payload: str = Field("", description="Its text.")
    payload_hex: str = Field("", description="Its bytes, when it is no text.")
    device: str = Field(description="The device that speaks.")
    expect: dict[Quantity, str] = Field({}, description="House-unit decimals of its last row; {} for no reading.")
    read_at: str = Field("", description="Time of its last row, RFC 3339 with milliseconds.")
    source: str = Field(min_length=1, description="Where the message comes from.")


class MqttProfileFile(SettingsModel):
    """One model, as its file says it."""

    id: str = Field(pattern=r"^[a-z0-9][a-z0-9-]{0,47}$", description="Name of file, setting and log field.")
    name: str = Field(min_length=1, description="What people call the model.")
    medium: Medium = Field(description="What is metered.")
    protocol: ProtocolName = Field(description="Whose messages these are.")
    source: str = Field(min_length=1, description="The public document that the format comes from.")
    index: Quantity = Field(description="The quantity that is billed.")
    index_digits: int | None = Field(None, ge=1, le=12, description="Digits before the point until it rolls over.")
    topics: list[str] = Field(min_length=1, max_length=20, description="Topics to subscribe to, + and # allowed.")
    field: list[JsonFieldFile] = Field([], max_length=100, description="Where the values stand.")
    codec: str = Field("", description="Layout of a LoRaWAN payload; then no fields are needed.")
    time: TimeFile | None = Field(None, description="Where the time stands; the dialect's own when left out.")
    rows: str = Field("", description="Path of a list of rows, each with fields and time of its own.")
    device: str = Field("", description="Path of the device's name (mqtt-json).")
    device_level: int | None = Field(None, ge=0, le=30, description="Level of the topic that names the device.")
    counter: str = Field("", description="Path of the sender's own message counter (mqtt-json, mqtt-huawei-iotda).")
    modulus: int | None = Field(None, ge=2, le=2**62, description="Where the counter begins again at 0.")
    repeat_s: float = Field(
        0.0,
        ge=0,
        le=600,
        description="Seconds (at most half an interval) in which a telegram that says the same is taken once.",
    )
    arrival: Literal["suspect", "valid"] = Field(
        "suspect", description="What a value without any time is, which is given the time of its arrival."
    )
    caveat: list[CaveatFile] = Field([], description="What one must know.")
    golden: list[GoldenMessageFile] = Field(min_length=1, description="Messages with known content.")


@dataclass(frozen=True)
class MqttProfile:
    """One model, checked. index: the billed quantity."""

    id: str
    name: str
    medium: Medium
    source: str
    protocol: str
    index: Quantity
    index_digits: int | None
    topics: tuple[str, ...]
    json: JsonProfile
    repeat_s: float
    arrival: str
    caveats: tuple[str, ...]
    golden: tuple[GoldenMessageFile, ...]


def load_mqtt_profile(path: Path) -> MqttProfile:
    """Read and check one file. Raises: SettingsError with one line per problem."""
    text = read_text(path)
    file = parse(text, MqttProfileFile, name=path.name)
    if problems := sentences(_faults(file, path.stem), text, path.name):
        raise SettingsError(problems)
    return _build(file)


@cache
def load_mqtt_profiles(*folders: Path) -> dict[str, MqttProfile]:
    """Read every profile of our folder and of `folders` (a later one replaces an earlier of the same id).

    Raises: SettingsError with the problems of all files.
    """
    found: dict[str, MqttProfile] = {}
    problems: list[str] = []
    for folder in (FOLDER, *folders):
        for path in sorted(folder.glob("*.toml")):
            try:
                found[path.stem] = load_mqtt_profile(path)
            except SettingsError as error:
                problems += error.problems
    if problems:
        raise SettingsError(problems)
    return found


def _build(file: MqttProfileFile) -> MqttProfile:
    fields = tuple(
        JsonField(
            f.quantity, f.path, f.unit, Decimal(f.scale), f.words, f.text, optional=f.optional, decimals=f.decimals
        )
        for f in file.field
    )
    time = TimeRule(file.time.path, file.time.form, file.time.offset_minutes) if file.time else None
    return MqttProfile(
        id=file.id,
        name=file.name,
        medium=file.medium,
        source=file.source,
        protocol=file.protocol,
        index=file.index,
        index_digits=file.index_digits,
        topics=tuple(file.topics),
        json=JsonProfile(
            fields, time, file.rows, file.device, file.device_level, file.counter, file.modulus, file.codec
        ),
        repeat_s=file.repeat_s,
        arrival=file.arrival,
        caveats=tuple(caveat.text for caveat in file.caveat),
        golden=tuple(file.golden),
    )


def _faults(file: MqttProfileFile, stem: str) -> Iterator[Fault]:
    if file.id != stem:
        yield ("id",), f'"{file.id}"', f'must be the file\'s name, "{stem}"'
    faults = list(_shape_faults(file))
    for i, field in enumerate(file.field):
        faults += _field_faults(field, ("field", i))
    yield from faults
    if not faults:
        profile = _build(file)
        node = EdgeNode()
        for i, golden in enumerate(file.golden):
            yield from _golden_faults(profile, golden, ("golden", i), node)


def _shape_faults(file: MqttProfileFile) -> Iterator[Fault]:
    if file.index not in COUNTERS:
        yield ("index",), f'"{file.index}"', "only a quantity that accumulates can be billed"
    if file.codec and file.codec not in CODECS:
        yield ("codec",), f'"{file.codec}"', f"allowed: {', '.join(CODECS)}; {nearest(file.codec, list(CODECS))}"
    if not file.field and not file.codec and file.protocol != "mqtt-wmbusmeters":
        yield (), "", "needs [[field]] or a codec"
    if file.protocol == "mqtt-json" and (file.device_level is None) == (not file.device):
        yield (), "", "mqtt-json needs either device or device_level"
    for i, topic in enumerate(file.topics):
        if why := topic_fault(topic):
            yield ("topics", i), f'"{topic}"', why


def topic_fault(topic: str) -> str:
    """Return what is wrong with a topic to subscribe to, "" when nothing is."""
    levels = topic.split("/")
    if not topic or "\0" in topic or len(topic.encode("utf-8", "replace")) > 1000:
        return "a topic has 1 to 1000 bytes and no NUL"
    if topic == "#" or topic.startswith("$SYS"):
        return "all topics of a broker, or its own, are no meters"
    if any("+" in level and level != "+" for level in levels) or any("#" in level for level in levels[:-1]):
        return "+ stands for a whole level, # only at the end"
    return "" if "#" not in levels[-1] or levels[-1] == "#" else "# stands for whole levels"


def _field_faults(field: JsonFieldFile, at: tuple[str | int, ...]) -> Iterator[Fault]:
    try:
        scale = Decimal(field.scale)
        if not (scale.is_finite() and scale != 0 and abs(scale.adjusted()) <= 12):
            raise ValueError
    except (InvalidOperation, ValueError):
        yield (*at, "scale"), f'"{field.scale}"', 'must be a decimal text such as "0.001"'
        return
    try:
        JsonField(field.quantity, field.path, field.unit, scale).factor()
    except ValueError as error:
        yield (*at, "unit"), f'"{field.unit}"', str(error)


def _golden_faults(
    profile: MqttProfile, golden: GoldenMessageFile, at: tuple[str | int, ...], node: EdgeNode
) -> Iterator[Fault]:
    try:
        payload = bytes.fromhex(golden.payload_hex) if golden.payload_hex else golden.payload.encode()
        device, samples = _decode_golden(profile, golden.topic, payload, node)
    except (FrameError, ValueError) as error:
        yield at, "", str(error)
        return
    if device != golden.device:
        yield (*at, "device"), f'"{golden.device}"', f'the message says "{device}"'
    found = {q: from_micro(v) for q, v in samples[-1].values.items()} if samples else {}
    if found != golden.expect:
        yield (*at, "expect"), str(golden.expect), f"the message says {found}"
    stamp = rfc3339(samples[-1].read_at) if samples and samples[-1].read_at is not None else ""
    if stamp != golden.read_at:
        yield (*at, "read_at"), f'"{golden.read_at}"', f'the message says "{stamp}"'


def _decode_golden(
    profile: MqttProfile, topic: str, payload: bytes, node: EdgeNode
) -> tuple[str, tuple[Sample, ...]]:
    if profile.protocol == SPARKPLUG:
        where = sparkplug_b.parse_topic(topic)
        outcome = node.apply(where, sparkplug_b.decode(payload))
        return sparkplug_device(where), sparkplug.to_samples(outcome, profile.json.fields)
    message = DIALECTS[profile.protocol](topic, payload, profile.json)
    return message.device, () if isinstance(message, Notice) else message.samples


def sparkplug_device(topic: sparkplug_b.Topic) -> str:
    """Return what a plan calls a Sparkplug device: "group/edge/device", or "group/edge" for the node itself."""
    return "/".join(part for part in (topic.group, topic.edge, topic.device) if part)
