"""Real brokers on loopback for the tests: Mosquitto (Debian) and the embedded one (PyPI `iotcore`)."""

from __future__ import annotations

import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

_PORTS: Final = range(22_000, 32_000)
"""Above those of `metergate.house`, below those that the system hands out by itself (from 32,768 on)."""
_claims: list[int] = []  # descriptors, open until the process ends
_chance = random.Random()  # any seed: two processes that begin at the same port only meet more often


def free_port() -> int:
    """Return a TCP port of loopback that is free and stays so until who asked takes it, however late.

    It is claimed while this process lives, by a name of which there is one on the machine: no other process of the
    tests, nor of a second run beside them, is given the same port.
    """
    while True:
        port = _chance.choice(_PORTS)
        with socket.socket() as probe, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as claim:
            try:
                claim.bind(f"\0metergate-test-port-{port}")
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            _claims.append(claim.detach())
            return port


def wait_for_port(port: int, deadline_s: float = 90.0) -> None:
    """Return when something listens on loopback. Raises: TimeoutError."""
    end = time.monotonic() + deadline_s
    while time.monotonic() < end:
        with socket.socket() as probe:
            probe.settimeout(0.5)
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.02)
    raise TimeoutError(f"nothing listens on port {port} after {deadline_s} s")


@dataclass
class BrokerProcess:
    """A broker that can be killed and started again on the same port."""

    command: list[str]
    port: int
    folder: Path
    process: subprocess.Popen[bytes] | None = field(default=None)

    def start(self) -> None:
        with (self.folder / "broker.log").open("ab") as log:
            self.process = subprocess.Popen(self.command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)
        wait_for_port(self.port)

    def kill(self) -> None:
        """kill -9: nothing that the broker had only in memory survives."""
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()

    def stop(self) -> None:
        if self.process and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(5)
            except subprocess.TimeoutExpired:
                self.kill()


def mosquitto(folder: Path, extra: str = "", port: int | None = None) -> BrokerProcess:
    """A Mosquitto with a generated configuration; `extra` lines are added to it."""
    program = shutil.which("mosquitto", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
    assert program, "mosquitto is missing: `make test` installs the Debian packages of packages-debian.txt"
    port = port or free_port()
    folder.mkdir(parents=True, exist_ok=True)
    config = folder / "mosquitto.conf"
    access = "" if "allow_anonymous" in extra else "allow_anonymous true\n"
    config.write_text(f"listener {port} 127.0.0.1\n{access}persistence false\nuser root\n{extra}\n")
    return BrokerProcess([program, "-c", str(config)], port, folder)


def embedded(folder: Path, port: int | None = None) -> BrokerProcess:
    """The broker of the demo, in a process of its own."""
    port = port or free_port()
    folder.mkdir(parents=True, exist_ok=True)
    return BrokerProcess([sys.executable, "-m", "metergate.broker", "--port", str(port)], port, folder)


@contextmanager
def running(broker: BrokerProcess) -> Iterator[BrokerProcess]:
    """Start, hand out, stop."""
    broker.start()
    try:
        yield broker
    finally:
        broker.stop()
