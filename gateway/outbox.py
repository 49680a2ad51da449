"""Store and forward: every row is committed to disk before anything else happens to it (promise 1).

`put` takes a row at once; a flusher commits what has gathered, one transaction for all (group commit), on the one
thread that owns the file. When the disk is full, read-only or broken, rows wait in memory, bounded by `memory_rows`;
`pressure` tells the poller to slow down and, at 1, to stop reading: what is not read cannot be lost. A damaged file
is moved aside, its readable rows go into a new file with a new epoch, and an `outbox_damaged` event says so.
"""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, Literal, TypeVar

import msgspec
import structlog

from gateway.outbox_file import CHUNK_BYTES, CHUNK_ROWS, Chunk, OutboxDamaged, OutboxFile, OutboxLock, OutboxTaken
from gateway.outbox_recent import RecentChunks
from gateway.outbox_salvage import RESCUED, adopt_rescued, move_aside, remove_files, rows_in
from gateway.spans import Span, SpanSet
from metering.clock import Clock
from metering.errors import OutboxError
from metering.reading import Event, Row

R = TypeVar("R")
OutboxState = Literal["ok", "full", "damaged"]

_COMMIT_ROWS: Final = 10_000
"""Rows in one transaction at most; more wait for the next."""
_RETRY_S: Final = 1.0
_log = structlog.get_logger(__name__)


class Outbox:
    """See the module. `open` first; `close` commits what is still in memory.

    on_commit: called on the loop after each commit. on_epoch: called after the numbering got another epoch.
    """

    def __init__(
        self,
        path: Path,
        *,
        gateway: str,
        clock: Clock,
        rng: random.Random,
        memory_rows: int = 100_000,
        commit_interval_s: float = 0.02,
        file: Callable[..., OutboxFile] = OutboxFile,
    ) -> None:
        """file: what keeps the rows on disk."""
        self.path = path
        self._make_file = file
        self.gateway = gateway
        self.memory_rows = memory_rows
        self.commit_interval_s = commit_interval_s
        self.state: OutboxState = "ok"
        self.reason = ""
        self.epoch = ""
        self.next = 1
        self.held = SpanSet()
        self.counters = dict.fromkeys(("commits", "rows", "failed_commits", "damaged"), 0)
        self.on_commit: Callable[[], None] = lambda: None
        self.on_epoch: Callable[[], None] = lambda: None
        self._clock = clock
        self._rng = rng
        self._lock = OutboxLock(path)
        self._file: OutboxFile | None = None
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="outbox")
        self._encoder = msgspec.json.Encoder()
        self._memory: list[Row] = []
        self._chunk_rows = CHUNK_ROWS
        self._recent = RecentChunks()
        self._accepted = 0
        self._committed = 0
        self._waiters: list[tuple[int, asyncio.Future[None]]] = []
        self._forget = False
        self._wake = asyncio.Event()
        self._flusher: asyncio.Task[None] | None = None
        self._work: asyncio.Future[Any] | None = None
        self._damage: OutboxDamaged | None = None
        self._past: set[str] = set()
        self._scar = ""
        self._oldest_on_disk: int | None = None
        self._memory_since = 0
        self._closing = False

    @property
    def produced(self) -> int:
        """The highest seq ever given out, 0 when none."""
        return self.next - 1

    @property
    def oldest(self) -> int:
        """The lowest seq still held; `next` when nothing is."""
        return self.held.first or self.next

    @property
    def oldest_at(self) -> int | None:
        """[ms UTC] since when the oldest row waits that is not acknowledged; None when none waits."""
        if self.held:
            return self._oldest_on_disk
        return self._memory_since if self._memory else None

    @property
    def in_memory(self) -> int:
        """Rows taken and not yet committed."""
        return len(self._memory)

    def uncommitted(self) -> tuple[Row, ...]:
        """Return the rows that are in memory only: what a process that dies now has never produced."""
        return tuple(self._memory)

    @property
    def pressure(self) -> float:
        """0 when rows reach the disk, up to 1 when memory is as full as it may be: stop reading."""
        return min(1.0, len(self._memory) / self.memory_rows) if self.state != "ok" else 0.0

    def past_epochs(self) -> set[str]:
        """Return the epochs this outbox once had (as far as its file knows)."""
        return set(self._past)

    async def open(self) -> None:
        """Open or make the file. A damaged one is replaced; a disk that does not let us is tried again later.

        Raises: OutboxTaken when another process owns it or it belongs to another gateway.
        """
        try:
            await self._open_file()
        except OutboxTaken:
            await self.close()
            raise
        except OutboxDamaged as error:
            self._damage = error
        except OutboxError as error:
            self._fail(error)
        if self._damage is not None:
            try:
                await self._replace(self._damage)
            except OutboxError as error:
                self._fail(error)
        self._wake.set()
        self._flusher = asyncio.get_running_loop().create_task(self._flush_for_ever(), name="outbox")

    async def close(self) -> None:
        """Commit what waits (once), close the file, let others own it; harmless twice."""
        if self._closing:
            return
        self._closing = True
        if self._flusher is not None:
            self._flusher.cancel()
            await asyncio.gather(self._flusher, return_exceptions=True)
        with suppress(OutboxError):
            if self._work is not None and not self._work.done():
                await self._work
            while self._memory or self._forget:
                await self._commit()
        if self._memory:
            _log.error("rows never reached the disk", gateway=self.gateway, rows=len(self._memory), why=self.reason)
        if self._file is not None:
            await self._run(self._file.close)
        await self._run(self._lock.release)
        self._thread.shutdown()
        for _, waiter in self._waiters:
            waiter.cancel()

    def put(self, row: Row) -> bool:
        """Take a row; it is safe after the next commit. False, and not taken, when memory is full."""
        if len(self._memory) >= self.memory_rows:
            return False
        if not self._memory:
            self._memory_since = self._clock.now_ms()
        self._memory.append(row)
        self._accepted += 1
        if not self._wake.is_set():
            self._wake.set()
        return True

    async def append(self, rows: Sequence[Row]) -> None:
        """Take rows and return after their COMMIT. Raises: OutboxError, nothing taken, when memory is full."""
        if len(self._memory) + len(rows) > self.memory_rows:
            raise OutboxError(f"{len(self._memory)} rows wait in memory already: {self.reason}")
        if not self._memory:
            self._memory_since = self._clock.now_ms()
        self._memory.extend(rows)
        self._accepted += len(rows)
        self._wake.set()
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append((self._accepted, done))
        await done

    async def read(self, low: int, high: int, max_bytes: int) -> tuple[int, bytes]:
        """Return encoded rows from `low` on, without a gap, up to `high` and `max_bytes`: how many, and their JSON.

        Rows of the last commits come from memory. (0, b"") when there are none. Raises: OutboxError when the disk
        does not let us, also when the file is damaged: then it is replaced soon, and `on_epoch` is called.
        """
        count, blobs = self._recent.read(low, high, max_bytes)
        if count:
            return count, b"\n".join(blobs).replace(b"\n", b",")
        try:
            rows = await self._run(self._opened().read, low, high, max_bytes)
            return len(rows), b",".join(rows)
        except OutboxDamaged as error:
            self._damage = error
            self._wake.set()
            raise

    def distrust(self, why: str) -> None:
        """Say that the file is not what it should be: it is replaced, with what can be read of it."""
        self._damage = OutboxDamaged(why)
        self._wake.set()

    def acknowledge(self, spans: Sequence[Span]) -> None:
        """Forget rows of which ingest says that they are committed; the file follows with the next commit."""
        for low, high in spans:
            self.held.remove(low, high)
        self._recent.drop_below(self.oldest)
        self._forget = True
        self._wake.set()

    async def start_epoch(self) -> None:
        """Give the numbering another name (a restored disk reuses numbers); rows keep going. Raises: OutboxError."""
        file = self._opened()
        await self._run(file.start_epoch, self._new_epoch(), self._clock.now_ms())
        self._past.add(self.epoch)
        self.epoch = file.position.epoch
        self.on_epoch()

    def _opened(self) -> OutboxFile:
        if self._file is None:
            raise OutboxError(self.reason or "the outbox is not open")
        return self._file

    async def _run(self, call: Callable[..., R], *args: object) -> R:
        return await asyncio.get_running_loop().run_in_executor(self._thread, call, *args)

    def _new_epoch(self) -> str:
        return f"{self._clock.now_ms() & 0xFFFFFFFFFFFF:012x}{self._rng.getrandbits(64):016x}"

    async def _open_file(self) -> None:
        def work() -> tuple[OutboxFile, SpanSet, int | None, set[str]]:
            self._lock.take()
            adopt_rescued(self.path)
            file = self._make_file(self.path, gateway=self.gateway, new_epoch=self._new_epoch())
            try:
                return file, file.held(), file.oldest_at(), file.past_epochs()
            except BaseException:
                file.close()
                raise

        self._adopt(*await self._run(work))

    def _adopt(self, file: OutboxFile, held: SpanSet, oldest_at: int | None, past: set[str]) -> None:
        self._file, self.held, self._oldest_on_disk, self._past = file, held, oldest_at, past
        self.epoch, self.next = file.position.epoch, file.position.next

    async def _flush_for_ever(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            try:
                await self._flush()
            except OutboxDamaged as error:
                self._damage = error
                self._wake.set()
            except OutboxError as error:
                self._fail(error)
                self._wake.set()
                await self._clock.sleep(_RETRY_S)

    async def _flush(self) -> None:
        """Repair or open the file if need be and commit all that has gathered. Raises: OutboxError."""
        if self._damage is not None:
            await self._replace(self._damage)
        if self._file is None:
            await self._open_file()
            self.on_epoch()
        while (self._memory or self._forget) and self._damage is None:
            self._work = work = asyncio.ensure_future(self._commit())
            await asyncio.shield(work)
            await self._clock.sleep(self.commit_interval_s)

    async def _commit(self) -> None:
        """Write what has gathered. Raises: OutboxError; then everything is still in memory."""
        file = self._opened()
        batch = self._memory[:_COMMIT_ROWS]
        done = self.held.gaps(1, self.next - 1) if self._forget else []
        forgets, self._forget = self._forget, False
        now = self._clock.now_ms()
        try:
            work = await self._run(self._write, file, batch, now, done, self.oldest - 1)
        except BaseException:
            self._forget = self._forget or forgets
            raise
        first, self._oldest_on_disk, chunks = work
        self._recent.add(first, chunks)
        del self._memory[: len(batch)]
        self._memory_since = now
        self.next = file.position.next
        self.held.add(first, self.next - 1)
        self._committed += len(batch)
        self.counters["commits"] += 1
        self.counters["rows"] += len(batch)
        self._recovered()
        self._release_waiters()
        self.on_commit()

    def _write(
        self, file: OutboxFile, batch: Sequence[Row], now: int, done: Sequence[Span], acknowledged: int
    ) -> tuple[int, int | None, list[Chunk]]:
        """Runs on the outbox's thread."""
        chunks: list[Chunk] = []
        start = 0
        while part := batch[start : start + self._chunk_rows]:
            blob = self._encoder.encode_lines(part)[:-1]
            if len(blob) > CHUNK_BYTES and len(part) > 1:
                self._chunk_rows = len(part) * CHUNK_BYTES // len(blob) * 19 // 20 or 1
                continue
            chunks.append((len(part), blob))
            start += len(part)
        self._chunk_rows = min(CHUNK_ROWS, self._chunk_rows + 1)
        first = file.commit(chunks, now, done=done, acknowledged=acknowledged)
        return first, file.oldest_at(), chunks

    def _release_waiters(self) -> None:
        ready = [w for w in self._waiters if w[0] <= self._committed]
        if ready:
            self._waiters = [w for w in self._waiters if w[0] > self._committed]
            for _, waiter in ready:
                if not waiter.done():
                    waiter.set_result(None)

    def _fail(self, error: OutboxError) -> None:
        self.counters["failed_commits"] += 1
        if self.state == "ok":
            _log.error("outbox cannot write; rows wait in memory", gateway=self.gateway, why=error.message)
        self.state, self.reason = "full", error.message

    def _recovered(self) -> None:
        if self.state == "full":
            _log.warning("outbox writes again", gateway=self.gateway)
        if self.state != "ok":
            self.state, self.reason = "ok", self._scar

    async def _replace(self, damage: OutboxDamaged) -> None:
        """Move the damaged file aside and go on in a new one that holds its readable rows. Raises: OutboxError."""
        _log.error("outbox is damaged", gateway=self.gateway, why=damage.message)
        self.state, self.reason = "damaged", damage.message
        self.counters["damaged"] += 1
        old, self._file = self._file, None
        self._recent.clear()
        stamp = self._clock.now_ms()
        self._work = work = asyncio.ensure_future(self._run(self._rescue, old, stamp))
        aside, saved = await asyncio.shield(work)
        self._damage = None
        await self._open_file()
        self._scar = f"{aside} was set aside as damaged; {saved} rows were saved from it"
        self.reason = self._scar
        _log.warning("outbox goes on in a new file", gateway=self.gateway, aside=aside, rows_saved=saved)
        text = f"{damage.message}; {self._scar}"[:500].encode("utf-8", "replace").decode()
        self._memory.append(Event(kind="outbox_damaged", at=stamp, cause="outbox_damaged", text=text))
        self._accepted += 1
        self._wake.set()
        self.on_epoch()

    def _rescue(self, old: OutboxFile | None, stamp: int) -> tuple[str, int]:
        """Runs on the outbox's thread. The new file takes the old one's place only when it is complete."""
        rescued = self.path.with_name(self.path.name + RESCUED)
        remove_files(rescued)
        saved = 0
        file = OutboxFile(rescued, gateway=self.gateway, new_epoch=self._new_epoch())
        try:
            rows = rows_in(self.path, old)
            while batch := list(itertools.islice(rows, CHUNK_ROWS)):
                file.commit([(len(batch), b"\n".join(batch))], stamp)
                saved += len(batch)
        finally:
            file.close()
        if old is not None:
            old.close()
        aside = move_aside(self.path, stamp)
        adopt_rescued(self.path)
        return aside.name, saved
