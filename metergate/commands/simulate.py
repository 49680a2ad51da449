"""`metergate simulate`: a scenario played by the whole chain on a virtual clock, and a report against the truth."""

from __future__ import annotations

import asyncio
import json
from contextlib import nullcontext
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Final
from zoneinfo import ZoneInfo

import typer

from gateway.profiles import load_profiles
from metergate.console import EXIT_FAILED, emit, errors_as_words, say
from metergate.logs import LogSettings, configure
from metergate.virtual import VirtualHouse
from metergate.virtual_pace import PacedClock
from metergate.virtual_report import problems, report, words, write_truth
from metergate.virtual_time import VirtualClock, VirtualLoop
from metergate.virtual_watch import Onlooker
from metergate.workplace import fresh, workplace
from metering.clock import Clock, SystemClock
from simulators.scenario import Scenario, load_scenario

_WATCH_S: Final = 6 * 3600.0
_WATCH_REAL_S: Final = 10.0


def simulate(
    scenario: Annotated[Path, typer.Argument(help="Scenario file (TOML); some ship in scenarios/.")],
    folder: Annotated[Path, typer.Option("--folder", help="New folder for this run.")] = Path("var/simulate"),
    seed: Annotated[int | None, typer.Option(help="Another city of the same story.", min=0)] = None,
    days: Annotated[float | None, typer.Option(help="End earlier, after so many days.", min=0.01)] = None,
    watch: Annotated[
        bool, typer.Option("--watch", help="Say how far it is, what happens, how long it takes.")
    ] = False,
    speed: Annotated[
        float | None,
        typer.Option(help="Keep a pace, such as 1 or 60 times the clock, and take orders from `inject`.", min=0.1),
    ] = None,
    real_time: Annotated[bool, typer.Option("--real-time", help="Play it by the host's clock, from now.")] = False,
) -> None:
    """Play a scenario with every timer and calendar in virtual time, and hold the result against the truth.

    With --speed or --real-time faults are injected while it runs: metergate inject … --folder FOLDER. Ctrl-C ends
    such a run early, with its report.

    Example: metergate simulate scenarios/city-month.toml --folder var/month --watch
    """
    with errors_as_words():
        story = load_scenario(scenario, profiles={name: p.medium for name, p in load_profiles().items()})
        changes = {"seed": seed, "days": days}
        story = story.model_copy(update={name: value for name, value in changes.items() if value is not None})
        configure(LogSettings(level="error"), "simulate")
        attended = speed is not None or real_time
        with nullcontext(fresh(folder)) if attended else workplace(folder) as place:
            found = report(play(story, place, watch=watch, speed=speed, real_time=real_time))
        emit(json.dumps(found, ensure_ascii=False))
        wrong = problems(found)
        say(words(found))
        for line in wrong:
            say(f"broken: {line}")
        say(f"report and exports in {folder}")
    if wrong:
        raise typer.Exit(EXIT_FAILED)


def play(
    story: Scenario, folder: Path, *, watch: bool = False, speed: float | None = None, real_time: bool = False
) -> VirtualHouse:
    """Run a scenario to its end and return its house. Raises: MetergateError.

    speed: virtual seconds a second at most; None is as fast as it goes. real_time: by the host's clock; the story
    then begins at the last midnight. With either, meters take orders and rows are handed on at once.
    """
    clock: Clock = VirtualClock(story.start_ms)
    if real_time:
        clock = SystemClock()
        today = datetime.fromtimestamp(clock.now_ms() / 1000, UTC).astimezone(ZoneInfo(story.tz)).date()
        story = story.model_copy(update={"start": today, "gather_s": 1.0})
    elif speed is not None:
        clock = PacedClock(story.start_ms, speed=speed, host=SystemClock())
        story = story.model_copy(update={"gather_s": min(story.gather_s, max(1.0, speed))})
    attended = real_time or speed is not None
    house = VirtualHouse(story, folder, clock, control=attended)
    write_truth(house)
    onlooker = Onlooker(story, tells=watch, control=attended) if watch or attended else None
    work = house.run(onlooker, _WATCH_REAL_S * (speed or 1.0) if attended else _WATCH_S)
    if isinstance(clock, VirtualClock):
        virtual = clock
        with asyncio.Runner(loop_factory=lambda: VirtualLoop(virtual)) as runner:
            runner.run(work)
    else:
        asyncio.run(work)
    return house
