"""A folder to work in, in memory where the host has room there.

A virtual house writes as carefully as the field does: each commit waits for the disk. On a virtual clock that caution
guards nothing, since a run that dies is simply played again, and it costs most of the time (measured: 19 s instead of
4 s for a day of ten meters on a busy disk).
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from metering.errors import MetergateError

_MEMORY: Final = Path("/dev/shm")
_ROOM: Final = 2 * 1024**3
"""[bytes] that must be free in memory; a month of 1,000 meters needs a fifth of it."""


def fresh(folder: Path) -> Path:
    """Make a folder that holds nothing yet. Raises: MetergateError when it holds something."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise MetergateError(f"{folder} holds something already; name another folder")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@contextmanager
def workplace(folder: Path) -> Iterator[Path]:
    """Yield a folder to work in; its files are moved to `folder` at the end, also after an error.

    Raises: MetergateError when `folder` holds something already.
    """
    fresh(folder)
    try:
        roomy = shutil.disk_usage(_MEMORY).free >= _ROOM
        work = Path(tempfile.mkdtemp(prefix="metergate-", dir=_MEMORY)) if roomy else None
    except OSError:
        work = None
    if work is None:
        yield folder
        return
    try:
        yield work
    finally:
        for path in work.iterdir():
            shutil.move(path, folder / path.name)
        work.rmdir()
