"""Where the deployment files are, and the programs that judge them. A missing one fails a test, never skips it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parent.parent.parent
DEPLOY = ROOT / "deploy"
COMPOSE = ROOT / "docker-compose.yml"


def program(name: str) -> str:
    """Return the path of a program. Raises: AssertionError that says where it comes from."""
    folders = [str(Path(sys.executable).parent), os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"]
    found = shutil.which(name, path=":".join(folders))
    assert found, f"{name} is missing: `make test` installs packages-debian.txt and the test extra of pyproject.toml"
    return found


def run(
    name: str, *arguments: str | Path, folder: Path = ROOT, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a program to its end; what it wrote is in `stdout` and `stderr`."""
    command = [program(name), *map(str, arguments)]
    full = {**os.environ, **(env or {})}
    return subprocess.run(command, cwd=folder, env=full, capture_output=True, text=True, timeout=120)


@cache
def compose() -> dict[str, Any]:
    """Return docker-compose.yml as docker-compose understands it, the gateway's profile included (read-only)."""
    done = run("docker-compose", "-f", COMPOSE, "--profile", "gateway", "config")
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = yaml.safe_load(done.stdout)
    return found


def written() -> dict[str, Any]:
    """Return docker-compose.yml as it stands in the file."""
    found: dict[str, Any] = yaml.safe_load(COMPOSE.read_text("utf-8"))
    return found


def make_secrets(folder: Path, *gateways: str, rotate: Sequence[str] = ()) -> str:
    """Run deploy/init.py as an operator does; return what it said."""
    words = [word for gateway in gateways for word in ("--gateway", gateway)]
    words += [word for user in rotate for word in ("--rotate", user)]
    command = [sys.executable, "-I", str(DEPLOY / "init.py"), "--folder", str(folder), *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout
