"""`metergate detect`: the rules over files or a stored period; findings come out as JSON lines."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from anomaly.files import read_weather, write_findings
from anomaly.run import run
from anomaly.thresholds import load_thresholds
from metergate.console import emit, errors_as_words
from metergate.periods import MetersOption, ReadingsOption, SinceOption, UntilOption, open_period
from metergate.running import ConfigOption


def detect(
    out: Annotated[Path, typer.Option("--out", help="Findings, one JSON object per line.")],
    meters: MetersOption = None,
    readings: ReadingsOption = None,
    params: Annotated[Path | None, typer.Option("--params", help="Thresholds (TOML) laid over the defaults.")] = None,
    weather: Annotated[
        Path | None, typer.Option("--weather", help="Daily mean temperature (columns date, temp_avg_c).")
    ] = None,
    quick: Annotated[
        bool,
        typer.Option("--quick", help="Ask the quick rules at each arrival too, as the live service does; slower."),
    ] = False,
    config: ConfigOption = None,
    since: SinceOption = "",
    until: UntilOption = "",
) -> None:
    """Find leaks, rest, reverse flow and the like in a period, as a live system would have, in order of arrival.

    Example: metergate detect --meters meters.csv --readings readings.csv.gz --out findings.jsonl
    """
    with errors_as_words():
        thresholds = load_thresholds(params)
        temperatures = read_weather(weather) if weather is not None else None
        period = open_period(meters, readings, config, since, until)
        table, rows = period.table, period.rows
        engine = run(table, rows, thresholds, weather=temperatures, quick=quick)
        write_findings(out, engine.book.findings)
        kinds = Counter(finding.kind for finding in engine.book.findings)
        summary = {
            "meters": len(table),
            "readings": len(rows),
            "findings": len(engine.book.findings),
            "withdrawn": sum(finding.withdrawn_s is not None for finding in engine.book.findings),
            "unknown_meters": rows.unknown_meters,
            "bad_clocks": engine.bad_clocks,
            "conflicts": sum(shard.grid.conflicts for shard in engine.shards),
            "too_old": sum(shard.grid.too_old for shard in engine.shards),
            "kinds": dict(sorted(kinds.items())),
        }
        emit(json.dumps(summary))
