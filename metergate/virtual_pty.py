"""A gateway's end of a pseudo-terminal whose bytes are counted, so that virtual time waits for them."""

from __future__ import annotations

import random
from collections.abc import Callable

from gateway.drivers.serial_port import Line, Lost, Received, SerialPort
from gateway.links import Link, make_link, serial_bus
from gateway.plan import BusFile
from metergate.virtual_wires import Wires, pty_way
from metering.clock import Clock
from metering.errors import MetergateError


class CountedPort:
    """A `SerialPort` that tells `Wires` what passes."""

    def __init__(self, path: str, wires: Wires) -> None:
        self._port, self._wires = SerialPort(path), wires
        self._out, self._in = pty_way(path)

    @property
    def name(self) -> str:
        """The path as the plan has it."""
        return self._port.name

    async def open(self, line: Line, received: Received, lost: Lost) -> None:
        """As every transport's. Raises: ConnectError."""

        def heard(data: bytes) -> None:
            self._wires.take(self._in, len(data))
            received(data)

        def gone(why: str) -> None:
            self._wires.leave(self._out)
            lost(why)

        await self._port.open(line, heard, gone)
        self._wires.join(self._out)

    def write(self, data: bytes) -> None:
        """As every transport's."""
        self._port.write(data)
        self._wires.put(self._out, len(data))

    def set_line(self, line: Line) -> None:
        """As every transport's."""
        self._port.set_line(line)

    def close(self) -> None:
        """As every transport's."""
        self._port.close()
        self._wires.leave(self._out)


def link_maker(wires: Wires) -> Callable[..., Link]:
    """Return what makes the links of buses in virtual time: those of the field, with counted pseudo-terminals."""

    def make(
        file: BusFile,
        *,
        clock: Clock,
        rng: random.Random,
        counters: dict[str, int],
        on_up: Callable[[], None] = lambda: None,
        on_down: Callable[[MetergateError], None] = lambda error: None,
    ) -> Link:
        if file.kind != "serial":
            return make_link(file, clock=clock, rng=rng, counters=counters, on_up=on_up, on_down=on_down)
        port = CountedPort(file.device, wires)
        return serial_bus(file, port, clock=clock, rng=rng, counters=counters, on_up=on_up, on_down=on_down)

    return make
