"""The Dockerfile: linted, pinned, not root, and complete: what it copies is enough to start every command."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.deploy.tools import ROOT, run, written

DOCKERFILE = (ROOT / "Dockerfile").read_text("utf-8")
INSTRUCTIONS = [
    line.split(None, 1)
    for line in re.sub(r"\\\n\s*", "", DOCKERFILE).splitlines()
    if line.strip() and not line.startswith("#")
]
COPIED = [
    source.rstrip("/")
    for word, rest in INSTRUCTIONS
    if word == "COPY" and not rest.startswith("--from")
    for source in shlex.split(rest)[:-1]
]


def test_hadolint_finds_nothing() -> None:
    done = run("hadolint", "--failure-threshold", "style", ROOT / "Dockerfile")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_hadolint_would_find_something(tmp_path: Path) -> None:
    bad = tmp_path / "Dockerfile"
    bad.write_text("FROM python:latest\nRUN pip install metergate\n")
    assert run("hadolint", bad).returncode != 0


def test_every_base_is_pinned_and_every_stage_ends_as_somebody_else_than_root() -> None:
    bases = [rest.split()[0] for word, rest in INSTRUCTIONS if word == "FROM"]
    outside = [base for base in bases if base not in ("build", "runtime")]
    assert outside == ["python:3.11.11-slim-bookworm"] * 2
    assert [rest for word, rest in INSTRUCTIONS if word == "USER"] == ["10001:10001"]
    assert "ADD" not in {word for word, _ in INSTRUCTIONS}


def test_no_secret_is_built_in() -> None:
    named = [rest for word, rest in INSTRUCTIONS if word in ("ENV", "ARG")]
    assert not re.search(r"password|token|secret|METERGATE__", " ".join(named), re.IGNORECASE)


@pytest.mark.parametrize("name", ["api", "gateway", "ingest"])
def test_the_health_check_of_the_image_is_the_one_of_compose(name: str) -> None:
    stage = DOCKERFILE.partition(f"AS {name}\n")[2].partition("\nFROM")[0]
    check = json.loads(stage.partition("HEALTHCHECK")[2].partition("CMD ")[2].partition("\n")[0])
    assert ["CMD", *check] == written()["services"][name]["healthcheck"]["test"]
    command = json.loads(stage.rpartition("CMD ")[2])
    assert command == [name, "--config", "/etc/metergate/metergate.toml"]


def test_the_image_gets_exactly_what_dockerignore_lets_through() -> None:
    lines = (ROOT / ".dockerignore").read_text("utf-8").splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    assert rules[0] == "*"  # everything else stays outside: secrets, data, .git
    assert sorted(rule[1:] for rule in rules if rule.startswith("!")) == sorted(COPIED)


def test_every_room_is_in_the_image_and_in_the_wheel() -> None:
    not_product = {"tests", "benchmarks"}
    rooms = {path.parent.name for path in ROOT.glob("*/__init__.py")} - not_product
    wheel = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert {source for source in COPIED if (ROOT / source).is_dir()} == rooms
    assert set(wheel["packages"]) == rooms


def test_what_is_copied_is_enough_for_every_service(tmp_path: Path) -> None:
    """Front door and health check start from a copy of only these folders; nothing may come from elsewhere."""
    for source in COPIED:
        if (ROOT / source).is_dir():
            shutil.copytree(ROOT / source, tmp_path / source, ignore=shutil.ignore_patterns("__pycache__"))
    looked = (
        "import sys; sys.path.insert(0, sys.argv[1]); import metergate.__main__, metergate.health\n"
        "from gateway.profiles import load_profiles; assert load_profiles()\n"
        "from registry.database import Database; Database('sqlite://').upgrade()\n"
        "files = [getattr(module, '__file__', None) or '' for module in list(sys.modules.values())]\n"
        "print('\\n'.join(name for name in files if name.startswith(sys.argv[2]) and '/.venv/' not in name))"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", looked, str(tmp_path), f"{ROOT}/"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (done.returncode, done.stdout.strip()) == (0, ""), done.stderr
