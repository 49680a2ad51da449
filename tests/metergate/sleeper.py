"""A service for the supervisor's tests: says that it is ready and sleeps; `stubborn` ignores SIGTERM."""

from __future__ import annotations

import signal
import sys
import time

if __name__ == "__main__":
    if "stubborn" in sys.argv:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    print("ready", flush=True)
    time.sleep(300)
