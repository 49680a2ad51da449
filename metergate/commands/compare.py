"""`metergate compare`: what differs between two runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from metergate.console import EXIT_FAILED, emit, errors_as_words, say
from simulators.comparing import compare as compare_runs


def compare(
    a: Annotated[Path, typer.Argument(help="Folder (or one file) of a run.")],
    b: Annotated[Path, typer.Argument(help="The other run.")],
    most: Annotated[
        int, typer.Option(min=0, help="Differences of a file in words; all are on standard output.")
    ] = 20,
) -> None:
    """Compare readings, events, findings, orders, totals and counts of two runs; exit 1 when anything differs.

    A run is a folder of JSON lines or CSV (.gz): readings.jsonl, findings.jsonl, orders.jsonl, totals.csv, …

    Example: metergate compare before/ after/
    """
    with errors_as_words():
        found = compare_runs(a, b)
        for difference in found.differences:
            change = None if difference.change is None else {k: list(v) for k, v in difference.change.items()}
            line = {"file": difference.file, "key": list(difference.key), "only_in": difference.only_in or None}
            emit(json.dumps({**line, "change": change}, ensure_ascii=False, default=str))
        for sentence in found.summary():
            say(sentence)
        for sentence in found.in_words(most):
            say(f"  {sentence}")
        if not found.same:
            raise typer.Exit(EXIT_FAILED)
