"""A clock that jumps from one moment of interest to the next, and the event loop that knows when it may (promise 7).

Time stands still while anything is in flight; then the next sleeper is woken, one at a time. In flight is

- a callback or task that is ready to run: asyncio calls `select` with a time to wait only when there is none;
- a job in a thread: every one goes through `run_in_executor`, which counts it until its answer is in the loop;
- a byte between two sockets of this process: both ends count, so a kernel that is slow to hand over a segment cannot
  let time slip past an answer that was sent (`metergate.virtual_wires`).

There is no sleep and no "long enough" in this: the question is counted, not guessed. Real timers of asyncio
(`call_later`) go by the host's clock, as ever; our rooms have none, a ruff rule keeps them out.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import selectors
import socket
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from typing import Any, Final, Protocol, TypeVar, TypeVarTuple, Unpack

from metergate.virtual_wires import Wires
from metering.errors import MetergateError

T = TypeVar("T")
Ts = TypeVarTuple("Ts")
_STUCK_S: Final = 30.0
"""Real seconds without any event after which bytes on a wire count as never read."""
_THREADS: Final = 8


class StuckError(MetergateError):
    """Something stays in flight for ever, so that virtual time cannot go on; says what."""


class _Alarm:
    """One entry of the clock's queue. `ring` is None once it is cancelled."""

    __slots__ = ("due", "order", "ring")

    def __init__(self, due: float, order: int, ring: Callable[[], None]) -> None:
        self.due, self.order = due, order
        self.ring: Callable[[], None] | None = ring

    def __lt__(self, other: _Alarm) -> bool:
        return (self.due, self.order) < (other.due, other.order)


class VirtualClock:
    """Virtual time from `start_ms` [ms since 1970, UTC]; moved by its `VirtualLoop` only.

    jumps: how often it moved. A wait of 0 s or less gives other tasks a turn and moves nothing.
    """

    def __init__(self, start_ms: int) -> None:
        self.jumps = 0
        self._start_ms = start_ms
        self._now = 0.0
        self._order = itertools.count()
        self._alarms: list[_Alarm] = []
        self.loop: VirtualLoop | None = None

    def now_ms(self) -> int:
        """Wall time [ms since 1970, UTC]."""
        return self._start_ms + round(self._now * 1000)

    def monotonic(self) -> float:
        """Seconds since the start."""
        return self._now

    async def sleep(self, seconds: float) -> None:
        """Wait until virtual time is there."""
        if seconds <= 0:
            await asyncio.sleep(0)  # noqa: TID251  a turn for others, no time
            return
        woken: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        alarm = self._set(seconds, lambda: _wake(woken))
        try:
            await woken
        finally:
            alarm.ring = None

    async def timeout(self, awaitable: Awaitable[T], seconds: float) -> T:
        """Await with a deadline. Raises: TimeoutError, and what is awaited is cancelled."""
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("timeout needs a task")
        expired, before = False, task.cancelling()

        def expire() -> None:
            nonlocal expired
            expired = True
            task.cancel()

        alarm = self._set(seconds, expire)
        try:
            return await awaitable
        except asyncio.CancelledError:
            if expired and task.uncancel() <= before:
                raise TimeoutError from None
            raise
        finally:
            alarm.ring = None

    def pause(self, seconds: float) -> None:
        """Block this thread until virtual time is there; its job does not hold time up meanwhile."""
        loop = self.loop
        if loop is None or loop.is_here():
            raise RuntimeError("pause is for threads that do blocking work")
        over = threading.Event()

        def begin() -> None:
            loop.jobs -= 1

            def ring() -> None:
                loop.jobs += 1
                over.set()

            self._set(max(0.0, seconds), ring)

        loop.call_soon_threadsafe(begin)
        over.wait()

    def jump(self) -> bool:
        """Move to the next alarm and ring it; False when there is none."""
        while self._alarms:
            alarm = heapq.heappop(self._alarms)
            if alarm.ring is not None:
                self._now = max(self._now, alarm.due)
                self.jumps += 1
                alarm.ring()
                return True
        return False

    def _set(self, seconds: float, ring: Callable[[], None]) -> _Alarm:
        alarm = _Alarm(self._now + max(0.0, seconds), next(self._order), ring)
        heapq.heappush(self._alarms, alarm)
        return alarm


def _wake(waiting: asyncio.Future[None]) -> None:
    if not waiting.done():
        waiting.set_result(None)


class UnderWay(Protocol):
    """Something that may be under way, so that time has to wait for it."""

    @property
    def busy(self) -> bool:
        """True while it is."""

    def words(self) -> str:
        """Say what, for a person."""


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop that moves its clock when nothing is in flight; `asyncio.Runner(loop_factory=…)` runs it.

    jobs: calls that threads are doing. wires: what is under way between sockets of this process. others: what else
    may be under way, such as messages at a broker.
    """

    def __init__(self, clock: VirtualClock) -> None:
        self.clock, self.jobs, self.wires = clock, 0, Wires()
        self.others: list[UnderWay] = []
        clock.loop = self
        self._thread_of_loop = threading.get_ident()
        super().__init__(_Barrier(self))
        self.set_default_executor(ThreadPoolExecutor(_THREADS, thread_name_prefix="virtual"))

    @property
    def quiet(self) -> bool:
        """True when no thread works and no byte is under way; that no callback is ready, `select` knows."""
        return not self.jobs and not self.outside

    @property
    def outside(self) -> list[UnderWay]:
        """Return what has something under way outside of this process's threads."""
        return [each for each in (self.wires, *self.others) if each.busy]

    def is_here(self) -> bool:
        """True in the thread that runs this loop."""
        return threading.get_ident() == self._thread_of_loop

    def set_default_executor(self, executor: Any) -> None:
        """As asyncio's; remembered, because `run_in_executor` counts."""
        self._own_executor: Executor = executor
        super().set_default_executor(executor)

    def run_in_executor(
        self, executor: Executor | None, func: Callable[[Unpack[Ts]], T], *args: *Ts
    ) -> asyncio.Future[T]:
        """As asyncio's, and counted until its answer has reached the loop."""
        job = (executor or self._own_executor).submit(func, *args)
        self.jobs += 1
        answer = asyncio.wrap_future(job, loop=self)  # hands its answer over before `_done` is called
        job.add_done_callback(self._done)
        return answer

    def _done(self, _: Future[Any]) -> None:
        if not self.is_closed():
            self.call_soon_threadsafe(self._count_down)

    def _count_down(self) -> None:
        self.jobs -= 1

    async def sock_connect(self, sock: socket.socket, address: Any) -> None:
        """As asyncio's; a connection to this host that is being made holds time up."""
        here = isinstance(address, tuple) and str(address[0]).startswith("127.")
        self.jobs += here
        try:
            await super().sock_connect(sock, address)
        finally:
            self.jobs -= here

    async def create_server(self, *args: Any, **options: Any) -> asyncio.Server:
        """As asyncio's; connections to it are counted at both ends."""
        server = await super().create_server(*args, **options)
        for sock in server.sockets:
            self.wires.listen(sock.getsockname())
        return server

    def _make_socket_transport(self, sock: socket.socket, *args: Any, **options: Any) -> Any:
        """asyncio's one place where a connected TCP socket becomes a transport, of clients and servers alike."""
        make: Any = getattr(super(), "_make_socket_transport")  # noqa: B009  typeshed does not show it
        return make(self.wires.counted(sock), *args, **options)


class _Barrier(selectors.DefaultSelector):
    """Looks for events; when there is none and nothing else in flight, time jumps."""

    def __init__(self, loop: VirtualLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """As every selector's. timeout: None or > 0 says that asyncio has nothing left to do."""
        events = super().select(0)
        if events or (timeout is not None and timeout <= 0):
            return events
        loop = self._loop
        if loop.quiet and loop.clock.jump():
            return []
        if loop.jobs or not loop.outside:
            return super().select(timeout)
        events = super().select(_STUCK_S if timeout is None else min(timeout, _STUCK_S))
        if not events and timeout is None:
            words = "; ".join(each.words() for each in loop.outside)
            raise StuckError(f"bytes are under way that nobody reads: {words}")
        return events
