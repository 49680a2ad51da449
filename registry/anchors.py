"""The audit's head anchored outside the database, and the check of the whole chain against the anchors.

A chain proves order and content, but not its own length, and whoever can write the database can hash all of it anew.
So its newest number and hash go to a file, and to the log, at intervals: a JSON line each, only ever appended. The
API does that (`keep_anchored`), and so does every command that changed something. What happened after the last anchor
can be cut off unseen; what an anchor knows cannot. Whoever can write both the database and the file can still forge:
copy the file, or ship the log, to another host.

A line cut by a power failure stays as it is; the next line says so (`after_torn`), which tells it from a line that
somebody spoilt.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

import structlog
from sqlalchemy.exc import SQLAlchemyError

from metering.clock import Clock
from metering.errors import RegistryError
from registry import audit
from registry.database import Database

_log = structlog.get_logger("audit")
_TAIL_BYTES: Final = 64 * 1024
_LAST_S: Final = 1.0


class Log(Protocol):
    """Where an anchor is logged; a structlog logger is one."""

    def info(self, event: str, **facts: Any) -> Any: ...

    def error(self, event: str, **facts: Any) -> Any: ...


@dataclass(frozen=True, slots=True)
class Anchor:
    """The head of the audit as it was at some time [ms UTC]. after_torn: the line before it was cut by a crash."""

    number: int
    hash: str
    at: int
    after_torn: bool = False


def anchor(database: Database, path: Path, log: Log, at: int) -> Anchor | None:
    """Append the head to the file, durably, and log it; None when the last anchor says it already.

    A head that does not reach what the last anchor knows is logged as an error; it is anchored all the same, because
    the lines before stay and `verify` reads all of them. Raises: RegistryError, OSError.
    """
    with database.read() as connection:
        head = audit.head(connection)
    if head is None:
        log.error("audit_head_missing", anchors=str(path))
    if head is None or head.number == 0:
        return None
    path.parent.mkdir(parents=True, exist_ok=True)
    new = not path.exists()
    with path.open("a+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # API and command line may come at the same moment
        torn, last = _end(file)
        if last is not None and (last.number, last.hash) == (head.number, head.hash):
            return None
        if last is not None and head.number <= last.number:
            log.error("audit_behind_its_anchor", number=head.number, anchored=last.number, anchors=str(path))
        made = Anchor(head.number, head.hash, at, torn)
        file.write((b"\n" if torn else b"") + line_of(made).encode())
        file.flush()
        os.fsync(file.fileno())
    if new:
        _settle(path)
    log.info("audit_anchored", number=made.number, hash=made.hash)
    return made


def line_of(made: Anchor) -> str:
    """Return an anchor as its line in the file."""
    facts: dict[str, Any] = {"number": made.number, "hash": made.hash, "at": made.at}
    return audit.canonical(facts | ({"after_torn": True} if made.after_torn else {})) + "\n"


def parse_line(line: bytes) -> Anchor | None:
    """Return the anchor of a line; None when it is not one."""
    try:
        facts = json.loads(line)
        made = Anchor(facts["number"], facts["hash"], facts["at"], bool(facts.get("after_torn", False)))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    numbers = all(isinstance(value, int) for value in (made.number, made.at))
    return made if numbers and made.number > 0 and isinstance(made.hash, str) else None


def newest(path: Path) -> Anchor | None:
    """Return the last whole anchor of the file, None when it has none. Raises: OSError."""
    if not path.exists():
        return None
    with path.open("rb") as file:
        return _end(file)[1]


def _end(file: Any) -> tuple[bool, Anchor | None]:
    """Whether the last line was cut, and the last whole anchor."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - _TAIL_BYTES))
    tail: bytes = file.read()
    lines = tail.split(b"\n")
    torn = lines[-1] != b""
    whole = (parse_line(line) for line in reversed(lines[:-1]))
    return torn, next((made for made in whole if made is not None), None)


def _settle(path: Path) -> None:
    """Make a new file last, and give it to whom its folder belongs: root at a console must not shut out the API.

    A new file is only there after a power cut when its folder was synced as well.
    """
    owner = path.parent.stat()
    if os.geteuid() == 0:
        os.chown(path, owner.st_uid, owner.st_gid)
    number = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


async def keep_anchored(database: Database, path: Path, clock: Clock, interval_s: float, *, log: Log = _log) -> None:
    """Anchor now, every `interval_s` until cancelled, and once more at the end, so that no tail stays open.

    A registry or disk that is away is logged and tried again; the end waits for them 1 s and no longer.
    """
    try:
        while True:
            try:
                await asyncio.to_thread(anchor, database, path, log, clock.now_ms())
            except (RegistryError, SQLAlchemyError, OSError) as error:
                log.error("audit_not_anchored", anchors=str(path), error=str(error))
            await clock.sleep(interval_s)
    finally:
        with contextlib.suppress(TimeoutError, RegistryError, SQLAlchemyError, OSError):
            await clock.timeout(asyncio.to_thread(anchor, database, path, log, clock.now_ms()), _LAST_S)
