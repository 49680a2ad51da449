"""A process that leaves says what it had to say and joins nobody."""

from __future__ import annotations

import subprocess
import sys

_WORK = """
import threading
from metering.ending import leave
threading.Thread(target=threading.Event().wait).start()  # it would be joined for ever
print("said", end="")
leave(3)
"""


def test_what_was_printed_arrives_and_a_thread_that_waits_holds_nothing_up() -> None:
    done = subprocess.run([sys.executable, "-c", _WORK], capture_output=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (3, b"said", b"")
