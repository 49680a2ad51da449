"""`metergate export totals` and `metergate export reading-report`: billing's files, written with flat memory."""

from __future__ import annotations

import json
import os
from collections import defaultdict
from contextlib import closing
from pathlib import Path
from typing import Annotated, Final, Literal

import typer

from metergate.console import errors_as_words, say
from metergate.running import ConfigOption, registry
from metergate.settings import Settings, load_settings
from metergate.stores import make_store
from metering.clock import SystemClock
from metering.errors import SettingsError
from metering.store import ReadingStore
from registry.database import Database

_ENDINGS: Final = {".csv": "csv", ".xlsx": "xlsx", ".ndjson": "ndjson", ".jsonl": "ndjson", ".parquet": "parquet"}
_Kind = Literal["csv", "xlsx", "ndjson", "parquet", "nem13"]
PeriodArgument = Annotated[str, typer.Argument(help="Month in which the period ends, such as 2026-03.")]


def export_totals(
    period: PeriodArgument,
    out: Annotated[Path, typer.Argument(help="File to write: .csv, .xlsx, .ndjson or .parquet.")],
    kind: Annotated[_Kind | None, typer.Option("--format", help="Else the file's ending decides.")] = None,
    state: Annotated[
        Literal["billed", "doubtful", "missing", "excluded"] | None, typer.Option(help="Only this state.")
    ] = None,
    customer_class: Annotated[str | None, typer.Option("--class", help="Only this customer class.")] = None,
    medium: Annotated[str | None, typer.Option("--medium", help="Only this medium.")] = None,
    district: Annotated[str | None, typer.Option("--district", help="Only this district.")] = None,
    config: ConfigOption = None,
) -> None:
    """Write the stored totals of a period as a file. NEM13 holds billed electricity and nothing else.

    Example: metergate export totals 2026-03 march.xlsx --class residential
    Example: metergate export totals 2026-03 march-nem13.csv --format nem13
    """
    from api.billing import export
    from api.billing.lists import Filters

    with errors_as_words(), registry(load_settings(config)) as database:
        chosen = kind or _kind_of(out)
        filters = Filters(_period(period), state, None, customer_class, medium, district)
        with database.read() as connection:
            export.check(connection, chosen, None, filters)
        writer = export.encoder(chosen, now=SystemClock().now_ms())
        part = out.with_name(out.name + ".part")
        with part.open("wb") as file:
            for piece in export.pieces(database, None, filters, writer):
                file.write(piece)
            file.flush()
            os.fsync(file.fileno())
        part.replace(out)
        say(f"{out}: {out.stat().st_size} bytes of {chosen}")


def export_reading_report(
    period: PeriodArgument,
    out: Annotated[Path, typer.Argument(help="File to write: .csv, .html or .json.")],
    config: ConfigOption = None,
) -> None:
    """Write the monthly reading report: due, read, estimated, read rate, accuracy, by class and medium.

    Example: metergate export reading-report 2026-03 march.html
    """
    with errors_as_words():
        settings = load_settings(config)
        if out.suffix not in (".csv", ".html", ".json"):
            raise SettingsError(f"{out}: .csv, .html and .json are possible")
        with registry(settings) as database, closing(make_store(settings.store, "read", SystemClock())) as store:
            out.write_bytes(_report(settings, database, store, _period(period), out.suffix))
        say(f"{out}: the reading report of {period}")


def _report(settings: Settings, database: Database, store: ReadingStore, period: str, ending: str) -> bytes:
    from api.billing import rates, report

    groups: defaultdict[report.Group, rates.Sum] = defaultdict(rates.new_sum)
    total = rates.new_sum()
    with database.read() as connection:
        adjusted = report.adjusted_points(connection, period)
        lasting = report.lasting_exceptions(connection, None, period)
    for page in rates.visits(database, store, settings.billing, period, None):
        for visit in page:
            for found in (groups[rates.group_of(visit, "class")], total):
                found.add(visit, corrected=visit.usage_point in adjusted)
    made = report.report(settings.billing, period, groups, total, lasting, now=SystemClock().now_ms())
    if ending == ".csv":
        return report.report_csv(made)
    text = report.report_html(made) if ending == ".html" else json.dumps(made.model_dump(), ensure_ascii=False)
    return text.encode()


def _kind_of(out: Path) -> _Kind:
    found = _ENDINGS.get(out.suffix.lower())
    if found is None:
        raise SettingsError(f"{out}: which format? endings {', '.join(_ENDINGS)}, or --format")
    return found  # type: ignore[return-value]  # all of them are kinds


def _period(text: str) -> str:
    from api.billing.calendars import check_period

    try:
        return check_period(text)
    except ValueError as error:
        raise SettingsError(str(error)) from None
