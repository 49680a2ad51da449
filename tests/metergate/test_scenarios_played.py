"""Every scenario that ships, played in small: half a day with a tenth of the city, held against the truth."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.profiles import load_profiles
from metergate.commands.simulate import play
from metergate.virtual_report import problems, report, words
from metergate.workplace import workplace
from simulators.scenario import Scenario, load_scenario

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "scenarios").glob("*.toml"))
MANY = 200


def in_small(story: Scenario) -> Scenario:
    """Half a day and two days of past; of a large city a tenth, with one meter for each event."""
    update: dict[str, object] = {
        "days": 0.5,
        "history_days": min(2, story.history_days),
        "bill": "",
        "gather_s": 900.0,
    }
    if sum(group.count for group in story.fleet) > MANY:
        update["fleet"] = tuple(g.model_copy(update={"count": max(8, g.count // 10)}) for g in story.fleet)
        update["event"] = tuple(e.model_copy(update={"count": 1}) for e in story.event if e.group)
    return story.model_copy(update=update)


@pytest.mark.long
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_half_a_day_of_every_scenario_breaks_no_promise(path: Path, tmp_path: Path) -> None:
    story = in_small(load_scenario(path, profiles={name: p.medium for name, p in load_profiles().items()}))
    with workplace(tmp_path / "run") as place:
        found = report(play(story, place))
    assert problems(found) == [], words(found)
    assert found["stored"]["readings"] > 0
    assert f"{story.title}, seed {story.seed}" in (tmp_path / "run" / "report.txt").read_text("utf-8")
