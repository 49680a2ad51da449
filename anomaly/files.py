"""Files that people hand over: meters, readings, weather (CSV, CSV.gz, Parquet; UTF-8 or GBK) and findings out.

Every fault is a message with file, line and column; nothing is skipped in silence. Readings are parsed in blocks, so
40 million rows cost 29 bytes a row and not a table of texts.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa  # type: ignore[import-untyped]  # pyarrow ships no types
import pyarrow.compute as pc  # type: ignore[import-untyped]  # as above
from numpy.typing import NDArray

from anomaly.days import local_midnight_s
from anomaly.findings import Finding
from anomaly.meters import CLASSES, DEFAULT_QMAX, MEDIA, OTHER_CLASS, Meter, MeterTable
from anomaly.tables import Faults, batches, whole_table
from metering.clock import parse_rfc3339
from metering.errors import SettingsError
from metering.quantities import to_micro

FLAG_BITS: Final = {"VALVE_CLOSED": 1, "MAG": 2, "COVER": 4, "LOWBAT": 8, "CLOCK": 16}
"""Words of the column `flags` and their bits; the bits are those of `metering.reading.Flag`."""
_READING_COLUMNS: Final = ("meter_id", "ts", "received_at", "index", "flags")


@dataclass(slots=True)
class Readings:
    """Rows in order of arrival. meter: row in the MeterTable. ts, received: [s since 1970]. micro: [10⁻⁶ unit]."""

    meter: NDArray[np.int32]
    ts: NDArray[np.int64]
    received: NDArray[np.int64]
    micro: NDArray[np.int64]
    flags: NDArray[np.uint8]
    unknown_meters: int = 0

    def __len__(self) -> int:
        return int(self.meter.size)

    def take(self, rows: Any) -> Readings:
        """Some of the rows, in the order given."""
        return Readings(
            self.meter[rows],
            self.ts[rows],
            self.received[rows],
            self.micro[rows],
            self.flags[rows],
            self.unknown_meters,
        )


# --- meters -------------------------------------------------------------------------------------------------------


def read_meters(path: Path) -> tuple[MeterTable, list[str]]:
    """Return the table and warnings (columns that are absent, classes nobody knows).

    Raises: SettingsError with line and column for every fault.
    """
    table = whole_table(path, ())
    if "meter_id" not in table.column_names:
        raise SettingsError(f"{path}: line 1: column meter_id is missing (found: {', '.join(table.column_names)})")
    faults, warnings = Faults(path), list[str]()
    wanted = ("medium", "customer_class", "index_digits", "resolution", "interval_s", "qmax_per_h", "commission_date")
    absent = [name for name in wanted if name not in table.column_names]
    if absent:
        warnings.append(
            f"{path}: no column {', '.join(absent)}: defaults are used and rules that need them stay silent"
        )
    meters, seen = [], dict[str, int]()
    for number, row in enumerate(table.to_pylist()):
        line = number + 2
        meter = _meter({k: ("" if v is None else str(v).strip()) for k, v in row.items()}, line, faults, warnings)
        if meter is None:
            continue
        if meter.meter_id in seen:
            faults.add(line, "meter_id", f"{meter.meter_id!r} stands in line {seen[meter.meter_id]} already")
        seen[meter.meter_id] = line
        meters.append(meter)
    faults.finish()
    if not meters:
        raise SettingsError(f"{path}: no meter in the file")
    return MeterTable(meters), warnings


def _meter(row: dict[str, str], line: int, faults: Faults, warnings: list[str]) -> Meter | None:
    before = len(faults.lines)
    if not row["meter_id"]:
        faults.add(line, "meter_id", "empty")
    medium = row.get("medium") or "gas"
    if medium not in MEDIA:
        faults.add(line, "medium", f"{medium!r} is not known; allowed: {', '.join(MEDIA)}")
        return None
    kind = row.get("customer_class") or OTHER_CLASS
    if kind not in CLASSES and kind != OTHER_CLASS:
        warnings.append(
            f"{faults.path}: line {line}, column customer_class: {kind!r} is not known "
            f"({', '.join(CLASSES)}); rules without a class judge this meter"
        )
        kind = OTHER_CLASS
    digits = _number(row, "index_digits", "6", line, faults, low=1, high=12)
    resolution = _micro(row, "resolution", "0.01", line, faults)
    interval = _number(row, "interval_s", "3600", line, faults, low=60, high=86_400)
    if 86_400 % max(interval, 1):
        faults.add(line, "interval_s", f"{interval} s does not divide a day")
    qmax = _micro(row, "qmax_per_h", str(DEFAULT_QMAX[medium]), line, faults)
    replaced = _time(row.get("replaced_at", ""), "replaced_at", line, faults)
    tz = row.get("tz") or "Asia/Shanghai"
    try:
        local_midnight_s(0, tz)
    except ValueError as error:
        faults.add(line, "tz", str(error))
    if len(faults.lines) > before:
        return None
    return Meter(
        row["meter_id"],
        medium,
        kind,
        row.get("unit") or ("kWh" if medium in ("electricity", "heat") else "m3"),
        digits,
        resolution,
        interval,
        qmax,
        tz,
        row.get("district", ""),
        "commission_date" not in row or bool(row["commission_date"]),
        replaced,
        row.get("parent_id", ""),
        _time(row.get("last_ts", ""), "last_ts", line, faults),
    )


def _number(row: dict[str, str], name: str, default: str, line: int, faults: Faults, *, low: int, high: int) -> int:
    text = row.get(name) or default
    try:
        value = int(float(text))
        if value != float(text) or not low <= value <= high:
            raise ValueError
    except (ValueError, OverflowError):
        faults.add(line, name, f"{text!r} is not a whole number from {low} to {high}")
        return low
    return value


def _micro(row: dict[str, str], name: str, default: str, line: int, faults: Faults) -> int:
    text = row.get(name) or default
    try:
        value = to_micro(text)
    except ValueError as error:
        faults.add(line, name, str(error))
        return 1
    if not 0 < value <= 10**12:
        faults.add(line, name, f"{text!r} must be above 0 and at most 1000000")
        return 1
    return value


def _time(text: str, name: str, line: int, faults: Faults) -> int:
    if not text:
        return 0
    try:
        return parse_rfc3339(text.replace("Z", "+00:00")) // 1000
    except ValueError as error:
        faults.add(line, name, str(error))
        return 0


# --- readings -----------------------------------------------------------------------------------------------------


def read_readings(path: Path, meters: MeterTable) -> Readings:
    """Read a file of readings and put it in order of arrival (stable; without received_at, ts counts as arrival).

    Raises: SettingsError with line and column.
    """
    names = pa.array([m.meter_id for m in meters.meters], pa.string())
    faults, blocks, unknown, line = Faults(path), list[Readings](), 0, 2
    for batch in batches(path, _READING_COLUMNS):
        for column in ("meter_id", "ts", "index"):
            if column not in batch.schema.names:
                found = ", ".join(batch.schema.names)
                raise SettingsError(f"{path}: line 1: column {column} is missing (found: {found})")
        block = _block(batch, names, line, faults)
        line += batch.num_rows
        known = block.meter >= 0
        unknown += int(np.count_nonzero(~known))
        blocks.append(block.take(known))
    faults.finish()
    if not blocks:
        raise SettingsError(f"{path}: no readings in the file")
    rows = joined(blocks)
    rows.unknown_meters = unknown
    if rows.received.size and (np.diff(rows.received) < 0).any():
        rows = rows.take(np.argsort(rows.received, kind="stable"))
    return rows


def joined(parts: list[Readings]) -> Readings:
    """One after the other."""
    return Readings(
        np.concatenate([part.meter for part in parts]),
        np.concatenate([part.ts for part in parts]),
        np.concatenate([part.received for part in parts]),
        np.concatenate([part.micro for part in parts]),
        np.concatenate([part.flags for part in parts]),
    )


def _block(batch: pa.RecordBatch, names: pa.Array, line: int, faults: Faults) -> Readings:
    columns = {name: batch.column(name) for name in batch.schema.names}
    ids = columns["meter_id"].cast(pa.string())
    meter = pc.fill_null(pc.index_in(pc.utf8_trim_whitespace(ids), names), -1)
    ts = _times(columns["ts"], "ts", line, faults)
    received = ts
    if "received_at" in columns:
        received = _times(columns["received_at"], "received_at", line, faults, empty_is=ts)
    micro = _micros(columns["index"], line, faults)
    flags = _flags(columns.get("flags"), batch.num_rows, line, faults)
    return Readings(np.asarray(meter).astype(np.int32), ts, received, micro, flags)


def _times(
    column: pa.Array, name: str, line: int, faults: Faults, *, empty_is: NDArray[np.int64] | None = None
) -> NDArray[np.int64]:
    """[s since 1970]; texts need an offset, Parquet timestamps without a zone are UTC."""
    if pa.types.is_timestamp(column.type):
        seconds = pc.cast(column, pa.timestamp("s", tz=column.type.tz), safe=False).cast(pa.int64())
    else:
        text = column.cast(pa.string())
        try:
            plain = pc.if_else(pc.equal(text, ""), None, text) if empty_is is not None else text
            stamps = pc.cast(plain, pa.timestamp("ms", tz="UTC"))
            seconds = pc.cast(stamps, pa.timestamp("s", tz="UTC"), safe=False).cast(pa.int64())
        except pa.ArrowInvalid:
            return _times_slowly(text, name, line, faults, empty_is)
    values = np.asarray(pc.fill_null(seconds, 0)).astype(np.int64)
    if seconds.null_count:
        empty = np.asarray(pc.is_null(seconds))
        if empty_is is None:
            faults.add(line + int(np.argmax(empty)), name, "empty")
        else:
            values = np.where(empty, empty_is, values)
    return values


def _times_slowly(
    text: pa.Array, name: str, line: int, faults: Faults, empty_is: NDArray[np.int64] | None
) -> NDArray[np.int64]:
    out = np.zeros(len(text), np.int64)
    for i, item in enumerate(text.to_pylist()):
        if not item and empty_is is not None:
            out[i] = empty_is[i]
            continue
        try:
            out[i] = parse_rfc3339((item or "").strip().replace("Z", "+00:00")) // 1000
        except (ValueError, OverflowError) as error:
            faults.add(line + i, name, str(error))
    return out


def _micros(column: pa.Array, line: int, faults: Faults) -> NDArray[np.int64]:
    """Exact 10⁻⁶ units. Texts and decimals stay exact; a float of a Parquet file is rounded to 6 decimals."""
    if pa.types.is_floating(column.type):
        values = np.asarray(column.cast(pa.float64()), np.float64)
        wrong = ~np.isfinite(values) | (np.abs(values) > 9e12)
        for i in np.flatnonzero(wrong).tolist():
            faults.add(line + i, "index", f"{values[i]!r} is not an index")
        return np.rint(np.where(wrong, 0, values) * 1e6).astype(np.int64)
    text = column.cast(pa.string())
    try:
        if text.null_count:
            raise pa.ArrowInvalid("empty")
        scaled = pc.cast(text, pa.decimal128(19, 6))
    except pa.ArrowInvalid:
        return _micros_slowly(text, line, faults)
    words = np.frombuffer(scaled.buffers()[1], np.int64)[2 * scaled.offset : 2 * (scaled.offset + len(scaled))]
    low, high = words[::2], words[1::2]
    if (high != low >> 63).any():
        return _micros_slowly(text, line, faults)
    return low.copy()


def _micros_slowly(text: pa.Array, line: int, faults: Faults) -> NDArray[np.int64]:
    out = np.zeros(len(text), np.int64)
    for i, item in enumerate(text.to_pylist()):
        try:
            out[i] = to_micro(item if item is not None else "")
        except ValueError as error:
            hint = " (write a decimal point, not a comma)" if item and "," in item else ""
            faults.add(line + i, "index", f"{error}{hint}" if item else "empty: a failed read is not a row")
    return out


def _flags(column: pa.Array | None, rows: int, line: int, faults: Faults) -> NDArray[np.uint8]:
    out = np.zeros(rows, np.uint8)
    if column is None:
        return out
    coded = pc.dictionary_encode(pc.fill_null(column.cast(pa.string()), ""))
    codes = np.asarray(coded.indices)
    bits = []
    for i, text in enumerate(coded.dictionary.to_pylist()):
        words = [word for word in text.replace("|", " ").replace(";", " ").replace(",", " ").split() if word]
        odd = [word for word in words if word.upper() not in FLAG_BITS]
        if odd:
            at = line + int(np.argmax(codes == i))
            faults.add(at, "flags", f"{odd[0]!r} is not known; allowed: {', '.join(FLAG_BITS)}")
        bits.append(sum({FLAG_BITS.get(word.upper(), 0) for word in words}))
    return np.array(bits, np.uint8)[codes] if bits else out


def between(rows: Readings, since: str, until: str) -> Readings:
    """Rows that arrived from `since` on and before `until` (RFC 3339 with offset; "" means open)."""
    try:
        low = parse_rfc3339(since.replace("Z", "+00:00")) // 1000 if since else -(2**62)
        high = parse_rfc3339(until.replace("Z", "+00:00")) // 1000 if until else 2**62
    except ValueError as error:
        raise SettingsError(f"--from, --until: {error}") from error
    return rows.take((rows.received >= low) & (rows.received < high))


# --- weather ------------------------------------------------------------------------------------------------------


def read_weather(path: Path) -> dict[date, float]:
    """Daily mean temperature [°C] by local date (columns date, temp_avg_c). Raises: SettingsError."""
    table = whole_table(path, ())
    faults, out = Faults(path), dict[date, float]()
    for column in ("date", "temp_avg_c"):
        if column not in table.column_names:
            raise SettingsError(f"{path}: line 1: column {column} is missing")
    for number, row in enumerate(table.to_pylist()):
        try:
            out[date.fromisoformat(str(row["date"])[:10])] = float(row["temp_avg_c"])
        except (ValueError, TypeError) as error:
            faults.add(number + 2, "date, temp_avg_c", str(error))
    faults.finish()
    return out


# --- out ----------------------------------------------------------------------------------------------------------


def write_findings(path: Path, findings: Iterable[Finding]) -> None:
    """One JSON object per line, in order of detection; the file appears complete or not at all."""
    ordered = sorted(findings, key=lambda f: (f.detected_s, f.row, f.kind, f.started_s))
    write_text(path, "".join(json.dumps(finding.line(), ensure_ascii=False) + "\n" for finding in ordered))


def write_text(path: Path, text: str) -> None:
    """Write beside and rename. Raises: SettingsError when the folder does not let us."""
    part = path.with_name(path.name + ".part")
    try:
        part.write_text(text, encoding="utf-8")
        part.replace(path)
    except OSError as error:
        raise SettingsError(f"{path}: cannot be written: {error}") from error
