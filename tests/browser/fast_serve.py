"""The real API with a hub that looks more often: `python -m tests.browser.fast_serve FOLDER SETTINGS`.

A night of changes then passes in less time; nothing else differs.
"""

from __future__ import annotations

from api.screens import live
from tests.api import serve

LOOK_S = 0.1

if __name__ == "__main__":
    live.POLL_S = LOOK_S  # type: ignore[misc]  # a constant everywhere else
    serve.main()
