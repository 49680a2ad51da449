"""Modbus TCP on a raw asyncio protocol: MBAP in, answers out, many requests in one segment, no client library.

pymodbus' own server would be slower than the client it is to measure; this one parses the header itself and writes
one segment for all requests of one segment.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping
from typing import Any, cast

from metering.clock import Clock
from simulators.faults import exception
from simulators.simulated_meter import Hangup, Late, SimulatedMeter

_GATEWAY_TARGET_SILENT = 0x0B


class MeterPort:
    """What all connections of one TCP port share. meters: by unit; None as key answers to any unit."""

    def __init__(self, meters: Mapping[int | None, SimulatedMeter], clock: Clock) -> None:
        self.meters = meters
        self.anyone = meters.get(None)
        self.clock = clock
        self.connections: set[MeterConnection] = set()
        self.tasks: set[asyncio.Task[None]] = set()
        self.refused = 0
        self.requests = 0
        self.delay_s = 0.0
        self.deaf_to_newcomers = False

    def go_deaf(self, *, newcomers: bool) -> None:
        """Let the connections that there are stay, and hear nothing on them any more."""
        self.deaf_to_newcomers = newcomers
        for connection in self.connections:
            connection.is_deaf = True

    def connection(self) -> MeterConnection:
        """Make the protocol for one new client (asyncio's protocol factory)."""
        return MeterConnection(self)

    def close(self) -> None:
        """Drop all clients and everything that is still to be answered late."""
        for task in tuple(self.tasks):
            task.cancel()
        for connection in tuple(self.connections):
            connection.hang_up()


class MeterConnection(asyncio.Protocol):
    """One client."""

    def __init__(self, port: MeterPort) -> None:
        self._port = port
        self.is_deaf = port.deaf_to_newcomers
        self._transport: asyncio.Transport | None = None
        self._rest = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember the client."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's own class is no subclass
        self._port.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the client."""
        self._transport = None
        self._port.connections.discard(self)

    def hang_up(self) -> None:
        """Close after what was written has left."""
        if self._transport is not None:
            self._transport.close()

    def data_received(self, data: bytes) -> None:
        """Answer all whole requests; keep the beginning of the next; close on bytes that are not Modbus TCP."""
        if self._port.delay_s and not self.is_deaf:
            self._start(self._take_later(data))
        elif not self.is_deaf:
            self._take(data)

    def _take(self, data: bytes) -> None:
        port = self._port
        if self._rest:
            data = self._rest + data
        now_ms = port.clock.now_ms()
        answers: list[bytes] = []
        begin, end = 0, len(data)
        while end - begin >= 8:
            length = data[begin + 4] << 8 | data[begin + 5]
            if data[begin + 2] or data[begin + 3] or not 2 <= length <= 254:
                self._refuse(answers)
                return
            stop = begin + 6 + length
            if stop > end:
                break
            frame = data[begin:stop]
            begin = stop
            port.requests += 1
            meter = port.anyone or port.meters.get(frame[6])
            reply = meter.answer(frame, now_ms) if meter else exception(frame[:7], frame[7], _GATEWAY_TARGET_SILENT)
            if isinstance(reply, bytes):
                answers.append(reply)
            elif not self._odd(reply, answers):
                return
        self._rest = data[begin:]
        self._send(answers)

    def _odd(self, reply: Late | Hangup, answers: list[bytes]) -> bool:
        """Deal with what is not simply bytes; False ends this connection."""
        if isinstance(reply, Late):
            self._start(self._answer_later(reply))
            return True
        self._send(answers)
        self.hang_up()
        return False

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._port.tasks.add(task)
        task.add_done_callback(self._port.tasks.discard)

    async def _take_later(self, data: bytes) -> None:
        await self._port.clock.sleep(self._port.delay_s)
        if self._transport is not None and not self.is_deaf:
            self._take(data)

    def _refuse(self, answers: list[bytes]) -> None:
        self._port.refused += 1
        self._send(answers)
        self.hang_up()

    def _send(self, answers: list[bytes]) -> None:
        if answers and self._transport is not None:
            self._transport.write(answers[0] if len(answers) == 1 else b"".join(answers))

    async def _answer_later(self, late: Late) -> None:
        await self._port.clock.sleep(late.seconds)
        if self._transport is not None:
            self._send([late.answer_now(self._port.clock.now_ms())])
