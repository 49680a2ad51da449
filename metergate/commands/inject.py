"""`metergate inject …`: change a running simulation, see what is in force, take it back."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Annotated, Any

import typer

from metergate.console import EXIT_FAILED, emit, errors_as_words, say
from metering.clock import SystemClock
from metering.errors import SettingsError
from simulators.bus_settings import BUS_FAULT_KINDS
from simulators.control_client import order
from simulators.farm_settings import FAULT_KINDS

app = typer.Typer(no_args_is_help=True, help="Change a running simulation: faults, leaks, jumps, unplugged buses.")
PortOption = Annotated[int, typer.Option("--port", help="Control port, as the simulation's first line says it.")]
FolderOption = Annotated[
    Path | None, typer.Option("--folder", help="Instead: folder of a demo, whose farm.json names the port.")
]
MeterArgument = Annotated[str, typer.Argument(help='Id of the meter; "*" for all.')]


@app.command("fault")
def fault(
    meter: MeterArgument,
    kind: Annotated[str, typer.Argument(help="silent, late, cut, …, or none to end it; docs/simulators.md.")],
    seconds: Annotated[float | None, typer.Option(help="late: by how many seconds.")] = None,
    code: Annotated[int | None, typer.Option(help="exception: its code.")] = None,
    keep: Annotated[int | None, typer.Option(help="cut: bytes that still arrive.")] = None,
    size: Annotated[int | None, typer.Option(help="noise: bytes before the frame.")] = None,
    share: Annotated[float | None, typer.Option(help="Share of the answers that are hit, above 0 to 1.")] = None,
    times: Annotated[int | None, typer.Option(help="Ends after so many hits.")] = None,
    port: PortOption = 0,
    folder: FolderOption = None,
) -> None:
    """Let a meter misbehave on the wire.

    Example: metergate inject fault G-0001 late --seconds 3 --share 0.2 --port 40567
    """
    numbers = {"seconds": seconds, "code": code, "keep": keep, "size": size, "share": share, "times": times}
    with errors_as_words():
        if kind != "none" and kind not in (*FAULT_KINDS, *BUS_FAULT_KINDS):
            known = ", ".join(dict.fromkeys((*FAULT_KINDS, *BUS_FAULT_KINDS)))
            raise SettingsError(f'no fault "{kind}"; allowed: none, {known}')
    given = {name: number for name, number in numbers.items() if number is not None}
    _tell(port, folder, {"meter": meter, "fault": None if kind == "none" else {"kind": kind, **given}})


@app.command("flow")
def flow(
    meter: MeterArgument,
    kind: Annotated[str, typer.Argument(help="leak, zero, reverse, or normal to end it.")],
    rate: Annotated[float | None, typer.Option(help="leak, reverse: house units per hour.")] = None,
    port: PortOption = 0,
    folder: FolderOption = None,
) -> None:
    """Let something happen behind a meter (Modbus TCP farm).

    Example: metergate inject flow G-0001 leak --rate 0.5 --folder metergate-demo
    """
    _tell(port, folder, {"meter": meter, "flow": {"kind": kind} | ({"rate": rate} if rate is not None else {})})


@app.command("flags")
def flags(
    meter: MeterArgument,
    names: Annotated[list[str] | None, typer.Argument(help="VALVE_CLOSED, MAGNET, COVER, …; none ends them.")] = None,
    port: PortOption = 0,
    folder: FolderOption = None,
) -> None:
    """Let a meter report states of itself (Modbus TCP farm).

    Example: metergate inject flags G-0001 MAGNET --port 40567
    """
    _tell(port, folder, {"meter": meter, "flags": names or []})


@app.command("index")
def index(
    meter: MeterArgument,
    value: Annotated[str, typer.Argument(help="What the index jumps to, in house units, such as 0 or 12.5.")],
    port: PortOption = 0,
    folder: FolderOption = None,
) -> None:
    """Let an index jump, as after an exchange or a reset.

    Example: metergate inject index G-0001 0 --port 40567
    """
    _tell(port, folder, {"meter": meter, "index": value})


@app.command("bus")
def bus(
    name: Annotated[str, typer.Argument(help="Name of the bus.")],
    plug: Annotated[bool, typer.Option("--plug/--unplug", help="Put the adapter back, or pull it out.")] = False,
    port: PortOption = 0,
    folder: FolderOption = None,
) -> None:
    """Pull the adapter of a serial bus out, or put it back.

    Example: metergate inject bus stair-3 --unplug --port 40567
    """
    _tell(port, folder, {"bus": name, "plug": plug})


@app.command("list")
def list_changes(port: PortOption = 0, folder: FolderOption = None) -> None:
    """Show what was changed and is in force, one JSON line each.

    Example: metergate inject list --port 40567
    """
    with errors_as_words():
        for line in _asked(port, folder, {"list": True}).get("in_force", []):
            emit(json.dumps(line, ensure_ascii=False))


@app.command("undo")
def undo(
    which: Annotated[str, typer.Argument(help="Number of a change, last, or all.")] = "last",
    port: PortOption = 0,
    folder: FolderOption = None,
) -> None:
    """Take back what was changed.

    Example: metergate inject undo all --port 40567
    """
    with errors_as_words():
        if not which.isdecimal() and which not in ("last", "all"):
            raise SettingsError(f'"{which}": a number, last or all')
    _tell(port, folder, {"undo": int(which) if which.isdecimal() else which})


def _tell(port: int, folder: Path | None, wanted: dict[str, Any]) -> None:
    with errors_as_words():
        emit(json.dumps(_asked(port, folder, wanted), ensure_ascii=False))


def _asked(port: int, folder: Path | None, wanted: dict[str, Any]) -> dict[str, Any]:
    answer = asyncio.run(order(port or _port_of(folder), wanted, clock=SystemClock()))
    if not answer.get("ok"):
        say(f"refused: {answer.get('error', 'no reason')}")
        raise typer.Exit(EXIT_FAILED)
    return answer


def _port_of(folder: Path | None) -> int:
    """Return the control port of a demo. Raises: SettingsError."""
    if folder is None:
        raise SettingsError("name the simulation: --port N, or --folder of a demo")
    path = folder / "farm.json"
    try:
        found = json.loads(path.read_text("utf-8")).get("control_port")
    except (OSError, ValueError, AttributeError) as error:
        raise SettingsError(f"{path}: no settings of a simulation: {error}") from None
    if not isinstance(found, int) or not found:
        raise SettingsError(f"{path}: control_port is not a fixed port; use the one that the first line says")
    return found
