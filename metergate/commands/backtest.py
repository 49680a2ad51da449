"""`metergate backtest`: a grid of thresholds over files or a stored period; scores, flips and an HTML report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from anomaly.backtest import Trial, combinations, flips, observed_days, read_grid
from anomaly.backtest import backtest as run_trials
from anomaly.files import read_weather, write_text
from anomaly.report import page
from anomaly.scoring import read_labels
from anomaly.thresholds import load_thresholds
from metergate.console import emit, errors_as_words, say
from metergate.periods import MetersOption, ReadingsOption, SinceOption, UntilOption, open_period
from metergate.running import ConfigOption
from metering.errors import SettingsError


def backtest(
    meters: MetersOption = None,
    readings: ReadingsOption = None,
    report: Annotated[Path | None, typer.Option("--report", help="An HTML page to write.")] = None,
    grid: Annotated[Path | None, typer.Option("--grid", help='TOML: "rule.threshold" = [values to try].')] = None,
    labels: Annotated[Path | None, typer.Option("--labels", help="Known events (labels.csv), for scores.")] = None,
    found: Annotated[
        bool, typer.Option("--found", help="Score by what crews found (labels of work orders) in a stored period.")
    ] = False,
    ordinary: Annotated[
        Path | None, typer.Option("--ordinary", help="Ordinary situations (hard_negatives.csv), for the page.")
    ] = None,
    params: Annotated[Path | None, typer.Option("--params", help="Thresholds (TOML) laid over the defaults.")] = None,
    weather: Annotated[Path | None, typer.Option("--weather", help="Daily mean temperature.")] = None,
    config: ConfigOption = None,
    since: SinceOption = "",
    until: UntilOption = "",
) -> None:
    """Try thresholds on a past period: alarms per rule, recall, precision, delay, and which meters flip.

    Example: metergate backtest --meters meters.csv --readings readings.csv.gz --grid grid.toml --report page.html
    Example: metergate backtest --config metergate.toml --from 2026-01-01 --to 2026-03-01 --grid grid.toml
    Example: metergate backtest --config metergate.toml --from 2026-01-01 --to 2026-03-01 --found
    """
    with errors_as_words():
        thresholds = load_thresholds(params)
        trials = combinations(read_grid(grid, thresholds)) if grid is not None else [{}]
        known = read_labels(labels, ordinary) if labels is not None else None
        temperatures = read_weather(weather) if weather is not None else None
        if found and known is not None:
            raise SettingsError("either --labels or --found: not both")
        period = open_period(meters, readings, config, since, until, found=found)
        done = run_trials(
            period.table,
            period.rows,
            thresholds,
            trials,
            labels=known or period.found,
            meter_days=observed_days(period.rows),
            weather=temperatures,
            progress=say,
        )
        if report is not None:
            write_text(report, page(done, title=f"Back-test of {period.name}"))
        for trial in done:
            emit(json.dumps(_line(trial, done[0])))


def _line(trial: Trial, base: Trial) -> dict[str, Any]:
    new, gone = flips(base, trial)
    line: dict[str, Any] = {"trial": trial.name, "values": trial.values, "alarms": trial.alarms}
    line["alarms_per_1000_month"] = {rule: round(value, 2) for rule, value in trial.per_1000.items()}
    line["flips"] = {"new": [list(pair) for pair in new], "gone": [list(pair) for pair in gone]}
    if trial.score is not None:
        s = trial.score
        line["score"] = {
            "recall": round(s.recall, 4),
            "precision": round(s.precision, 4),
            "micro_f1": round(s.micro_f1, 4),
            "macro_f1": round(s.macro_f1, 4),
            "false_per_1000_month": round(s.false_per_1000, 2),
            "kinds": {
                kind: {
                    "recall": round(k.recall, 4),
                    "precision": round(k.precision, 4),
                    "delay_h": None if k.delay_h is None else round(k.delay_h, 2),
                }
                for kind, k in s.kinds.items()
            },
        }
    return line
