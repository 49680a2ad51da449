"""Words to the service manager (sd_notify): ready, a sign of life, stopping. Plain datagrams, no library.

The sign of life is sent from the service's own event loop, so that a loop that hangs is noticed and the service is
started again. Where no manager listens (a terminal, a container, another system) everything here is mute.

Source: sd_notify(3), sd_watchdog_enabled(3) of systemd 252.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import MutableMapping
from dataclasses import dataclass
from typing import Final

from metering.clock import Clock

_BEATS_PER_DEADLINE: Final = 3  # the manual asks for two; one may be late on a busy host


@dataclass(frozen=True, slots=True)
class Notifier:
    """One manager's ear. address: path of its socket, "@…" for an abstract one, "" for none.

    watchdog_s: [s] within which the manager wants a sign of life; 0 when it does not watch.
    """

    address: str = ""
    watchdog_s: float = 0.0

    @classmethod
    def from_environment(cls, env: MutableMapping[str, str] | None = None, pid: int | None = None) -> Notifier:
        """Take what the manager left in the environment, and remove it: children must not speak in our name."""
        env = os.environ if env is None else env
        address = env.pop("NOTIFY_SOCKET", "")
        wanted, addressee = env.pop("WATCHDOG_USEC", ""), env.pop("WATCHDOG_PID", "")
        meant = not addressee or addressee == str(os.getpid() if pid is None else pid)
        watchdog_s = int(wanted) / 1e6 if meant and wanted.isascii() and wanted.isdigit() else 0.0
        return cls(address if address[:1] in ("/", "@") else "", watchdog_s)

    def ready(self) -> None:
        """Say that the service works; the units that wait for it start now."""
        self._send("READY=1")

    def stopping(self) -> None:
        """Say that the service ends on purpose."""
        self._send("STOPPING=1")

    async def keep_alive(self, clock: Clock) -> None:
        """Send signs of life until cancelled; returns at once when nobody watches."""
        while self.address and self.watchdog_s > 0:
            self._send("WATCHDOG=1")
            await clock.sleep(self.watchdog_s / _BEATS_PER_DEADLINE)

    def _send(self, text: str) -> None:
        """Hand it over, or not: a manager that is gone or busy never stops the service."""
        if not self.address:
            return
        name = "\0" + self.address[1:] if self.address.startswith("@") else self.address
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ear:
            ear.setblocking(False)
            ear.sendto(text.encode(), name)
