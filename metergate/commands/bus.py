"""`metergate bus`: how the serial buses of a running gateway are doing, meter by meter."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.console import Console
from rich.live import Live
from rich.table import Table

from gateway.bus_report import BusesReport, BusReport, MeterReport, read_report
from metergate.console import emit, errors_as_words
from metergate.running import ConfigOption
from metergate.settings import load_settings
from metering.clock import SystemClock, rfc3339
from metering.errors import SettingsError


def bus(
    config: ConfigOption = None,
    file: Annotated[Path | None, typer.Option("--file", help="buses.json of the gateway; found by settings.")] = None,
    once: Annotated[bool, typer.Option("--once", help="One JSON line per meter, and end.")] = False,
    every_s: Annotated[float, typer.Option(min=0.2, max=60, help="Seconds between two looks.")] = 2.0,
) -> None:
    """Show each meter's last answer, share of the bus's time and faults, live; Ctrl-C ends it.

    Example: metergate bus --once
    """
    with errors_as_words():
        path = file or load_settings(config).gateway.outbox.parent / "buses.json"
        if once:
            for each in _read(path).buses:
                for meter in each.meters:
                    emit(json.dumps({"bus": each.bus, "up": each.up, **msgspec.to_builtins(meter)}))
            return
        _watch(path, every_s)


def _watch(path: Path, every_s: float) -> None:
    clock = SystemClock()
    with Live(_table(_read(path), clock.now_ms()), console=Console(), auto_refresh=False, screen=False) as live:
        try:
            while True:
                clock.pause(every_s)
                live.update(_table(_read(path), clock.now_ms()), refresh=True)
        except KeyboardInterrupt:
            return


def _read(path: Path) -> BusesReport:
    try:
        return read_report(path)
    except FileNotFoundError:
        raise SettingsError(f"{path}: no such file: does the gateway run, and has its plan serial buses?") from None
    except msgspec.MsgspecError as error:
        raise SettingsError(f"{path.name}: {error}") from None


def _table(report: BusesReport, now_ms: int) -> Table:
    """Return the report as people read it."""
    age = (now_ms - report.at) / 1000
    table = Table(title=f"{report.gateway}, {rfc3339(report.at)}{f', {age:.0f} s ago' if age > 30 else ''}")
    for name in (
        "bus",
        "meter",
        "address",
        "last answer",
        "answered",
        "time",
        "silent",
        "late",
        "damaged",
        "foreign",
    ):
        table.add_column(name, justify="left" if name in ("bus", "meter", "address") else "right")
    for each in report.buses:
        span_s = max(1.0, (report.at - report.since) / 1000)
        for meter in each.meters:
            table.add_row(*_row(each, meter, now_ms, span_s))
    return table


def _row(each: BusReport, meter: MeterReport, now_ms: int, span_s: float) -> list[str]:
    last = f"{(now_ms - meter.answered_at) / 1000:.0f} s ago" if meter.answered_at else "never"
    share = meter.answered / meter.asked if meter.asked else 0.0
    counts = [str(number) if number else "" for number in (meter.silent, meter.late, meter.damaged, meter.foreign)]
    name = each.bus if each.up else f"{each.bus} (away)"
    return [name, meter.meter, meter.address, last, f"{share:.1%}", f"{meter.busy_s / span_s:.2%}", *counts]
