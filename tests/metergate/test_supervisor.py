"""Services as processes of their own: started again when they die, ended in time, never left behind."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from metergate.supervisor import Service, Supervisor
from metering.clock import SystemClock

SLEEPER = Service("sleeper", "tests.metergate.sleeper", ("note",))


def alive(pid: int) -> bool:
    """True while the process runs; one that only waits to be reaped by its new parent is dead."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def wait_for(condition: object, deadline_s: float = 60.0) -> None:
    end = time.monotonic() + deadline_s
    while not condition():  # type: ignore[operator]  # a callable
        assert time.monotonic() < end
        time.sleep(0.02)


def test_a_service_that_dies_is_started_again(tmp_path: Path) -> None:
    async def scenario() -> None:
        supervisor = Supervisor([SLEEPER], tmp_path, SystemClock())
        await supervisor.start()
        first = supervisor._children["sleeper"].pid
        os.kill(first, signal.SIGKILL)
        async with asyncio.timeout(60):
            while supervisor.restarts.get("sleeper") != 1:
                await asyncio.sleep(0.02)
        assert supervisor.running("sleeper")
        await supervisor.stop()
        assert not supervisor.running("sleeper")
        await asyncio.sleep(0.7)
        assert supervisor.restarts == {"sleeper": 1}, "what was stopped stays stopped"

    asyncio.run(scenario())


def test_a_service_that_ignores_sigterm_is_killed_at_the_deadline(tmp_path: Path) -> None:
    async def scenario() -> None:
        stubborn = Service("stubborn", "tests.metergate.sleeper", ("note", "stubborn"))
        supervisor = Supervisor([stubborn], tmp_path, SystemClock())
        await supervisor.start()
        async with asyncio.timeout(60):
            while "ready" not in supervisor.last_words("stubborn"):
                await asyncio.sleep(0.02)
        begun = time.monotonic()
        await supervisor.stop(deadline_s=0.3)
        assert 0.25 < time.monotonic() - begun < 60  # it sleeps for five minutes

    asyncio.run(scenario())


def test_children_die_with_a_supervisor_that_is_killed(tmp_path: Path) -> None:
    program = (
        "import asyncio, pathlib\n"
        "from metergate.supervisor import Service, Supervisor\n"
        "from metering.clock import SystemClock\n"
        "async def main():\n"
        f"    supervisor = Supervisor([Service('sleeper', 'tests.metergate.sleeper', ('note',))], "
        f"pathlib.Path({str(tmp_path)!r}), SystemClock())\n"
        "    await supervisor.start()\n"
        "    print(supervisor._children['sleeper'].pid, flush=True)\n"
        "    await asyncio.Event().wait()\n"
        "asyncio.run(main())\n"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        log = tmp_path / "sleeper.log"
        wait_for(lambda: log.exists() and "ready" in log.read_text())
        assert alive(child)
        parent.kill()
        parent.wait()
    wait_for(lambda: not alive(child))
