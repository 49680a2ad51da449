"""`metergate scan`: which meters answer on this port, at which speed, in which protocol, under which address?"""

from __future__ import annotations

import asyncio
import json
from typing import Annotated

import typer

from gateway.drivers.serial_port import Line, SerialPort, TcpPort, Transport
from gateway.drivers.serial_rfc2217 import Rfc2217Port
from gateway.links import parse_line
from gateway.scanning import PROTOCOLS, USUAL_LINES, line_count
from gateway.scanning import scan as look
from metergate.console import EXIT_FAILED, emit, errors_as_words, say
from metering.clock import SystemClock
from metering.errors import SettingsError
from metering.settings import nearest


def scan(
    device: Annotated[str, typer.Option(help="Serial port, for example /dev/ttyUSB0.")] = "",
    host: Annotated[str, typer.Option(help="Serial-to-TCP box; with --port.")] = "",
    port: Annotated[int, typer.Option(min=0, max=65535, help="TCP port of the box.")] = 0,
    rfc2217: Annotated[bool, typer.Option("--rfc2217", help="The box is told its speed by RFC 2217.")] = False,
    protocol: Annotated[list[str] | None, typer.Option(help=f"Only these; all: {', '.join(PROTOCOLS)}.")] = None,
    line: Annotated[
        list[str] | None, typer.Option(help="Speeds and formats such as 2400-8E1; the usual ones.")
    ] = None,
    addresses: Annotated[str, typer.Option(help="Modbus units and M-Bus addresses, 1-32,100.")] = "1-32",
    timeout_s: Annotated[float, typer.Option(min=0.02, max=10, help="Seconds to wait for each answer.")] = 0.3,
) -> None:
    """Ask around on a pair of wires: one JSON line for everybody who answers.

    Example: metergate scan --device /dev/ttyUSB0 --protocol cjt188 --line 2400-8E1
    """
    with errors_as_words():
        transport = _transport(device, host, port, rfc2217=rfc2217)
        protocols = _protocols(protocol or list(PROTOCOLS))
        lines = [_line(text) for text in line] if line else list(USUAL_LINES)
        if host and not rfc2217:
            lines = lines[:1]  # a transparent box keeps its own speed
        wanted = _addresses(addresses)
        most = len(lines) * line_count(protocols, wanted) * timeout_s
        say(f"{len(lines)} speeds, {', '.join(protocols)}: at most {most:.0f} s and the time on the wire")
        if not asyncio.run(_run(transport, lines, protocols, wanted, timeout_s)):
            say("nobody answered: check A/B, the supply, speed and address")
            raise typer.Exit(EXIT_FAILED)


async def _run(
    transport: Transport, lines: list[Line], protocols: list[str], addresses: list[int], timeout_s: float
) -> int:
    found = 0
    async for seen in look(transport, lines, protocols, addresses, clock=SystemClock(), timeout_s=timeout_s):
        said = {
            "line": str(seen.line), "protocol": seen.protocol, "address": seen.address or None,
            "answer": seen.answer.hex(" ").upper(), **({"note": seen.note} if seen.note else {}),
        }  # fmt: skip
        emit(json.dumps(said, ensure_ascii=False))
        found += 1
    return found


def _transport(device: str, host: str, port: int, *, rfc2217: bool) -> Transport:
    if bool(device) == bool(host):
        raise SettingsError("name either --device or --host with --port")
    if device:
        return SerialPort(device)
    if not port:
        raise SettingsError("--host needs --port")
    box = Rfc2217Port if rfc2217 else TcpPort
    return box(host, port, clock=SystemClock())


def _protocols(given: list[str]) -> list[str]:
    for name in given:
        if name not in PROTOCOLS:
            raise SettingsError(f'--protocol "{name}": allowed: {", ".join(PROTOCOLS)}; {nearest(name, PROTOCOLS)}')
    return given


def _line(text: str) -> Line:
    try:
        return parse_line(text)
    except ValueError as error:
        raise SettingsError(f"--line {error}") from None


def _addresses(text: str) -> list[int]:
    found: list[int] = []
    for piece in text.split(","):
        low, _, high = piece.strip().partition("-")
        if not low.isdecimal() or (high and not high.isdecimal()) or int(high or low) > 255:
            raise SettingsError(f'--addresses "{text}": numbers from 0 to 255 such as 1-32,100 are needed')
        found += range(int(low), int(high or low) + 1)
    return found
