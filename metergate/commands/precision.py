"""`metergate precision`: how often each rule was right, from what crews found on site."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from api.orders.precision import precision as measure
from metergate.console import emit, errors_as_words, say
from metergate.periods import SinceOption, UntilOption
from metergate.running import ConfigOption, registry
from metergate.settings import load_settings
from metering.errors import SettingsError
from registry.books import moment


def precision(
    rule: Annotated[str, typer.Option(help="Only this rule.")] = "",
    since: SinceOption = "",
    until: UntilOption = "",
    config: ConfigOption = None,
) -> None:
    """Print a line for each rule, customer class and month: right, wrong, something else, not looked at.

    Example: metergate precision --from 2026-01-01 --rule burst
    """
    with errors_as_words():
        settings = load_settings(config)
        zone = settings.orders.tz
        t0, t1 = _moment("--from", since, zone), _moment("--to", until, zone)
        with registry(settings) as database, database.read() as connection:
            lines = measure(connection, rule=rule or None, since_ms=t0, until_ms=t1, tz=zone)
        for line in lines:
            shown = {name: getattr(line, name) for name in line.__slots__}
            share = None if line.precision is None else round(line.precision, 4)
            emit(json.dumps({**shown, "precision": share}, ensure_ascii=False))
        looked = sum(line.true + line.false + line.other_cause for line in lines)
        say(f"{looked} findings were looked at; {sum(line.true for line in lines)} of them were right")


def _moment(option: str, text: str, zone: str) -> int | None:
    if not text:
        return None
    try:
        return moment(text.replace("Z", "+00:00"), zone)
    except ValueError as error:
        raise SettingsError(f"{option} {text}: write a date such as 2026-01-01 or a time with offset") from error
