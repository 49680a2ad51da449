"""What a scenario is: a fleet, its weather, and a script of what happens, as TOML (docs/simulate.md).

Everything in it follows from the seed; two runs of one file are the same city. Mistakes are told all at once, with
file, line, path, value and what is allowed.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Annotated, Final, Literal
from zoneinfo import ZoneInfo

from pydantic import Field, model_validator

from metering.clock import parse_day
from metering.errors import SettingsError
from metering.settings import SettingsModel, load, locate, nearest, read_text
from simulators.fleet.model import CustomerClass, Medium
from simulators.fleet.population import HABITS
from simulators.scenario_calendar import CalendarSettings, check_calendar
from simulators.scenario_checks import mqtt_media, wire_faults
from simulators.scenario_events import KILL_MS, KILLS, MOMENT_MS, MOMENTS, Event, ProtocolWord

_NAME: Final = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"
Name = Annotated[str, Field(min_length=1, max_length=40, pattern=_NAME)]


class Spell(SettingsModel):
    """Some days of another weather, from `day` [d] after the start on. warmer_c: [°C] more, negative is less."""

    day: Annotated[float, Field(ge=0, le=3660)]
    for_days: Annotated[float, Field(gt=0, le=3660)]
    warmer_c: Annotated[float, Field(ge=-40, le=40)]


class Weather(SettingsModel):
    """The city's days. warmer_c: [°C] added to the daily means of a northern Chinese city. spell: other days."""

    warmer_c: Annotated[float, Field(ge=-40, le=40)] = 0.0
    spell: tuple[Spell, ...] = ()


class Group(SettingsModel):
    """Meters of one sort behind one gateway.

    habit: how its customers live (one of `simulators.fleet.population.HABITS`), drawn for each when absent.
    per_bus: meters behind one Modbus TCP address, on one pair of wires, or in one MQTT process. interval_s: between
    two polls, or two messages. line: a serial bus is a pseudo-terminal, or a serial-to-TCP box. baud: [bit/s] of its
    wires. pace: bytes take their time on the wires. echo: the adapter hears what it sends.
    """

    name: Name
    count: Annotated[int, Field(ge=1, le=100_000)]
    medium: Medium
    customer_class: CustomerClass
    profile: str
    protocol: ProtocolWord = "modbus-tcp"
    line: Literal["pty", "tcp"] = "pty"
    baud: Literal[300, 600, 1200, 2400, 4800, 9600, 19200, 38400, 115200] = 9600
    pace: bool = True
    echo: bool = False
    habit: str = ""
    district: Name = "D1"
    gateway: Annotated[str, Field(max_length=48, pattern=_NAME)] = "gw-1"
    per_bus: Annotated[int, Field(ge=1, le=247)] = 32
    interval_s: Annotated[int, Field(ge=1, le=86_400)] = 3_600

    @model_validator(mode="after")
    def _somebody_lives_like_that(self) -> Group:
        habits = [name for name, _ in HABITS.get((self.medium, self.customer_class), ())]
        if not habits:
            there = ", ".join(f"{medium} {who}" for medium, who in HABITS)
            raise ValueError(f"no consumption is known for {self.medium} {self.customer_class}; allowed: {there}")
        if self.habit and self.habit not in habits:
            raise ValueError(f'habit "{self.habit}" is unknown; allowed: {", ".join(habits)}')
        return self


class Scenario(SettingsModel):
    """A whole story. start: first local day. history_days: [d] before it whose readings the store holds already, so
    that rules know the customers and periods have their opening index. bill: period that is billed at the end.
    broker: in memory, or a real one in a process of its own on the wire.

    gather_s: [s] for which gateways gather rows into one message; virtual time makes many small ones dear.
    """

    title: Annotated[str, Field(min_length=1, max_length=200)]
    purpose: Annotated[str, Field(min_length=1, max_length=1000)]
    seed: Annotated[int, Field(ge=0, le=2**31)]
    start: date
    days: Annotated[float, Field(gt=0, le=3660)]
    tz: str = "Asia/Shanghai"
    broker: Literal["memory", "wire"] = "memory"
    gather_s: Annotated[float, Field(ge=0, le=3600)] = 300.0
    bill: Annotated[str, Field(pattern=r"^(\d{4}-(0[1-9]|1[0-2]))?$")] = ""
    history_days: Annotated[int, Field(ge=0, le=120)] = 0
    weather: Weather = Weather()
    calendar: CalendarSettings = CalendarSettings()
    fleet: Annotated[tuple[Group, ...], Field(min_length=1)]
    event: tuple[Event, ...] = ()

    @property
    def start_ms(self) -> int:
        """[ms UTC] local midnight of the first day."""
        return parse_day(self.start.isoformat(), self.tz)

    @property
    def end_ms(self) -> int:
        """[ms UTC]."""
        return self.start_ms + round(self.days * 86_400_000)

    def span(self, event: Event) -> tuple[int, int]:
        """Return [ms UTC] from and to of an event, within the run."""
        begin = self.start_ms + round(event.day * 86_400_000)
        if event.kind in MOMENTS:
            return begin, begin + MOMENT_MS
        if event.for_days is not None:
            end = begin + round(event.for_days * 86_400_000)
        else:
            end = begin + KILL_MS if event.kind in KILLS else self.end_ms
        return begin, min(end, self.end_ms)


def load_scenario(path: Path, *, profiles: Mapping[str, str]) -> Scenario:
    """Read and check a scenario. profiles: what a group's profile may be, with its medium. Raises: SettingsError."""
    scenario = load(path, Scenario)
    lines = locate(read_text(path))
    problems = [
        f"{path.name}:{lines.get(place, lines.get(place[:2], 1))}: {_dotted(place)} = {value}: {why}"
        for place, value, why in _faults(scenario, {**mqtt_media(), **profiles})
    ]
    if problems:
        raise SettingsError(problems)
    return scenario


Fault = tuple[tuple[str | int, ...], object, str]


def _faults(scenario: Scenario, profiles: Mapping[str, str]) -> list[Fault]:
    found: list[Fault] = []
    try:
        ZoneInfo(scenario.tz)
    except (KeyError, ValueError, OSError):
        found.append((("tz",), scenario.tz, "no such time zone; write for example Asia/Shanghai"))
        return found
    found += [(("calendar", name), value, why) for name, value, why in check_calendar(scenario.calendar)]
    names: set[str] = set()
    for number, group in enumerate(scenario.fleet):
        at: tuple[str | int, ...] = ("fleet", number)
        if group.profile not in profiles:
            found.append(
                ((*at, "profile"), group.profile, f"no such profile; {nearest(group.profile, list(profiles))}")
            )
        elif profiles[group.profile] != group.medium:
            found.append(((*at, "profile"), group.profile, f"is for {profiles[group.profile]}, not {group.medium}"))
        if group.name in names:
            found.append(((*at, "name"), group.name, "stands there twice; every group needs its own"))
        names.add(group.name)
    for number, event in enumerate(scenario.event):
        found += [(("event", number, *rest), value, why) for rest, value, why in _event_faults(scenario, event)]
    return found or list(wire_faults(scenario))


def _event_faults(scenario: Scenario, event: Event) -> list[Fault]:
    found: list[Fault] = []
    groups = {group.name: group for group in scenario.fleet}
    if event.day >= scenario.days:
        found.append((("day",), event.day, f"begins at or after the end of the run; less than {scenario.days:g}"))
    if event.group and event.group not in groups:
        found.append((("group",), event.group, f"no such group; {nearest(event.group, list(groups))}"))
    elif event.group and event.count is not None and event.count > groups[event.group].count:
        found.append((("count",), event.count, f"the group has {groups[event.group].count} meters"))
    for name, given, there in (
        ("meters", event.meters, meter_names(scenario)),
        ("bus", (event.bus,) if event.bus else (), bus_names(scenario)),
        ("gateway", (event.gateway,) if event.gateway else (), [group.gateway for group in scenario.fleet]),
    ):
        known = set(there)
        found += [((name,), one, f"there is none; {nearest(one, list(there))}") for one in given if one not in known]
    return found


def meter_names(scenario: Scenario) -> list[str]:
    """Return the names of all meters: group and number from 1, `flats-0001`."""
    return [f"{group.name}-{n:04}" for group in scenario.fleet for n in range(1, group.count + 1)]


def bus_names(scenario: Scenario) -> list[str]:
    """Return the names of all buses: group and number from 1, `flats-b1`."""
    return [f"{g.name}-b{n}" for g in scenario.fleet for n in range(1, -(-g.count // g.per_bus) + 1)]


def _dotted(place: tuple[str | int, ...]) -> str:
    text = ""
    for part in place:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text
