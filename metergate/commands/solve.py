"""`metergate solve`: which registers hold the number that the dial shows?"""

from __future__ import annotations

import asyncio
import json
import random
import re
from collections.abc import Iterator
from decimal import Decimal, InvalidOperation
from typing import Annotated, Any, Final

import typer

from gateway.drivers.modbus_rtu import make_rtu_ask
from gateway.drivers.modbus_tcp import ModbusTcpLink, make_ask
from gateway.links import Link, make_link
from gateway.plan import BusFile
from gateway.protocols.framing import crc16_modbus
from gateway.solving import solve as find
from metergate.console import EXIT_FAILED, emit, errors_as_words, say
from metering.clock import SystemClock
from metering.errors import MeterError, SettingsError

_SEPARATORS: Final = re.compile(r"0[xX]|[\s:,;-]+")
_BLOCK: Final = 60
"""Registers in one read: what most devices pass."""


def solve(
    value: Annotated[str, typer.Argument(help="What the dial shows, with all its decimals.")],
    dump: Annotated[
        list[str] | None, typer.Argument(metavar="[HEX]...", help="An answer frame, or bare bytes.")
    ] = None,
    host: Annotated[str, typer.Option(help="Read a live Modbus TCP meter instead of a dump.")] = "",
    port: Annotated[int, typer.Option(min=1, max=65535, help="TCP port.")] = 502,
    device: Annotated[str, typer.Option(help="Read a live Modbus RTU meter on this serial port.")] = "",
    baud: Annotated[int, typer.Option(help="Speed of the serial port.")] = 9600,
    parity: Annotated[str, typer.Option(help="none, even or odd.")] = "none",
    unit: Annotated[int, typer.Option(min=0, max=255, help="Modbus unit.")] = 1,
    function: Annotated[int, typer.Option(min=3, max=4, help="3 holding, 4 input registers.")] = 3,
    first_text: Annotated[str, typer.Option("--from", help="First register, 18 or 0x12.")] = "0",
    last_text: Annotated[str, typer.Option("--to", help="Last register of a live meter.")] = "119",
    any_byte: Annotated[bool, typer.Option("--bytes", help="The dump is no registers: try every byte.")] = False,
    most: Annotated[int, typer.Option(min=1, max=10_000, help="How many fits are listed.")] = 30,
    timeout_s: Annotated[float, typer.Option(min=0.05, max=60, help="Seconds to wait for an answer.")] = 1.0,
) -> None:
    """List every address, type, order and scale under which the dial's number stands there: one JSON line a fit.

    Example: metergate solve 1243.1116 "01 03 06 00 00 12 43 11 16 A1 B2" --from 0x12

    Example: metergate solve 1243.1116 --device /dev/ttyUSB0 --unit 1 --from 0 --to 99
    """
    with errors_as_words():
        dial = _dial(value)
        first, last = _register("--from", first_text), _register("--to", last_text)
        if host or device:
            bus = _bus(host, port, device, baud, parity)
            blocks = asyncio.run(_read(bus, unit, function, first, last, timeout_s))
        else:
            blocks = [(first, _bytes(dump or []))]
        shown = 0
        for fit in _fits(blocks, dial, 1 if any_byte else 2):
            emit(json.dumps(fit, ensure_ascii=False))
            shown += 1
            if shown == most:
                say(f"the first {most}; --most N lists more")
                break
        if not shown:
            say(f"{value} stands nowhere in {sum(len(data) for _, data in blocks)} bytes")
            raise typer.Exit(EXIT_FAILED)


def _dial(text: str) -> Decimal:
    try:
        dial = Decimal(text)
    except InvalidOperation:
        raise SettingsError(f'VALUE = "{text}": a decimal number is needed, as the dial shows it') from None
    if not dial.is_finite() or not dial:
        raise SettingsError(f'VALUE = "{text}": 0 fits everywhere; take a meter that has counted')
    return dial


def _register(option: str, text: str) -> int:
    try:
        number = int(text, 0)
    except ValueError:
        number = -1
    if not 0 <= number <= 0xFFFF:
        raise SettingsError(f'{option} "{text}": a register from 0 to 65535 is needed, decimal or 0x in hex')
    return number


def _bytes(words: list[str]) -> bytes:
    """Return the data of a dump: of an RTU or Modbus TCP answer its registers, else the bytes as they are."""
    try:
        raw = bytes.fromhex(_SEPARATORS.sub("", " ".join(words)))
    except ValueError:
        raise SettingsError("the dump is not hex") from None
    if not raw:
        raise SettingsError("give bytes in hex, or a live meter by --host or --device")
    if len(raw) > 5 and raw[1] in (3, 4) and len(raw) == raw[2] + 5:
        if crc16_modbus(raw[:-2]) != int.from_bytes(raw[-2:], "little"):
            say("the CRC of this RTU frame is wrong; its registers are tried all the same")
        return raw[3:-2]
    if len(raw) > 9 and raw[2:4] == b"\x00\x00" and raw[7] in (3, 4) and len(raw) == raw[8] + 9:
        return raw[9:]
    return raw


def _bus(host: str, port: int, device: str, baud: int, parity: str) -> BusFile:
    if parity not in ("none", "even", "odd"):
        raise SettingsError(f'--parity "{parity}": allowed: none, even, odd')
    if host:
        return BusFile(name="solve", host=host, port=port)
    settings = {"name": "solve", "kind": "serial", "device": device, "baud": baud, "parity": parity}
    return BusFile.model_validate(settings)


async def _read(
    bus: BusFile, unit: int, function: int, first: int, last: int, timeout_s: float
) -> list[tuple[int, bytes]]:
    """Return the registers that the meter gives; a refused block is parted down to single registers."""
    link = make_link(bus, clock=SystemClock(), rng=random.Random(0), counters={})
    found: list[tuple[int, bytes]] = []
    todo = [(start, min(_BLOCK, last + 1 - start)) for start in reversed(range(first, last + 1, _BLOCK))]
    try:
        while todo:
            start, count = todo.pop()
            try:
                data = await _one(link, unit, function, start, count, timeout_s)
            except MeterError:
                if count > 1:
                    todo += [(start + count // 2, count - count // 2), (start, count // 2)]
                continue
            if found and found[-1][0] + len(found[-1][1]) // 2 == start:
                found[-1] = (found[-1][0], found[-1][1] + data)
            else:
                found.append((start, data))
    finally:
        link.close()
    return found


async def _one(link: Link, unit: int, function: int, start: int, count: int, timeout_s: float) -> bytes:
    if isinstance(link, ModbusTcpLink):
        return await link.read(make_ask(unit, function, start, count), timeout_s)
    return await link.read(make_rtu_ask(unit, function, start, count), timeout_s)


def _fits(blocks: list[tuple[int, bytes]], dial: Decimal, align: int) -> Iterator[dict[str, Any]]:
    every = [(fit, start) for start, data in blocks for fit in find(data, dial, align=align)]
    for place, (fit, start) in enumerate(sorted(every, key=lambda pair: pair[0].rank), 1):
        where = {"byte": fit.place} if align == 1 else {"register": f"0x{start + fit.place // 2:04X}"}
        said: dict[str, Any] = {
            "rank": place, **where, "encoding": fit.encoding, "size": fit.size, "order": fit.order,
            "scale": f"{fit.scale:f}", "value": f"{fit.value:f}", "exact": fit.exact,
        }  # fmt: skip
        if fit.split is not None:
            said["plus_next_times"] = f"{fit.split:f}"
        if align == 2:
            said["toml"] = fit.toml(start)
        yield said
