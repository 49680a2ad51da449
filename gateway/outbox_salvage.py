"""Save what can be read from a damaged outbox. The damaged file is moved aside and kept, never deleted.

Three ways, each for what the one before could not reach: through the connection that is still open; by opening the
file read-only and walking its chunks; and by looking for whole JSON rows in the raw bytes of the file and its log.
The last also finds rows that were deleted after their acknowledgement: sending them again is harmless, because the
key (meter, read_at) is written idempotently.
"""

from __future__ import annotations

import hashlib
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Final

import msgspec

from gateway.outbox_file import OutboxFile
from metering.errors import OutboxError
from metering.reading import Row

_SIDE_FILES: Final = ("", "-wal", "-shm", "-journal")
RESCUED: Final = ".rescued"
"""End of the name of the file that gathers what can be read, until it takes the damaged one's place."""
_START: Final = re.compile(rb'\{"type":"(?:reading|event)",')
_LONGEST: Final = 4096
_TRIES: Final = 200
_PIECE: Final = 16 * 1024 * 1024
_DECODER: Final = msgspec.json.Decoder(Row)


def adopt_rescued(path: Path) -> None:
    """Put a complete rescued file into the place of one that was moved aside (also after a crash in between)."""
    rescued = path.with_name(path.name + RESCUED)
    if rescued.exists() and not path.exists():
        try:
            rescued.rename(path)
        except OSError as error:
            raise OutboxError(f"{rescued} cannot take its place: {error.strerror}") from error


def remove_files(path: Path) -> None:
    """Delete an unfinished rescued file and its log; its rows are still where they were read from."""
    for end in _SIDE_FILES:
        with suppress(OSError):
            path.with_name(path.name + end).unlink()


def move_aside(path: Path, stamp: int) -> Path:
    """Rename the file and its log to `NAME.damaged-STAMP…`; return the new name. Raises: OutboxError."""
    aside = path.with_name(f"{path.name}.damaged-{stamp}")
    number = 1
    while aside.exists():
        aside = path.with_name(f"{path.name}.damaged-{stamp}-{number}")
        number += 1
    try:
        for end in _SIDE_FILES:
            with suppress(FileNotFoundError):
                path.with_name(path.name + end).rename(aside.with_name(aside.name + end))
    except OSError as error:
        raise OutboxError(f"{path} is damaged and cannot be moved aside: {error.strerror}") from error
    return aside


def rows_in(path: Path, still_open: OutboxFile | None) -> Iterator[bytes]:
    """Yield every whole row that can be read, each once, in the order of their numbers as far as that is known."""
    seen: set[bytes] = set()
    for row in _all_ways(path, still_open):
        digest = hashlib.blake2b(row, digest_size=16).digest()
        if digest not in seen and _is_row(row):
            seen.add(digest)
            yield row


def _all_ways(path: Path, still_open: OutboxFile | None) -> Iterator[bytes]:
    if still_open is not None:
        yield from still_open.rows_one_by_one()
    yield from _walk(path)
    for end in _SIDE_FILES[:2]:
        yield from _carve(path.with_name(path.name + end))


def _is_row(row: bytes) -> bool:
    try:
        _DECODER.decode(row)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return False
    return True


def _walk(path: Path) -> Iterator[bytes]:
    """Read chunk after chunk, from the front and, past a broken place, from the back."""
    with suppress(sqlite3.Error), closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True)) as db:
        for order in ("ASC", "DESC"):
            with suppress(sqlite3.Error):
                for (blob,) in db.execute(f"SELECT rows FROM chunk ORDER BY first {order}"):
                    if isinstance(blob, bytes):
                        yield from blob.split(b"\n")


def _carve(path: Path) -> Iterator[bytes]:
    """Look for rows in raw bytes; a row that was torn by a page border is not found."""
    with suppress(OSError), path.open("rb") as file:
        tail = b""
        while piece := file.read(_PIECE):
            data = tail + piece
            for start in _START.finditer(data):
                yield from _row_at(data, start.start())
            tail = data[-_LONGEST:]


def _row_at(data: bytes, start: int) -> Iterator[bytes]:
    """Yield the longest whole row that begins here, if there is one."""
    segment = data[start : start + _LONGEST].split(b"\n", 1)[0]
    end = len(segment)
    for _ in range(_TRIES):
        end = segment.rfind(b"}", 0, end)
        if end < 0:
            return
        if _is_row(segment[: end + 1]):
            yield segment[: end + 1]
            return
