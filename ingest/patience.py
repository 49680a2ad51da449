"""What ingest does while a store, a registry or its clock cannot: it asks again for ever, ever less often."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeVar

import structlog
from sqlalchemy.exc import DBAPIError

from ingest.checking import Counters
from ingest.worker import Worker
from metering.clock import Clock
from metering.errors import RegistryError, StoreError
from registry.leases import LeaseLostError

T = TypeVar("T")

_FIRST_RETRY_S: Final = 0.1
_LAST_RETRY_S: Final = 5.0

_log = structlog.get_logger("ingest")


class Patience:
    """`problems`: dependency -> why it cannot at the moment, "" when it can."""

    def __init__(self, clock: Clock, counters: Counters) -> None:
        self.problems = {"store": "", "registry": "", "clock": ""}
        self._clock, self._counters = clock, counters

    async def ask(self, what: str, worker: Worker, call: Callable[[], T]) -> T:
        """Return what `call` answers on its worker's thread, whenever that is. Raises: LeaseLostError."""
        delay = _FIRST_RETRY_S
        while True:
            try:
                result = await worker.run(call)
            except LeaseLostError:
                raise  # waiting does not bring it back
            except (StoreError, RegistryError, DBAPIError) as error:
                if not self.problems[what]:
                    _log.warning("waiting", what=what, error=str(error))
                self.problems[what] = str(error)
                self._counters["retries_total", f'what="{what}"'] += 1
                await self._clock.sleep(delay)
                delay = min(delay * 2, _LAST_RETRY_S)
                continue
            if self.problems[what]:
                _log.info("back", what=what)
                self.problems[what] = ""
            return result

    async def sane_clock(self, earliest_ms: int) -> None:
        """A host that starts in 1970 must not judge anybody's time: every honest row would look like the future."""
        while (now := self._clock.now_ms()) < earliest_ms:
            self.problems["clock"] = f"this host's clock says {now} ms since 1970; nothing is judged until it is set"
            await self._clock.sleep(1.0)
        self.problems["clock"] = ""
