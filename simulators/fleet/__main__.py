"""`python -m simulators.fleet --meters 2000 --seed 101 --out DIR`"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from simulators.fleet import make_fleet, write_fleet


def fleet(
    out: Annotated[Path, typer.Option(help="Folder for the five files; made when absent, files are overwritten.")],
    meters: Annotated[int, typer.Option(min=1, max=1_000_000, help="How many meters.")] = 2000,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same files, byte for byte.")] = 101,
) -> None:
    """Write a labelled fleet: meters, readings, labels, hard_negatives, weather.

    Example: python -m simulators.fleet --meters 2000 --seed 101 --out /tmp/fleet-101
    """
    typer.echo(json.dumps(write_fleet(make_fleet(meters, seed), out)))


if __name__ == "__main__":
    typer.run(fleet)
