"""The part of a plan that is pushed to us: which meters speak on which topics of the field broker.

[[mqtt_bus]]
name = "lorawan"
topics = ["application/+/device/+/event/+"]     # when left out: those of its meters' profiles

[[mqtt_meter]]
meter = "G-2001"
bus = "lorawan"
device = "0101010101010101"
profile = "ugm-chirpstack"
interval_s = 3600                               # how often a message is expected

Where the broker is, and who we are there, stands in the settings ([field_broker]): a plan holds no secrets.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from pydantic import Field

from gateway.faults import Fault
from gateway.profile_mqtt import SPARKPLUG, MqttProfile, topic_fault
from metering.settings import SettingsModel, nearest


class MqttBusFile(SettingsModel):
    """A group of topics on the field broker."""

    name: str = Field(min_length=1, max_length=64, description="What plan, log and events call this bus.")
    topics: list[str] = Field([], max_length=100, description="Topics to subscribe to; the profiles' when left out.")
    same_payload_s: float = Field(
        10.0,
        ge=0,
        le=3600,
        description="Seconds (at most half an interval) in which equal bytes without time or counter count once.",
    )


class MqttMeterFile(SettingsModel):
    """One meter that sends by itself."""

    meter: str = Field(min_length=1, max_length=64, pattern=r"^[^\x00-\x1f]+$", description="The meter's id.")
    bus: str = Field(description="Name of its mqtt_bus.")
    device: str = Field(
        min_length=1, max_length=200, description="Who it is there: DevEUI, device id, group/edge/device (Sparkplug)."
    )
    profile: str = Field(description="Id of its model's MQTT profile.")
    interval_s: float = Field(3600.0, ge=0.001, le=31 * 86_400, description="Seconds between messages, expected.")


@dataclass(frozen=True, slots=True)
class MqttMeter:
    """One meter that sends by itself."""

    meter: str
    device: str
    profile: MqttProfile
    interval_s: float


@dataclass(frozen=True)
class MqttBus:
    """A group of topics and the meters that speak there, by `device_key`."""

    name: str
    topics: tuple[str, ...]
    same_payload_s: float
    meters: Mapping[str, MqttMeter]

    @cached_property
    def profiles(self) -> tuple[MqttProfile, ...]:
        """The models on this bus, each once."""
        return tuple({meter.profile.id: meter.profile for meter in self.meters.values()}.values())

    @property
    def speaks_sparkplug(self) -> bool:
        """True when a Sparkplug edge node is among them."""
        return any(profile.protocol == SPARKPLUG for profile in self.profiles)

    def listens_to(self, topic: str) -> bool:
        """True when a message on `topic` belongs here."""
        return any(matches(wanted, topic) for wanted in self.topics)


def device_key(device: str) -> str:
    """Return the form in which devices are compared: platforms spell an EUI in either case."""
    return device.casefold()


def matches(wanted: str, topic: str) -> bool:
    """True when a subscription covers a topic (MQTT 5, 4.7)."""
    want, have = wanted.split("/"), topic.split("/")
    for place, level in enumerate(want):
        if level == "#":
            return True
        if place >= len(have) or level not in ("+", have[place]):
            return False
    return len(want) == len(have)


def make_mqtt(
    buses: Sequence[MqttBusFile], meters: Sequence[MqttMeterFile], profiles: Mapping[str, MqttProfile]
) -> tuple[MqttBus, ...]:
    """Return what a plan without faults means."""
    made = []
    for bus in buses:
        mine = [m for m in meters if m.bus == bus.name]
        here = {device_key(m.device): MqttMeter(m.meter, m.device, profiles[m.profile], m.interval_s) for m in mine}
        topics = bus.topics or [topic for meter in here.values() for topic in meter.profile.topics]
        made.append(MqttBus(bus.name, tuple(dict.fromkeys(topics)), bus.same_payload_s, here))
    return tuple(made)


def mqtt_faults(
    buses: Sequence[MqttBusFile],
    meters: Sequence[MqttMeterFile],
    profiles: Mapping[str, MqttProfile],
    *,
    taken: Mapping[str, int],
) -> Iterator[Fault]:
    """Yield what is wrong. taken: ids of the polled meters of the same plan."""
    names: dict[str, int] = {}
    for i, bus in enumerate(buses):
        if names.setdefault(bus.name, i) != i:
            yield ("mqtt_bus", i, "name"), f'"{bus.name}"', f"stands already at mqtt_bus[{names[bus.name]}]"
        for k, topic in enumerate(bus.topics):
            if why := topic_fault(topic):
                yield ("mqtt_bus", i, "topics", k), f'"{topic}"', why
        if not any(meter.bus == bus.name for meter in meters):
            yield ("mqtt_bus", i, "name"), f'"{bus.name}"', "has no mqtt_meter; nothing that it brings could be read"
    ids: dict[str, int] = {}
    devices: dict[tuple[str, str], str] = {}
    for i, meter in enumerate(meters):
        at = ("mqtt_meter", i)
        if meter.meter in taken:
            yield (*at, "meter"), f'"{meter.meter}"', f"stands already at meter[{taken[meter.meter]}]"
        if ids.setdefault(meter.meter, i) != i:
            yield (*at, "meter"), f'"{meter.meter}"', f"stands already at mqtt_meter[{ids[meter.meter]}]"
        if meter.bus not in names:
            yield (*at, "bus"), f'"{meter.bus}"', "no such mqtt_bus; " + nearest(meter.bus, list(names))
        if meter.profile not in profiles:
            yield (
                (*at, "profile"),
                f'"{meter.profile}"',
                "no such MQTT profile; " + nearest(meter.profile, list(profiles)),
            )
        twin = devices.setdefault((meter.bus, device_key(meter.device)), meter.meter)
        if twin != meter.meter:
            yield (*at, "device"), f'"{meter.device}"', f'is already meter "{twin}" of bus "{meter.bus}"'
