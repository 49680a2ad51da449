"""Scenarios for tests: their fleets, and one played to its end once for many tests that look at what came of it."""

from __future__ import annotations

import json
from collections import Counter
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from metergate.commands.simulate import play
from metergate.virtual import VirtualHouse
from metergate.virtual_report import problems, report
from metergate.workplace import workplace
from metering.clock import parse_rfc3339
from metering.settings import parse
from registry.database import Database
from registry.models import EventRecord
from simulators.answer_log import Answer, read_answers
from simulators.scenario import Scenario


@dataclass
class World:
    """What a run left. events: of gateways, by meter ("" for those of a gateway) and kind, with their causes."""

    house: VirtualHouse
    report: dict[str, Any]
    problems: list[str]
    answers: list[Answer]
    readings: list[dict[str, Any]]
    events: list[Any]

    def outcomes(self, meter: str) -> Counter[str]:
        """Count what a meter's answers were."""
        return Counter(answer.outcome for answer in self.answers if answer.meter == meter)

    def stored(self, meter: str) -> list[dict[str, Any]]:
        """Return a meter's readings by time."""
        return [row for row in self.readings if row["meter"] == meter]

    def causes(self, meter: str, kind: str = "read_failed") -> set[str]:
        """Return why reads of a meter failed, as its gateway said."""
        return {row.cause for row in self.events if row.meter == meter and row.kind == kind}

    def day(self, moment: str) -> float:
        """Return a time as days after the start."""
        return (parse_rfc3339(moment) - self.house.scenario.start_ms) / 86_400_000


def fleet(name: str, count: int, medium: str, profile: str, **more: object) -> str:
    """Return the lines of a scenario for one fleet of homes that is read every half hour. more: further keys."""
    known = {"name": name, "count": count, "medium": medium, "customer_class": "residential", "profile": profile}
    keys = known | {"interval_s": 1800} | more
    return "[[fleet]]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in keys.items())


def play_world(text: str, folder: Path, **changes: Any) -> World:
    """Play a scenario to its end."""
    story = parse(text, Scenario, name="world.toml").model_copy(update=changes)
    with workplace(folder) as place:
        house = play(story, place)
        said = report(house)
    with closing(Database(f"sqlite:///{folder / 'registry.db'}")) as database, database.read() as connection:
        events = list(connection.execute(sa.select(EventRecord)).all())
    readings = [json.loads(line) for line in (folder / "readings.jsonl").read_text().splitlines()]
    return World(house, said, problems(said), list(read_answers(folder / "answers.tsv")), readings, events)
