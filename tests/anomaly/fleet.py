"""A small labelled fleet for tests, made once: rows in order of arrival, and runs over it."""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from anomaly.engine import Engine
from anomaly.files import Readings, read_meters, read_readings
from anomaly.meters import MeterTable
from anomaly.run import run
from anomaly.thresholds import load_thresholds
from simulators.fleet import make_fleet, write_fleet

SAMPLE = Path(__file__).parent / "data" / "meter-fleet"


@functools.cache
def small_fleet() -> tuple[MeterTable, Readings]:
    """The autumn of 320 meters, daily, hourly and every 15 minutes: enough for 50 findings of 8 kinds."""
    with tempfile.TemporaryDirectory() as folder:
        write_fleet(make_fleet(320, 7), Path(folder))
        meters, _ = read_meters(Path(folder) / "meters.csv")
        return _autumn(meters, read_readings(Path(folder) / "readings.csv.gz", meters))


def _autumn(meters: MeterTable, rows: Readings) -> tuple[MeterTable, Readings]:
    """The first 62 days, and the meters that were read in them: a quarter of the work."""
    rows = before(rows, int(rows.received[0]) + 62 * 86_400)
    kept = np.unique(rows.meter)
    rows.meter = np.searchsorted(kept, rows.meter).astype(np.int32)
    return meters.part(kept.astype(np.int64)), rows


@functools.cache
def sample_fleet() -> tuple[MeterTable, Readings]:
    """The published sample of 60 meters."""
    meters, _ = read_meters(SAMPLE / "meters.csv")
    return meters, read_readings(SAMPLE / "readings.csv.gz", meters)


@functools.cache
def sample_autumn() -> tuple[MeterTable, Readings]:
    """The first 62 days of the sample."""
    meters, rows = sample_fleet()
    return _autumn(meters, rows.take(slice(None)))


@functools.cache
def autumn_run() -> Engine:
    """The sample's autumn, run as it arrived."""
    return run(*sample_autumn(), load_thresholds())


@functools.cache
def small_run() -> Engine:
    """The small fleet, run as it arrived."""
    return run(*small_fleet(), load_thresholds())


@functools.cache
def sample_run() -> Engine:
    """The sample fleet, run as it arrived."""
    return run(*sample_fleet(), load_thresholds())


def lines(engine: Engine) -> list[dict[str, Any]]:
    """Findings as lines in a fixed order."""
    return sorted(
        (f.line() for f in engine.book.findings), key=lambda line: (line["meter_id"], line["kind"], str(line))
    )


def before(readings: Readings, end_s: int) -> Readings:
    """Rows that had arrived by then."""
    return readings.take(slice(0, int(np.searchsorted(readings.received, end_s, side="right"))))
