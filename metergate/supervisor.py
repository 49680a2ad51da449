"""Runs the services as processes of their own, and starts one again when it dies.

Separate processes on purpose: a service that is killed takes nothing with it, and the demo's figures are those of a
real house. Standard output of each child goes to `<name>.log` in the folder of the run.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from metergate.child import PARENT
from metering.clock import Clock
from metering.errors import MetergateError

_FIRST_RETRY_S: Final = 0.5
_LAST_RETRY_S: Final = 20.0
_STEADY_S: Final = 30.0
_LAST_WORDS_BYTES: Final = 600


@dataclass(frozen=True, slots=True)
class Service:
    """One child: `python -m module args…`. stop_first: ended before the others (the order of the reading's way)."""

    name: str
    module: str
    args: tuple[str, ...] = ()


@dataclass(eq=False)
class Supervisor:
    """Starts services in order, watches them, stops them in order."""

    services: Sequence[Service]
    folder: Path
    clock: Clock
    restarts: dict[str, int] = field(default_factory=dict)
    _children: dict[str, asyncio.subprocess.Process] = field(default_factory=dict)
    _watchers: list[asyncio.Task[None]] = field(default_factory=list)
    _stopping: bool = False

    async def start(self) -> None:
        """Start all services."""
        for service in self.services:
            await self._spawn(service)
            self._watchers.append(asyncio.create_task(self._watch(service)))

    async def stop(self, names: Sequence[str] | None = None, *, deadline_s: float = 2.0) -> None:
        """End services (all, or those named) with SIGTERM; whoever is still there at the deadline is killed.

        Of all, the one that was started first ends last: the others still want to tell the broker something.
        """
        if names is None:
            self._stopping = True
            await self.stop([service.name for service in self.services[1:]], deadline_s=deadline_s)
            names = [service.name for service in self.services[:1]]
        chosen = {name: child for name, child in self._children.items() if name in names}
        for name, watcher in zip([s.name for s in self.services], self._watchers, strict=False):
            if name in chosen:
                watcher.cancel()
        await asyncio.gather(*(self._end(child, deadline_s) for child in chosen.values()))
        for name in chosen:
            del self._children[name]

    def running(self, name: str) -> bool:
        """True while the service's process lives."""
        child = self._children.get(name)
        return child is not None and child.returncode is None

    def last_words(self, name: str) -> str:
        """Return the end of a service's log, for the message to the person in front of the screen."""
        path = self._log_path(name)
        if not path.exists():
            return ""
        with path.open("rb") as log:
            log.seek(max(0, path.stat().st_size - _LAST_WORDS_BYTES))
            return log.read().decode("utf-8", "replace").strip()

    def _log_path(self, name: str) -> Path:
        return self.folder / f"{name}.log"

    async def _spawn(self, service: Service) -> None:
        with self._log_path(service.name).open("ab") as log:
            try:
                self._children[service.name] = await asyncio.create_subprocess_exec(
                    sys.executable,
                    "-m",
                    "metergate.child",
                    service.module,
                    *service.args,
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    process_group=0,  # Ctrl-C at the terminal reaches us alone; we end the children in order
                    env=os.environ | {PARENT: str(os.getpid())},
                )
            except OSError as error:
                raise MetergateError(f"{service.name} cannot be started: {error}") from error

    async def _watch(self, service: Service) -> None:
        delay = _FIRST_RETRY_S
        while True:
            started = self.clock.monotonic()
            await self._children[service.name].wait()
            if self._stopping:
                return
            if self.clock.monotonic() - started > _STEADY_S:
                delay = _FIRST_RETRY_S
            await self.clock.sleep(delay)
            delay = min(2 * delay, _LAST_RETRY_S)
            self.restarts[service.name] = self.restarts.get(service.name, 0) + 1
            await self._spawn(service)

    async def _end(self, child: asyncio.subprocess.Process, deadline_s: float) -> None:
        with contextlib.suppress(ProcessLookupError):
            child.send_signal(signal.SIGTERM)
        try:
            await self.clock.timeout(child.wait(), deadline_s)
        except TimeoutError:
            with contextlib.suppress(ProcessLookupError):
                child.kill()
            await child.wait()
