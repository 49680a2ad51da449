"""The link behind a bus of the plan: Modbus TCP, a serial port, or a serial-to-TCP box; alike for the poller."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Final

from gateway.drivers.cjt188 import CjtAsk, CjtMaster
from gateway.drivers.dlt645 import DltAsk, DltMaster, DltTime
from gateway.drivers.iec62056 import IecAsk, IecMaster
from gateway.drivers.mbus import MbusAsk, MbusMaster
from gateway.drivers.modbus_rtu import ModbusRtuMaster, RtuAsk
from gateway.drivers.modbus_tcp import ModbusTcpLink
from gateway.drivers.serial_bus import MakeMaster, SerialBus
from gateway.drivers.serial_port import Line, Parity, SerialPort, TcpPort, Transport
from gateway.drivers.serial_rfc2217 import Rfc2217Port
from gateway.plan import BusFile
from metering.clock import Clock
from metering.errors import MetergateError

MASTERS: Final[dict[type, MakeMaster]] = {
    RtuAsk: ModbusRtuMaster,
    CjtAsk: CjtMaster,
    DltAsk: DltMaster,
    DltTime: DltMaster,
    MbusAsk: MbusMaster,
    IecAsk: IecMaster,
}
"""Who puts which question."""

_IDLE_GAP_S: Final = 0.1
"""DL/T 645 allows a meter 0.5 s between two bytes; seen are pauses of adapters, up to some tens of milliseconds."""
_IDLE_GAP_TCP_S: Final = 0.2
"""Boxes hold bytes back to fill a packet."""

_PARITIES: Final[dict[str, Parity]] = {"N": "none", "E": "even", "O": "odd"}

Link = ModbusTcpLink | SerialBus
LinkMaker = Callable[..., Link]
"""As `make_link`, which is the one of the field."""


def make_link(
    file: BusFile,
    *,
    clock: Clock,
    rng: random.Random,
    counters: dict[str, int],
    on_up: Callable[[], None] = lambda: None,
    on_down: Callable[[MetergateError], None] = lambda error: None,
) -> Link:
    """Return the link of a bus, closed."""
    if not file.is_serial:
        return ModbusTcpLink(
            file.host, file.port, clock=clock, rng=rng, counters=counters, in_flight=file.in_flight,
            on_up=on_up, on_down=on_down,
        )  # fmt: skip
    return serial_bus(
        file, transport_of(file, clock), clock=clock, rng=rng, counters=counters, on_up=on_up, on_down=on_down
    )


def serial_bus(
    file: BusFile,
    transport: Transport,
    *,
    clock: Clock,
    rng: random.Random,
    counters: dict[str, int],
    on_up: Callable[[], None] = lambda: None,
    on_down: Callable[[MetergateError], None] = lambda error: None,
) -> SerialBus:
    """Return a serial bus over any transport."""
    default_gap = _IDLE_GAP_S if file.kind == "serial" else _IDLE_GAP_TCP_S
    return SerialBus(
        transport, line_of(file), MASTERS, clock=clock, rng=rng, counters=counters, echo=file.echo,
        idle_gap_s=file.idle_gap_s or default_gap, on_up=on_up, on_down=on_down,
    )  # fmt: skip


def parse_line(text: str) -> Line:
    """Return the line for "2400-8E1" ("9600" is 9600-8N1). Raises: ValueError."""
    baud, _, form = text.partition("-")
    form = form.upper() or "8N1"
    if baud.isdecimal() and len(form) == 3 and form[0] in "78" and form[1] in _PARITIES and form[2] in "12":
        return Line(int(baud), _PARITIES[form[1]], int(form[0]), int(form[2]))
    raise ValueError(f'"{text}": speed and format such as 2400-8E1 are needed')


def line_of(file: BusFile) -> Line:
    """Return speed and format of a serial bus."""
    return Line(file.baud, file.parity, file.data_bits, file.stop_bits)


def transport_of(file: BusFile, clock: Clock) -> Transport:
    """Return what moves the bytes of a serial bus."""
    if file.kind == "serial":
        return SerialPort(file.device)
    box = Rfc2217Port if file.mode == "rfc2217" else TcpPort
    return box(file.host, file.port, clock=clock)
