"""Whether a scenario's meters can be on the wires that it names, and its events can show there."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from typing import TYPE_CHECKING

from gateway.profile_mqtt import load_mqtt_profiles
from gateway.profiles import load_profiles
from simulators.mqtt_formats import FORMATS
from simulators.mqtt_settings import FormatName
from simulators.scenario_events import LINK_KINDS, METER_KINDS, WIRES_OF, Event

if TYPE_CHECKING:
    from simulators.scenario import Group, Scenario

Fault = tuple[tuple[str | int, ...], object, str]


@cache
def words_of_profiles() -> Mapping[str, tuple[str, ...]]:
    """Return by profile the protocols that a group of such meters may name."""
    found: dict[str, tuple[str, ...]] = {}
    for name, profile in load_profiles().items():
        said = profile.dialect.protocol
        if said == "modbus":
            found[name] = ("modbus-tcp", "modbus-rtu")
        elif said == "cjt188":
            found[name] = ("cjt188",)
        elif said.startswith("dlt645"):
            found[name] = ("dlt645",)
    return found | dict.fromkeys(_formats(), ("mqtt",))


@cache
def mqtt_media() -> Mapping[str, str]:
    """Return the profiles of MQTT meters that simulators can play, with their media."""
    return {name: profile.medium for name, profile in load_mqtt_profiles().items() if name in _formats()}


def format_of(profile: str) -> FormatName:
    """Return the format in which simulated meters of an MQTT profile send."""
    return _formats()[profile]


def wire_faults(scenario: Scenario) -> Iterator[Fault]:
    """Yield what cannot be: profile and protocol that do not fit, events that a wire cannot show."""
    words = words_of_profiles()
    for number, group in enumerate(scenario.fleet):
        fitting = words.get(group.profile, ())
        if group.protocol not in fitting:
            said = " or ".join(fitting) or "no protocol that scenarios have"
            yield ("fleet", number, "protocol"), group.protocol, f"meters of {group.profile} speak {said}"
    for number, event in enumerate(scenario.event):
        for rest, value, why in _event_faults(scenario, event):
            yield ("event", number, *rest), value, why


def _event_faults(scenario: Scenario, event: Event) -> Iterator[Fault]:
    if event.kind in LINK_KINDS and event.gateway and scenario.broker == "wire":
        yield ("kind",), event.kind, 'at a gateway it needs broker = "memory"'
    here = WIRES_OF.get(event.kind)
    for group, names in _struck(scenario, event):
        if here is not None and group.protocol not in here:
            yield ("kind",), event.kind, f"{names} speak {group.protocol}; it shows on {', '.join(sorted(here))} only"
        if event.kind == "address_clash" and (group.per_bus == 1 or group.count == 1):
            yield ("kind",), event.kind, f"{names} hang alone on their bus; two meters are needed"


def _struck(scenario: Scenario, event: Event) -> Iterator[tuple[Group, str]]:
    """Yield the groups that an event touches on their wires, and what to call their meters."""
    if event.kind not in METER_KINDS and not event.bus:
        return
    for group in scenario.fleet:
        mine = [name for name in event.meters if name.rpartition("-")[0] == group.name]
        if event.group == group.name or event.bus.rpartition("-b")[0] == group.name or mine:
            yield group, ", ".join(mine) or f"meters of {group.name}"


@cache
def _formats() -> Mapping[str, FormatName]:
    return {form.profile: name for name, form in FORMATS.items() if form.write is not None}
