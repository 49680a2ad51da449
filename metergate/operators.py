"""Who sits at the command line."""

from __future__ import annotations

import getpass
import os


def operator() -> str:
    """Return the name under which the host knows whoever sits at the command line."""
    try:
        return os.environ.get("SUDO_USER") or getpass.getuser()
    except (OSError, KeyError):
        return str(os.getuid())
