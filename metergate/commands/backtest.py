"""`metergate backtest`: a grid of thresholds over a period of files; scores, flips and an HTML report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from anomaly.backtest import Trial, combinations, flips, observed_days, read_grid
from anomaly.backtest import backtest as run_trials
from anomaly.files import between, read_meters, read_readings, read_weather, write_text
from anomaly.report import page
from anomaly.scoring import read_labels
from anomaly.thresholds import load_thresholds
from metergate.console import emit, errors_as_words, say


def backtest(
    meters: Annotated[Path, typer.Option("--meters", help="Master data: CSV, CSV.gz or Parquet.")],
    readings: Annotated[Path, typer.Option("--readings", help="Readings of the period, in the form of detect.")],
    report: Annotated[Path, typer.Option("--report", help="The HTML page to write.")],
    grid: Annotated[Path | None, typer.Option("--grid", help='TOML: "rule.threshold" = [values to try].')] = None,
    labels: Annotated[Path | None, typer.Option("--labels", help="Known events (labels.csv), for scores.")] = None,
    ordinary: Annotated[
        Path | None, typer.Option("--ordinary", help="Ordinary situations (hard_negatives.csv), for the page.")
    ] = None,
    params: Annotated[Path | None, typer.Option("--params", help="Thresholds (TOML) laid over the defaults.")] = None,
    weather: Annotated[Path | None, typer.Option("--weather", help="Daily mean temperature.")] = None,
    since: Annotated[str, typer.Option("--from", help="First arrival that counts: 2026-03-01T00:00:00+08:00.")] = "",
    until: Annotated[str, typer.Option("--until", help="First arrival that counts no more.")] = "",
) -> None:
    """Try thresholds on a past period: alarms per rule, recall, precision, delay, and which meters flip.

    Example: metergate backtest --meters meters.csv --readings readings.csv.gz --grid grid.toml --report page.html
    """
    with errors_as_words():
        thresholds = load_thresholds(params)
        trials = combinations(read_grid(grid, thresholds)) if grid is not None else [{}]
        table, warnings = read_meters(meters)
        known = read_labels(labels, ordinary) if labels is not None else None
        temperatures = read_weather(weather) if weather is not None else None
        rows = between(read_readings(readings, table), since, until)
        for line in warnings:
            say(line)
        done = run_trials(
            table,
            rows,
            thresholds,
            trials,
            labels=known,
            meter_days=observed_days(rows),
            weather=temperatures,
            progress=say,
        )
        write_text(report, page(done, title=f"Back-test of {readings.name}"))
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
