"""`metergate simulate`: a scenario played by the whole chain on a virtual clock, and a report against the truth."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Final
from zoneinfo import ZoneInfo

import typer

from gateway.profiles import load_profiles
from metergate.console import EXIT_FAILED, emit, errors_as_words, say
from metergate.logs import LogSettings, configure
from metergate.virtual import VirtualHouse
from metergate.virtual_report import problems, report, words, write_truth
from metergate.virtual_time import VirtualClock, VirtualLoop
from metergate.workplace import workplace
from metering.clock import Clock, SystemClock, rfc3339
from simulators.scenario import Scenario, load_scenario

_WATCH_S: Final = 6 * 3600.0
_WATCH_REAL_S: Final = 10.0


def simulate(
    scenario: Annotated[Path, typer.Argument(help="Scenario file (TOML); some ship in scenarios/.")],
    folder: Annotated[Path, typer.Option("--folder", help="New folder for this run.")] = Path("var/simulate"),
    seed: Annotated[int | None, typer.Option(help="Another city of the same story.", min=0)] = None,
    days: Annotated[float | None, typer.Option(help="End earlier, after so many days.", min=0.01)] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Say how far it is, and how long it will take.")] = False,
    real_time: Annotated[bool, typer.Option("--real-time", help="Play it by the host's clock, from now.")] = False,
) -> None:
    """Play a scenario with every timer and calendar in virtual time, and hold the result against the truth.

    Example: metergate simulate scenarios/city-month.toml --folder var/month --watch
    """
    with errors_as_words():
        story = load_scenario(scenario, profiles={name: p.medium for name, p in load_profiles().items()})
        changes = {"seed": seed, "days": days}
        story = story.model_copy(update={name: value for name, value in changes.items() if value is not None})
        configure(LogSettings(level="error"), "simulate")
        with workplace(folder) as place:
            found = report(play(story, place, watch=watch, real_time=real_time))
        emit(json.dumps(found, ensure_ascii=False))
        wrong = problems(found)
        say(words(found))
        for line in wrong:
            say(f"broken: {line}")
        say(f"report and exports in {folder}")
    if wrong:
        raise typer.Exit(EXIT_FAILED)


def play(story: Scenario, folder: Path, *, watch: bool = False, real_time: bool = False) -> VirtualHouse:
    """Run a scenario to its end and return its house. Raises: MetergateError.

    real_time: by the host's clock; the story then begins at the last midnight, and rows are handed on at once.
    """
    clock: Clock = VirtualClock(story.start_ms)
    if real_time:
        clock = SystemClock()
        today = datetime.fromtimestamp(clock.now_ms() / 1000, UTC).astimezone(ZoneInfo(story.tz)).date()
        story = story.model_copy(update={"start": today, "gather_s": 1.0})
    house = VirtualHouse(story, folder, clock)
    write_truth(house)
    work = house.run(_Progress(story) if watch else None, _WATCH_REAL_S if real_time else _WATCH_S)
    if isinstance(clock, VirtualClock):
        virtual = clock
        with asyncio.Runner(loop_factory=lambda: VirtualLoop(virtual)) as runner:
            runner.run(work)
    else:
        asyncio.run(work)
    return house


class _Progress:
    """Says how far a run is, and by its speed so far how long it will take."""

    def __init__(self, story: Scenario) -> None:
        self._story, self._host = story, SystemClock()
        self._began = self._host.monotonic()

    def __call__(self, house: VirtualHouse) -> None:
        done_ms = house.clock.now_ms() - self._story.start_ms
        share = done_ms / (self._story.end_ms - self._story.start_ms)
        took = self._host.monotonic() - self._began
        left = f", about {took / share - took:.0f} s left" if share > 0 else ""
        polls = sum(gateway.poller.counters["polls"] for gateway in house.gateways.values())
        waiting = sum(gateway.outbox.held.count for gateway in house.gateways.values())
        say(
            f"{rfc3339(house.clock.now_ms())} {share:.0%}: {polls} polls, {waiting} rows under way, "
            f"{house.orders_opened} orders{left}"
        )
