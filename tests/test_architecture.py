"""The arrows between the rooms, read from the imports."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

MAY_IMPORT: dict[str, set[str]] = {
    "metering": set(),
    "gateway/protocols": {"metering"},
    "gateway/drivers": {"metering", "gateway/protocols"},
    "gateway": {"metering", "gateway/protocols", "gateway/drivers"},
    "registry": {"metering"},
    "ingest": {"metering", "registry"},
    "anomaly": {"metering", "registry"},
    "api": {"metering", "registry", "ingest", "anomaly"},
    "simulators": {"metering", "gateway/protocols", "gateway"},
}
MAY_IMPORT["metergate"] = set(MAY_IMPORT)

# inside `gateway` these plain files are data words that drivers may use too
_DATA_WORDS = ("gateway.profile", "gateway.units", "gateway.plan")


def room_of(module: str) -> str | None:
    for room in ("gateway/protocols", "gateway/drivers"):
        if module == (dotted := room.replace("/", ".")) or module.startswith(dotted + "."):
            return room
    top = module.split(".")[0]
    return top if top in MAY_IMPORT else None


def files() -> list[Path]:
    return sorted(path for room in MAY_IMPORT if "/" not in room for path in (ROOT / room).rglob("*.py"))


def imports(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: write the whole name, not a relative import"
            module = node.module or ""
            names = (f"{module}.{alias.name}" for alias in node.names)
            found |= {name if room_of(name) else module for name in names}
    return found


@pytest.mark.parametrize("path", files(), ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_follow_the_arrows(path: Path) -> None:
    here = room_of(".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"))
    assert here is not None
    for module in imports(path):
        there = room_of(module)
        if there in (None, here):
            continue
        if here == "gateway/drivers" and module.startswith(_DATA_WORDS):
            continue
        assert there in MAY_IMPORT[here], f"{here} must not import {module}"


def test_the_walk_sees_every_room() -> None:
    seen = {room_of(".".join(path.relative_to(ROOT).with_suffix("").parts)) for path in files()}
    assert {"metering", "registry", "gateway", "gateway/protocols", "ingest", "api", "simulators"} <= seen


PURE = ("socket", "serial", "asyncio", "sqlite3", "paho", "pymodbus", "time", "logging", "structlog", "threading")


@pytest.mark.parametrize("path", sorted((ROOT / "gateway/protocols").rglob("*.py")), ids=lambda path: path.name)
def test_protocols_do_no_input_output(path: Path) -> None:
    for module in imports(path):
        assert module.split(".")[0] not in PURE, f"{path.name} imports {module}; a codec has no I/O, clock or log"
