"""The five files of a fleet, in the form of the labelled sample."""

from __future__ import annotations

import csv
import gzip
import io
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import IO, Final

import numpy as np

from simulators.fleet.city import FIRST_DAY, TZ, City
from simulators.fleet.fleet import Fleet
from simulators.fleet.model import Ints, Meter, Trace
from simulators.fleet.telemetry import FLAGS, Rows

_METERS: Final = [
    *("meter_id", "medium", "unit", "customer_class", "install_date", "commission_date", "replaced_at"),
    *("index_digits", "resolution", "interval_s", "qmax_per_h", "tz", "district", "first_ts", "last_ts"),
]
_CHUNK: Final = 200_000


def write_fleet(fleet: Fleet, folder: Path) -> dict[str, int]:
    """Write meters, readings, labels, hard negatives and weather; return how many of each. Overwrites."""
    folder.mkdir(parents=True, exist_ok=True)
    meters: list[Meter] = []
    traces: list[Trace] = []
    rows: list[Rows] = []
    for meter, trace, its_rows in fleet.each():
        meters.append(meter)
        traces.append(trace)
        rows.append(its_rows)
    labels = [
        (m.id, x.kind, _text(x.start), _text(x.end), x.severity, x.note)
        for m, t in zip(meters, traces, strict=True)
        for x in sorted(t.labels, key=lambda x: x.start)
    ]
    situations = [
        (m.id, x.kind, _text(x.start), _text(x.end))
        for m, t in zip(meters, traces, strict=True)
        for x in sorted(t.situations, key=lambda x: x.start)
    ]
    _write_csv(folder / "meters.csv", _METERS, map(_meter_row, meters))
    _write_csv(folder / "labels.csv", ["meter_id", "kind", "start", "end", "severity", "note"], labels)
    _write_csv(folder / "hard_negatives.csv", ["meter_id", "kind", "start", "end"], situations)
    _write_csv(folder / "weather.csv", ["date", "temp_avg_c"], _weather_rows(fleet.city))
    count = _write_readings(folder / "readings.csv.gz", [m.id for m in meters], rows)
    return {"meters": len(meters), "readings": count, "labels": len(labels), "hard_negatives": len(situations)}


def _meter_row(meter: Meter) -> tuple[object, ...]:
    commissioned = meter.install_date + timedelta(days=7) if meter.commissioned else ""
    replaced = _text(meter.replaced) if meter.replaced is not None and meter.recorded else ""
    resolution = f"{10.0**-meter.decimals:.{meter.decimals}f}"
    unit = "kWh" if meter.medium == "electricity" else "m3"
    first, last = _text(meter.start), _text(meter.end)
    return (
        *(meter.id, meter.medium, unit, meter.customer_class, meter.install_date, commissioned, replaced),
        *(meter.digits, resolution, meter.interval_s, meter.qmax_per_h, TZ, meter.district, first, last),
    )


def _weather_rows(city: City) -> Iterator[tuple[str, str]]:
    for day, temperature in enumerate(city.temperature):
        yield (FIRST_DAY + timedelta(days=day)).isoformat(), f"{temperature:.1f}"


def _write_csv(path: Path, head: list[str], rows: Iterable[tuple[object, ...]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(head)
        writer.writerows(rows)


def _write_readings(path: Path, ids: list[str], rows: list[Rows]) -> int:
    """Write all rows in order of arrival; the file is the same for the same fleet, byte for byte."""
    meter: Ints = np.repeat(np.arange(len(rows)), [r.ts.size for r in rows])
    ts, received, raw, decimals, flag = (
        np.concatenate([getattr(r, name) for r in rows]) for name in ("ts", "received", "raw", "decimals", "flag")
    )
    order = np.argsort(received, kind="stable")
    with (
        path.open("wb") as plain,
        gzip.GzipFile("", "wb", 6, plain, mtime=0) as packed,
        io.TextIOWrapper(packed, encoding="ascii", newline="\n") as file,
    ):
        file.write("meter_id,ts,received_at,index,flags\n")
        for begin in range(0, order.size, _CHUNK):
            part = order[begin : begin + _CHUNK]
            _write_chunk(file, ids, meter[part], ts[part], received[part], raw[part], decimals[part], flag[part])
    return int(order.size)


def _write_chunk(
    file: IO[str], ids: list[str], meter: Ints, ts: Ints, received: Ints, raw: Ints, decimals: Ints, flag: Ints
) -> None:
    columns = (meter.tolist(), _texts(ts), _texts(received), raw.tolist(), decimals.tolist(), flag.tolist())
    lines = []
    for which, read, arrived, number, digits, mark in zip(*columns, strict=True):
        whole, rest = divmod(number, 10**digits)
        lines.append(f"{ids[which]},{read}Z,{arrived}Z,{whole}.{rest:0{digits}d},{FLAGS[mark]}\n")
    file.write("".join(lines))


def _texts(seconds: Ints) -> list[str]:
    texts: list[str] = np.datetime_as_string(seconds.astype("datetime64[s]")).tolist()
    return texts


def _text(moment: float) -> str:
    return datetime.fromtimestamp(int(moment), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
