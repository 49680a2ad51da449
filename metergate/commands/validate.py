"""`metergate validate`: every doubt about stored readings, as JSON lines; `metergate validation`: its rules."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import asdict
from typing import Annotated, Any, Final

import typer

from metergate.administration import desk
from metergate.console import emit, errors_as_words, say
from metergate.running import ConfigOption, registry
from metergate.settings import load_settings
from metergate.stores import make_store
from metering.clock import SystemClock, parse_day, parse_rfc3339, rfc3339
from metering.errors import SettingsError
from metering.store import ReadingStore
from registry import validation, validation_rules
from registry.database import Database
from registry.validation_rules import Rule

_METERS: Final = 500
"""Meters that are looked at together: memory stays flat in a city."""

validation_app = typer.Typer(no_args_is_help=True, help="Rules of validation 校验规则: list them, change one.")


def validate(
    start: Annotated[str, typer.Option("--from", help="First day (UTC) or time with offset.")],
    end: Annotated[str, typer.Option("--to", help="Day or time at which to stop, not included.")],
    meters: Annotated[list[str] | None, typer.Argument(help="Ids of meters; left out: all of the books.")] = None,
    config: ConfigOption = None,
) -> None:
    """Judge stored readings again: steps of the index, the meter's clock, where it hung. Changes nothing.

    Example: metergate validate G-HH-0001 --from 2026-03-01 --to 2026-04-01

    Example: metergate validate --from 2026-03-01 --to 2026-04-01
    """
    with errors_as_words():
        settings = load_settings(config)
        t0, t1 = _moment("--from", start), _moment("--to", end)
        if t1 <= t0:
            raise SettingsError(f"--from {start} --to {end}: the period must have a length")
        counts: Counter[str] = Counter()
        with registry(settings) as database, closing(make_store(settings.store, "read", SystemClock())) as store:
            with database.read() as connection:
                rules = validation_rules.in_force(connection)
            for part in _parts(database, meters or []):
                for result in _judged(database, store, part, t0, t1, rules):
                    counts[f"{result.rule} v{result.version}"] += 1
                    emit(json.dumps(asdict(result) | {"read_at": rfc3339(result.read_at)}, ensure_ascii=False))
        say(", ".join(f"{rule}: {count}" for rule, count in sorted(counts.items())) or "nothing to doubt")


def _parts(database: Database, named: Sequence[str]) -> Iterator[list[str]]:
    """Yield the meters to look at, some hundred at a time, in order."""
    wanted = sorted(set(named))
    for first in range(0, len(wanted), _METERS):
        yield wanted[first : first + _METERS]
    after: str | None = None if wanted else ""
    while after is not None:
        with database.read() as connection:
            part = validation.meters_after(connection, after, _METERS)
        if part:
            yield part
        after = part[-1] if len(part) == _METERS else None


def _judged(
    database: Database, store: ReadingStore, meters: Sequence[str], t0: int, t1: int, rules: Sequence[Rule]
) -> Iterator[validation.Result]:
    with database.read() as connection:
        facts = validation.load_facts(connection, meters)
        found = list(validation.conflicts(connection, meters, t0, t1, rules))
    yield from found
    yield from validation.validate(store.range(meters, t0, t1), facts, rules=rules)


@validation_app.command("list")
def list_rules(config: ConfigOption = None) -> None:
    """Print every version of every rule as a JSON line; of two that fit a reading, the later one judges.

    Example: metergate validation list
    """
    with desk(config, changes=False) as at_desk, at_desk.database.read() as connection:
        for row in validation_rules.told(connection):
            _show(row)


@validation_app.command("change")
def change(
    rule: Annotated[str, typer.Argument(help="Id of the rule, such as clock_off.")],
    valid_from: Annotated[str, typer.Option("--from", help="First day (UTC) or time with offset; not before now.")],
    reason: Annotated[str, typer.Option(help="Why; needed, and kept with your name.")],
    limits: Annotated[list[str] | None, typer.Argument(help='"limit=seconds", several of them.')] = None,
    off: Annotated[bool, typer.Option("--off", help="Let the rule rest from then on.")] = False,
    config: ConfigOption = None,
) -> None:
    """Make a new version of a rule for readings from a date on; former ones stay and judge what was read before.

    Example: metergate validation change clock_off most_s=600 --from 2026-04-01 --reason "meters are set weekly now"
    """
    at = _moment("--from", valid_from)
    with desk(config, changes=True) as at_desk, at_desk.database.begin() as connection:
        new = validation_rules.change_rule(
            connection, at_desk.actor, rule, valid_from=at, limits=dict(_pair(text) for text in limits or []),
            active=not off, reason=reason, now=at_desk.at,
        )  # fmt: skip
        for row in validation_rules.told(connection):
            if (row["rule"], row["version"]) == (new.id, new.version):
                _show(row)


def _show(row: dict[str, Any]) -> None:
    times = {name: rfc3339(value) if (value := row[name]) else None for name in ("valid_from", "made_at")}
    emit(json.dumps(row | times, ensure_ascii=False))


def _pair(text: str) -> tuple[str, int]:
    name, sign, value = text.partition("=")
    if not sign or not value.strip().isdecimal():
        raise SettingsError(f'{text}: write "limit=seconds", such as most_s=600')
    return name.strip(), int(value)


def _moment(option: str, text: str) -> int:
    try:
        return parse_day(text) if len(text) == 10 else parse_rfc3339(text)
    except ValueError as error:
        raise SettingsError(f"{option} {text}: write 2026-03-01 or 2026-03-01T00:00:00+08:00") from error
