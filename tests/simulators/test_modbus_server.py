"""The farm's wire: pieces, pipelines and rubbish, fed to the protocol without a socket."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest

from metering.clock import ManualClock
from simulators.farm_settings import FaultSettings
from simulators.modbus_server import MeterConnection, MeterPort
from simulators.simulated_meter import SimulatedMeter
from tests.simulators.meters import READ_INDEX, ListLog, make_meter

GOOD = bytes.fromhex("0001 0000 0009 01 03 06 0000 0001 2345")


class Wire(asyncio.Transport):
    """A transport that keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.sent = b""
        self.closed = False

    def write(self, data: Any) -> None:
        self.sent += bytes(data)

    def close(self) -> None:
        self.closed = True


def _client(
    *, any_unit: bool = False, clock: ManualClock | None = None
) -> tuple[MeterConnection, Wire, SimulatedMeter]:
    meter = make_meter(ListLog())
    port = MeterPort({None if any_unit else 1: meter}, clock or ManualClock())
    connection, wire = port.connection(), Wire()
    connection.connection_made(wire)
    return connection, wire, meter


def test_requests_in_any_pieces_give_the_same_answers() -> None:
    stream = READ_INDEX * 3
    for size in range(1, len(stream) + 1):
        connection, wire, _ = _client()
        for at in range(0, len(stream), size):
            connection.data_received(stream[at : at + size])
        assert wire.sent == GOOD * 3, f"pieces of {size} bytes"


def test_each_answer_carries_its_own_transaction() -> None:
    connection, wire, _ = _client()
    connection.data_received(b"\x12\x34" + READ_INDEX[2:] + b"\xff\xfe" + READ_INDEX[2:])
    assert wire.sent == b"\x12\x34" + GOOD[2:] + b"\xff\xfe" + GOOD[2:]


def test_unit_without_a_meter_is_answered_by_the_serial_server() -> None:
    connection, wire, _ = _client()
    connection.data_received(READ_INDEX[:6] + b"\x09" + READ_INDEX[7:])
    assert wire.sent == bytes.fromhex("0001 0000 0003 09 83 0b")


def test_a_port_with_one_meter_may_answer_to_any_unit() -> None:
    connection, wire, _ = _client(any_unit=True)
    connection.data_received(READ_INDEX[:6] + b"\xff" + READ_INDEX[7:])
    assert wire.sent == GOOD[:6] + b"\xff" + GOOD[7:]


@pytest.mark.parametrize(
    "rubbish", ["0001 0001 0006 01 03 0064 0003", "0001 0000 0001 01 03", "0001 0000 ffff 01 03"]
)
def test_bytes_that_are_not_modbus_tcp_end_the_connection(rubbish: str) -> None:
    connection, wire, _ = _client()
    connection.data_received(READ_INDEX + bytes.fromhex(rubbish))
    assert wire.sent == GOOD  # the good request before it was answered
    assert wire.closed


def test_random_bytes_never_raise_and_memory_stays_bounded() -> None:
    rng = random.Random(11)
    for _ in range(2_000):
        connection, wire, _ = _client()
        for _ in range(4):
            if not wire.closed:
                connection.data_received(rng.randbytes(rng.randrange(1, 300)))
        assert len(connection._rest) <= 260


def test_a_late_answer_comes_late_and_blocks_nobody() -> None:
    async def scenario() -> None:
        clock = ManualClock()
        connection, wire, meter = _client(clock=clock)
        meter.set_fault(FaultSettings(kind="late", seconds=2.0, times=1))
        connection.data_received(READ_INDEX)
        connection.data_received(b"\x00\x02" + READ_INDEX[2:])
        assert wire.sent == b"\x00\x02" + GOOD[2:]
        await clock.advance(1.9)
        assert len(wire.sent) == len(GOOD)
        await clock.advance(0.2)
        assert wire.sent == b"\x00\x02" + GOOD[2:] + GOOD

    asyncio.run(scenario())


def test_a_late_answer_to_a_client_that_left_goes_nowhere() -> None:
    async def scenario() -> None:
        clock = ManualClock()
        connection, wire, meter = _client(clock=clock)
        meter.set_fault(FaultSettings(kind="late", seconds=2.0))
        connection.data_received(READ_INDEX)
        connection.connection_lost(None)
        await clock.advance(3)
        assert wire.sent == b""

    asyncio.run(scenario())


def test_closing_fault_ends_the_connection_after_the_answers_before_it() -> None:
    connection, wire, meter = _client()
    connection.data_received(READ_INDEX)
    meter.set_fault(FaultSettings(kind="close"))
    connection.data_received(READ_INDEX)
    assert wire.sent == GOOD
    assert wire.closed


def test_closing_the_port_hangs_up_on_everybody() -> None:
    meter = make_meter(ListLog())
    port = MeterPort({1: meter}, ManualClock())
    wires = [Wire(), Wire()]
    for wire in wires:
        port.connection().connection_made(wire)
    port.close()
    assert [wire.closed for wire in wires] == [True, True]
