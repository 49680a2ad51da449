"""One small patch per promise of the design that breaks it; `make sabotage` shows which test catches each.

A patch file starts with lines of the form

    promise: 1 nothing lost
    breaks: the outbox forgets a row when the broker (not ingest) has it
    tests: tests/gateway/test_uplink.py

followed by a unified diff with paths relative to the project's root.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
ROOT = FOLDER.parent.parent


@dataclass(frozen=True, slots=True)
class Sabotage:
    """One patch and the tests that must notice it."""

    path: Path
    promise: str
    breaks: str
    tests: list[str]


def sabotages() -> list[Sabotage]:
    """Return all patches in the order of their names. Raises: ValueError for a patch without its header."""
    return [_read(path) for path in sorted(FOLDER.glob("*.patch"))]


def _read(path: Path) -> Sabotage:
    header: dict[str, str] = {}
    for line in path.read_text("utf-8").splitlines():
        if line.startswith(("---", "diff ")):
            break
        name, _, text = line.partition(":")
        header[name.strip()] = text.strip()
    if absent := {"promise", "breaks", "tests"} - header.keys():
        raise ValueError(f"{path.name}: the header lacks {', '.join(sorted(absent))}")
    return Sabotage(path, header["promise"], header["breaks"], header["tests"].split())
