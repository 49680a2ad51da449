"""The sabotage patches still fit the code they break; `make sabotage` runs them."""

from __future__ import annotations

import subprocess

import pytest

from tests.sabotage import ROOT, Sabotage, sabotages


@pytest.mark.parametrize("sabotage", sabotages(), ids=lambda sabotage: sabotage.path.name)
def test_patch_applies_to_the_present_code(sabotage: Sabotage) -> None:
    check = subprocess.run(
        ["git", "apply", "--check", str(sabotage.path)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert check.returncode == 0, check.stderr


@pytest.mark.parametrize("sabotage", sabotages(), ids=lambda sabotage: sabotage.path.name)
def test_named_tests_exist(sabotage: Sabotage) -> None:
    for test in sabotage.tests:
        assert (ROOT / test.split("::")[0]).exists()


def test_each_promise_of_this_stage_has_its_sabotage() -> None:
    covered = {sabotage.promise.split()[0] for sabotage in sabotages()}
    assert {"1", "2", "3", "4", "7", "8", "9"} <= covered
