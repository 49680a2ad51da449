"""`metergate validate METER…`: every doubt about stored readings, with rule and version, as JSON lines."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict
from typing import Annotated

import typer

from metergate.console import emit, errors_as_words, say
from metergate.running import ConfigOption, registry
from metergate.settings import load_settings
from metergate.stores import make_store
from metering.clock import SystemClock, parse_day, parse_rfc3339, rfc3339
from metering.errors import SettingsError
from registry import validation


def validate(
    meters: Annotated[list[str], typer.Argument(help="Ids of meters.")],
    start: Annotated[str, typer.Option("--from", help="First day (UTC) or time with offset.")],
    end: Annotated[str, typer.Option("--to", help="Day or time at which to stop, not included.")],
    config: ConfigOption = None,
) -> None:
    """Judge stored readings again: steps of the index, the meter's clock, where it hung. Changes nothing.

    Example: metergate validate G-HH-0001 --from 2026-03-01 --to 2026-04-01
    """
    with errors_as_words():
        settings = load_settings(config)
        t0, t1 = _moment(start), _moment(end)
        with registry(settings) as database:
            store = make_store(settings.store, "read", SystemClock())
            try:
                with database.read() as connection:
                    facts = validation.load_facts(connection, meters)
                    found = list(validation.conflicts(connection, meters, t0, t1))
                counts: Counter[str] = Counter()
                for result in [*found, *validation.validate(store.range(sorted(meters), t0, t1), facts)]:
                    counts[result.rule] += 1
                    emit(json.dumps(asdict(result) | {"read_at": rfc3339(result.read_at)}, ensure_ascii=False))
            finally:
                store.close()
        say(", ".join(f"{rule}: {count}" for rule, count in sorted(counts.items())) or "nothing to doubt")


def _moment(text: str) -> int:
    try:
        return parse_day(text) if len(text) == 10 else parse_rfc3339(text)
    except ValueError as error:
        raise SettingsError(f"{text}: write 2026-03-01 or 2026-03-01T00:00:00+08:00") from error
