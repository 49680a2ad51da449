"""`make sabotage`: apply each patch to a copy of the tree, run its tests there, and demand that one fails."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.sabotage import ROOT, Sabotage, sabotages

DEADLINE_S = 900
SIDE_BY_SIDE = 2


def main(only: list[str]) -> int:
    """Run all patches, or those whose name holds one of `only`; return the exit code."""
    chosen = [s for s in sabotages() if not only or any(word in s.path.name for word in only)]
    missed = []
    with ThreadPoolExecutor(SIDE_BY_SIDE) as pool:  # each in a copy and a process of its own
        for sabotage, (caught, told) in zip(chosen, pool.map(_caught, chosen), strict=True):
            print(f"promise {sabotage.promise}: {sabotage.breaks}\n    {sabotage.path.name}: {told}", flush=True)
            if not caught:
                missed.append(sabotage.path.name)
    print(f"{len(chosen) - len(missed)} of {len(chosen)} sabotages caught", flush=True)
    if missed:
        print("NOT caught: " + ", ".join(missed))
    return 1 if missed or not chosen else 0


def _caught(sabotage: Sabotage) -> tuple[bool, str]:
    """Break the promise in a copy; return whether a test failed there, and what to tell."""
    with tempfile.TemporaryDirectory(prefix="metergate-sabotage-") as folder:
        copy = Path(folder) / "tree"
        _copy_tree(copy)
        applied = subprocess.run(
            ["git", "apply", "--unsafe-paths", f"--directory={copy}", str(sabotage.path)],
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
        )
        if applied.returncode:
            return False, f"the patch does not fit the code any more: {applied.stderr}"
        report = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-x", "--tb=no", *sabotage.tests],
            cwd=copy,
            env=os.environ | {"PYTHONPATH": str(copy)},
            capture_output=True,
            text=True,
            timeout=DEADLINE_S,
            check=False,
        )
    failed = re.search(r"^FAILED (\S+)", report.stdout, re.MULTILINE)
    # exit 1: tests ran and one failed; anything else (2: broken collection, 4: no such test) proves nothing
    caught = report.returncode == 1 and failed is not None
    if caught and failed:
        return True, f"caught by {failed[1]}"
    return False, f"NOT CAUGHT (pytest exit {report.returncode})\n{report.stdout[-2000:]} {report.stderr[-2000:]}"


def _copy_tree(target: Path) -> None:
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    for name in filter(None, listed.stdout.split("\0")):
        source = ROOT / name
        if source.is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target / name)
            shutil.copymode(source, target / name)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
