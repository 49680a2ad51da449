"""What systemd hears: from the notifier alone, and from real services started as systemd would start them."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from metergate.systemd import Notifier
from metering.clock import ManualClock

DEADLINE_S = 60.0


class Ear:
    """The manager's end of the socket."""

    def __init__(self, address: str) -> None:
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(address)
        self.socket.settimeout(DEADLINE_S)

    def next(self) -> str:
        """Wait for the next word. Raises: TimeoutError."""
        return self.socket.recv(1024).decode()

    def heard(self) -> list[str]:
        """Return what has come so far."""
        words = []
        self.socket.setblocking(False)
        try:
            while True:
                words.append(self.socket.recv(1024).decode())
        except BlockingIOError:
            self.socket.settimeout(DEADLINE_S)
            return words


@pytest.fixture
def ear(tmp_path: Path) -> Iterator[Ear]:
    ear = Ear(str(tmp_path / "notify"))
    yield ear
    ear.socket.close()


def test_ready_and_stopping_are_one_datagram_each(ear: Ear, tmp_path: Path) -> None:
    notifier = Notifier(str(tmp_path / "notify"))
    notifier.ready()
    notifier.stopping()
    assert ear.heard() == ["READY=1", "STOPPING=1"]


def test_an_abstract_socket_is_reached() -> None:
    name = f"metergate-test-{os.getpid()}"
    ear = Ear("\0" + name)
    Notifier("@" + name).ready()
    assert ear.next() == "READY=1"
    ear.socket.close()


def test_three_signs_of_life_come_within_each_deadline(ear: Ear, tmp_path: Path) -> None:
    async def scenario() -> None:
        clock = ManualClock()
        beating = asyncio.create_task(Notifier(str(tmp_path / "notify"), 30.0).keep_alive(clock))
        await clock.advance(0)
        assert ear.heard() == ["WATCHDOG=1"]  # at once: a slow start must not eat the first deadline
        await clock.advance(9.9)
        assert ear.heard() == []
        await clock.advance(20.2)  # 10, 20 and 30 s
        assert ear.heard() == ["WATCHDOG=1"] * 3
        beating.cancel()

    asyncio.run(scenario())


def test_without_a_manager_nothing_is_sent_and_nothing_fails(tmp_path: Path) -> None:
    Notifier().ready()
    Notifier(str(tmp_path / "nobody")).ready()
    asyncio.run(Notifier().keep_alive(ManualClock()))
    asyncio.run(Notifier(str(tmp_path / "nobody")).keep_alive(ManualClock()))


def test_the_environment_is_taken_and_not_handed_on_to_children() -> None:
    env = {"NOTIFY_SOCKET": "/run/systemd/notify", "WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "77", "HOME": "/"}
    assert Notifier.from_environment(env, pid=77) == Notifier("/run/systemd/notify", 30.0)
    assert env == {"HOME": "/"}


@pytest.mark.parametrize(
    ("env", "expected"),
    [
        ({}, Notifier()),
        ({"NOTIFY_SOCKET": "/n", "WATCHDOG_USEC": "2000000"}, Notifier("/n", 2.0)),  # no PID: meant for all
        ({"NOTIFY_SOCKET": "/n", "WATCHDOG_USEC": "2000000", "WATCHDOG_PID": "8"}, Notifier("/n")),
        ({"NOTIFY_SOCKET": "/n", "WATCHDOG_USEC": "soon"}, Notifier("/n")),
        ({"NOTIFY_SOCKET": "vsock:2:1234"}, Notifier()),
    ],
)
def test_odd_environments_never_stop_a_service(env: dict[str, str], expected: Notifier) -> None:
    assert Notifier.from_environment(env, pid=7) == expected


def start(service: str, folder: Path, *, watchdog_s: float) -> subprocess.Popen[bytes]:
    """Start a service as systemd does: its words go to the socket `notify` in the folder."""
    env = {
        **os.environ,
        "NOTIFY_SOCKET": str(folder / "notify"),
        "WATCHDOG_USEC": str(round(watchdog_s * 1e6)),
        "METERGATE__REGISTRY__URL": f"sqlite:///{folder / 'registry.db'}",
        "METERGATE__STORE__PATH": str(folder / "readings.db"),
        "METERGATE__API__PORT": "0",
        "METERGATE__BROKER__PORT": "1",  # nobody there: a service waits for its broker and is well meanwhile
    }
    with (folder / f"{service}.log").open("wb") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "metergate", service], cwd=folder, env=env, stdout=log, stderr=log
        )


@pytest.mark.parametrize("service", ["ingest", "api"])
def test_a_service_is_ready_lives_and_stops_in_the_manager_s_words(service: str, ear: Ear, tmp_path: Path) -> None:
    process = start(service, tmp_path, watchdog_s=0.3)
    try:
        words = [ear.next()]
        while "READY=1" not in words or words.count("WATCHDOG=1") < 3:
            words.append(ear.next())
        assert set(words) == {"READY=1", "WATCHDOG=1"}
        process.send_signal(signal.SIGTERM)
        while (word := ear.next()) != "STOPPING=1":
            assert word == "WATCHDOG=1"
        assert process.wait(DEADLINE_S) == 0
    finally:
        process.kill()
        process.wait()


def test_a_service_that_hangs_is_silent(ear: Ear, tmp_path: Path) -> None:
    process = start("ingest", tmp_path, watchdog_s=0.3)
    try:
        while ear.next() != "WATCHDOG=1":
            pass
        process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, process.pid, os.WSTOPPED)
        ear.heard()
        ear.socket.settimeout(1.0)  # more than three deadlines
        with pytest.raises(TimeoutError):
            ear.next()
    finally:
        process.kill()
        process.wait()
