"""Does the jobs that wait: at most `at_once`, each in a process of its own that can be ended at any moment.

Several API processes may share one registry: a job is claimed in a transaction, and its holder shows a sign of life
every second. One that falls silent is "interrupted"; nothing is done a second time by itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import multiprocessing
import os
import secrets
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any, Final

import structlog
from sqlalchemy.exc import SQLAlchemyError

from api.jobs import book, child
from api.jobs.settings import JobSettings
from api.jobs.words import Materials
from metering.clock import Clock
from metering.errors import RegistryError
from registry.database import Database

_LOG: Final = structlog.get_logger("jobs")
_SPAWN: Final = multiprocessing.get_context("spawn")
"""A fork would take threads' locks along."""
_LOOK_S: Final = 0.2
_BEAT_S: Final = 1.0
_SWEEP_S: Final = 30.0
_END_S: Final = 5.0


@dataclass
class _State:
    """What a job's process said last."""

    percent: int = 0
    text: str = ""
    said: tuple[Any, ...] | None = None


class JobRunner:
    """`run` until cancelled; `wake` when something was queued here."""

    def __init__(self, settings: JobSettings, database: Database, materials: Materials, clock: Clock) -> None:
        self.settings, self._database, self._materials, self._clock = settings, database, materials, clock
        self.holder = f"jobs-{secrets.token_hex(6)}"
        self._wake = asyncio.Event()
        self._ending = threading.Event()
        self._pool = ThreadPoolExecutor(settings.at_once, "job")
        self._busy: set[asyncio.Future[None]] = set()

    def wake(self) -> None:
        """Look at once."""
        self._wake.set()

    async def run(self) -> None:
        """Work until cancelled; what runs then is ended and written down as interrupted."""
        sweep_at = self._clock.monotonic()
        try:
            while True:
                try:
                    if self._clock.monotonic() >= sweep_at:
                        await asyncio.to_thread(self._sweep)
                        sweep_at = self._clock.monotonic() + _SWEEP_S
                    await self._begin()
                except (RegistryError, SQLAlchemyError) as error:
                    _LOG.warning("jobs_wait", error=str(error))
                await self._pause()
        finally:
            self._ending.set()
            await asyncio.shield(asyncio.gather(*self._busy, return_exceptions=True))
            self._pool.shutdown(wait=False)

    async def _pause(self) -> None:
        with contextlib.suppress(TimeoutError):
            await self._clock.timeout(self._wake.wait(), self.settings.poll_s)
        self._wake.clear()

    async def _begin(self) -> None:
        """Take jobs while there is room."""
        while len(self._busy) < self.settings.at_once:
            taken = await asyncio.to_thread(self._claim)
            if taken is None:
                return
            future = asyncio.get_running_loop().run_in_executor(self._pool, self._do, taken)
            self._busy.add(future)
            future.add_done_callback(self._busy.discard)
            future.add_done_callback(lambda _: self._wake.set())

    def _claim(self) -> dict[str, Any] | None:
        with self._database.begin() as connection:
            return book.claim(connection, self.holder, self._clock.now_ms())

    def _sweep(self) -> None:
        with self._database.begin() as connection:
            expired = book.sweep(connection, self._clock.now_ms(), self.settings)
        for number in expired:
            with contextlib.suppress(OSError):
                self.file_of(number).unlink()
        kept_since = self._clock.now_ms() / 1000 - self.settings.keep_h * 3600
        for upload in self.settings.folder.glob("upload-*"):  # of jobs that were ended before they began
            with contextlib.suppress(OSError):
                if upload.stat().st_mtime < kept_since:
                    upload.unlink()

    def file_of(self, number: int) -> Path:
        """Return where the result of a job lies."""
        return result_file(self.settings, number)

    # --- one job, in a thread ---------------------------------------------------------------------------------------

    def _do(self, row: Mapping[str, Any]) -> None:
        path = self.file_of(row["id"])
        part = path.with_suffix(".part")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            state, facts = self._follow(row, part)
            if state == "done":
                facts |= self._keep(part, path)
        except OSError as error:
            state, facts = "failed", {"problem": f"the result cannot be written: {error.strerror}"}
        finally:
            part.unlink(missing_ok=True)
        self._finish(row["id"], state, facts)

    def _follow(self, row: Mapping[str, Any], part: Path) -> tuple[str, dict[str, Any]]:
        """Start the process, show signs of life, and return the state in which it ended."""
        pipe, theirs = _SPAWN.Pipe(duplex=False)
        process = _SPAWN.Process(target=child.main, args=(theirs, dict(row), self._materials, part), daemon=True)
        process.start()
        theirs.close()
        state, until = _State(), self._clock.monotonic() + self.settings.longest_h * 3600
        beat_at = 0.0
        try:
            while state.said is None:
                if pipe.poll(_LOOK_S) and not _hear(pipe, state):
                    process.join(_END_S)
                    return "failed", {"problem": f"its process ended with code {process.exitcode}"}
                if self._ending.is_set():
                    return "interrupted", {"problem": "the service was ended; ask again"}
                if self._clock.monotonic() >= until:
                    return "failed", {"problem": f"not done within {self.settings.longest_h:g} h"}
                if self._clock.monotonic() >= beat_at:
                    if not self._beat(row["id"], state):
                        return "cancelled", {}
                    beat_at = self._clock.monotonic() + _BEAT_S
        finally:
            _end(process)
            pipe.close()
        return self._said(row, state.said)

    def _beat(self, number: int, state: _State) -> bool:
        try:
            with self._database.begin() as connection:
                return book.beat(connection, self.holder, number, self._clock.now_ms(), state.percent, state.text)
        except (RegistryError, SQLAlchemyError) as error:  # it goes on; whoever sweeps decides how long
            _LOG.warning("job_silent", job=number, error=str(error))
            return True

    @staticmethod
    def _said(row: Mapping[str, Any], said: tuple[Any, ...]) -> tuple[str, dict[str, Any]]:
        if said[0] == "failed":
            if said[2]:
                _LOG.error("job_failed", job=row["id"], kind=row["kind"], trace=said[2])
            return "failed", {"problem": said[1]}
        return "done", {"outcome": said[1], "result_name": said[2], "result_type": said[3]}

    def _keep(self, part: Path, path: Path) -> dict[str, Any]:
        """Put a result in its place, safe on the disk; return its size and digest."""
        expires = {"expires_at": self._clock.now_ms() + round(self.settings.keep_h * 3_600_000)}
        if not part.exists():
            return expires
        with part.open("rb") as file:
            os.fsync(file.fileno())
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        part.replace(path)
        return {"result_bytes": path.stat().st_size, "result_sha256": digest, **expires}

    def _finish(self, number: int, state: str, facts: dict[str, Any]) -> None:
        try:
            with self._database.begin() as connection:
                mine = book.finish(connection, self.holder, number, self._clock.now_ms(), state, **facts)
        except (RegistryError, SQLAlchemyError) as error:  # the sweep will call it interrupted
            _LOG.warning("job_not_finished", job=number, state=state, error=str(error))
            return
        if not mine:
            _LOG.warning("job_lost", job=number, state=state)


def result_file(settings: JobSettings, number: int) -> Path:
    """Return where the result of a job lies."""
    return settings.folder / f"job-{number}.result"


def _hear(pipe: Any, state: _State) -> bool:
    """Take one message; False when the process is gone."""
    try:
        said = pipe.recv()
    except (EOFError, OSError):
        return False
    if said[0] == "progress":
        state.percent, state.text = said[1], said[2]
    else:
        state.said = said
    return True


def _end(process: SpawnProcess) -> None:
    process.terminate()  # it said all that it had to say, or nobody waits for it any more
    process.join(_END_S)
    if process.is_alive():
        process.kill()
        process.join(_END_S)
    process.close()
