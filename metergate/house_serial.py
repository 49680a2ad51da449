"""The meters of a house that hang on one pair of wires at 2400 baud: CJ/T 188 and DL/T 645, on a pseudo-terminal."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

SERIAL_METERS_FILE: Final = "serial-meters.toml"
_BUS: Final = "serial-1"
_PER_METER_S: Final = 1.5
"""A poll of the slowest of these meters takes 1.3 s at 2400 baud; one bus, one at a time."""
_KINDS: Final = (
    ("G-SB", "gas", "gas-cjt188", "household_gas", 14),
    ("W-SB", "water", "water-cjt188", "household_water", 14),
    ("E-SB", "electricity", "electricity-dlt645-2007", "household_electricity", 12),
)
"""Prefix, medium, profile, curve, digits of an address."""


def serial_rows(count: int, gateway: str, interval_s: int, folder: Path) -> list[dict[str, str]]:
    """Return the lines of the meters file: the port stands where others have the host, its speed in the kind."""
    slowest = max(interval_s, round(_PER_METER_S * count + 0.5))
    return [_row(number, gateway, slowest, folder) for number in range(count)]


def _row(number: int, gateway: str, interval_s: int, folder: Path) -> dict[str, str]:
    prefix, medium, profile, _, digits = _KINDS[number % len(_KINDS)]
    return {
        "meter_id": f"{prefix}-{number + 1:04}",
        "medium": medium,
        "customer_class": "residential",
        "profile": profile,
        "gateway": gateway,
        "bus": _BUS,
        "bus_kind": "serial:2400-8E1",
        "host": str(folder / "tty-serial-1"),
        "port": "",
        "address": f"{2026_800_000 + number:0{digits}d}",
        "interval_s": str(interval_s),
        "serial": f"{2026_800_000 + number}",
        "district": "D2",
        "tz": "Asia/Shanghai",
    }


def serial_settings(rows: list[dict[str, str]], log: Path) -> str:
    """Return the simulators' settings as TOML."""
    curves = {prefix: curve for prefix, _, _, curve, _ in _KINDS}
    lines = ["seed = 2026", "control_port = 0", f"log = {json.dumps(str(log))}", "", "[[bus]]"]
    lines += [f'name = "{_BUS}"', 'kind = "pty"', f"link = {json.dumps(rows[0]['host'])}"]
    lines += ["baud = 2400", 'parity = "even"', "turnaround_s = 0.05"]
    for row in rows:
        lines += ["", "[[bus.meter]]", f'meter = "{row["meter_id"]}"', f'profile = "{row["profile"]}"']
        lines += ["clock_off_s = 28830"]  # local time of Asia/Shanghai, half a minute fast: set-clock has work to do
        lines += [f'address = "{row["address"]}"', f'curve = "{curves[row["meter_id"].rsplit("-", 1)[0]]}"']
    return "\n".join(lines) + "\n"
