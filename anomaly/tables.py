"""Tables people hand over (CSV, CSV.gz, Parquet; UTF-8 or GBK) as record batches; faults with line and column."""

from __future__ import annotations

import codecs
import gzip
import io
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Final

import pyarrow as pa  # type: ignore[import-untyped]  # pyarrow ships no types
import pyarrow.csv as pcsv  # type: ignore[import-untyped]  # as above
import pyarrow.parquet as pq  # type: ignore[import-untyped]  # as above

from metering.errors import SettingsError

MOST_FAULTS: Final = 20
BLOCK_BYTES: Final = 16 * 1024 * 1024


class Faults:
    """Collects faults of one file and stops reading when there are many."""

    def __init__(self, path: Path) -> None:
        self.path, self.lines = path, list[str]()

    def add(self, line: int, column: str, why: str) -> None:
        """Note a fault. Raises: SettingsError at the twentieth."""
        self.lines.append(f"{self.path}: line {line}, column {column}: {why}")
        if len(self.lines) >= MOST_FAULTS:
            self.lines.append(f"{self.path}: … and perhaps more; reading stopped here")
            raise SettingsError(self.lines)

    def finish(self) -> None:
        """Raises: SettingsError when anything was noted."""
        if self.lines:
            raise SettingsError(self.lines)


def whole_table(path: Path, columns: tuple[str, ...]) -> pa.Table:
    """All record batches as one table; columns: () for all. Raises: SettingsError."""
    parts = list(batches(path, columns))
    if not parts:
        raise SettingsError(f"{path}: empty file")
    return pa.Table.from_batches(parts)


def batches(path: Path, columns: tuple[str, ...]) -> Iterator[pa.RecordBatch]:
    """Record batches of the columns that exist; CSV cells are texts. Raises: SettingsError."""
    if not path.is_file():
        raise SettingsError(f"{path}: no such file")
    try:
        if _head(path)[:4] == b"PAR1":
            file = pq.ParquetFile(path)
            there = [name for name in columns if name in file.schema_arrow.names] or None
            yield from file.iter_batches(batch_size=500_000, columns=there)
            return
        with _csv_source(path) as source:
            yield from _csv_batches(path, source, columns)
    except (pa.ArrowException, OSError, EOFError, UnicodeError) as error:
        raise SettingsError(f"{path}: cannot be read: {error}") from error


def _csv_batches(path: Path, source: IO[bytes], columns: tuple[str, ...]) -> Iterator[pa.RecordBatch]:
    encoding = _encoding(path)
    names = _header(path, encoding)
    twice = {name for name in names if names.count(name) > 1}
    if twice:
        raise SettingsError(f"{path}: line 1: column {sorted(twice)[0]} stands twice")
    options = pcsv.ConvertOptions(
        column_types={name: pa.string() for name in names},
        strings_can_be_null=False,
        include_columns=[name for name in columns if name in names] or None,
    )
    reader = pcsv.open_csv(
        source,
        read_options=pcsv.ReadOptions(
            block_size=BLOCK_BYTES, encoding=encoding, column_names=names, skip_rows=1, use_threads=False
        ),
        parse_options=pcsv.ParseOptions(newlines_in_values=False),
        convert_options=options,
    )
    yield from reader


def _csv_source(path: Path) -> IO[bytes]:
    if _head(path)[:2] == b"\x1f\x8b":
        return io.BufferedReader(gzip.open(path, "rb"))
    return path.open("rb")


def _head(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(4)


def _header(path: Path, encoding: str) -> list[str]:
    with _csv_source(path) as source:
        line = source.readline(65_536)
    names = line.decode(encoding, errors="replace").lstrip("\ufeff").strip().split(",")
    return [name.strip().strip('"') for name in names]


def _encoding(path: Path) -> str:
    """UTF-8 when the whole first 4 MB are, else GBK (GB 18030 contains it)."""
    decoder = codecs.getincrementaldecoder("utf-8")()
    with _csv_source(path) as source:
        try:
            for _ in range(64):
                block = source.read(65_536)
                decoder.decode(block)
                if not block:
                    break
        except UnicodeDecodeError:
            return "gb18030"
    return "utf-8"
