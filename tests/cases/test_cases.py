"""Every folder beside this file is a recording and what must come of it, through the gateway's own drivers."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.plan import load_plan
from gateway.profiles import load_profiles
from gateway.replay.decoding import decode_recording
from metering.recording import read_recording
from simulators.comparing import compare
from simulators.outcomes import write_outcome

FOLDER = Path(__file__).resolve().parent
CASES = sorted(path.parent for path in FOLDER.glob("*/plan.toml"))


def replay(case: Path, folder: Path) -> None:
    """Decode a case's recording into files."""
    plan = load_plan(case / "plan.toml", load_profiles())
    outcome = decode_recording(read_recording(*sorted(case.glob("recording*.jsonl"))), plan)
    write_outcome(folder, outcome.rows, outcome.counts)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_recorded_case_comes_to_what_was_expected(case: Path, tmp_path: Path) -> None:
    replay(case, tmp_path)
    found = compare(case / "expected", tmp_path)
    assert found.lines["readings"][0] > 0, "a case without expected readings proves nothing"
    assert found.same, "\n".join(map(str, found.differences[:20]))


def test_the_cases_of_this_house_are_here() -> None:
    assert len(CASES) >= 7
