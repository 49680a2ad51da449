"""The owner of a bus: on demand before the sweep, answers to wrong questions, closing at any moment."""

from __future__ import annotations

import asyncio

import pytest

from gateway.drivers.cjt188 import CjtAsk, CjtMaster
from gateway.drivers.dlt645 import DltAsk, DltMaster
from gateway.drivers.modbus_rtu import ModbusRtuMaster, RtuAsk, make_rtu_ask
from gateway.protocols import cjt188, dlt645
from gateway.protocols.modbus import Frame, encode_rtu
from metering.errors import ConnectError, FrameError, MeterError, MetergateError
from tests.gateway.drivers.scripted import Bench

GAS = "33780020260001"


def _registers(request: bytes) -> list[tuple[float, bytes]]:
    count = int.from_bytes(request[4:6], "big")
    return [(0.02, encode_rtu(Frame(request[0], bytes((request[1], 2 * count)) + bytes(2 * count))))]


def test_what_is_asked_on_demand_goes_before_the_rest_of_the_sweep() -> None:
    async def scenario() -> None:
        bench = Bench({RtuAsk: ModbusRtuMaster}, _registers)
        await bench.read(make_rtu_ask(99, 3, 0, 1))
        sweep = [make_rtu_ask(unit, 3, 0, 2) for unit in (1, 2, 3)]
        asked = iter(sweep)
        order: list[int] = []

        def next_one(result: bytes | MetergateError | None = None) -> None:
            ask = next(asked, None)
            if ask is not None:
                assert bench.bus.free, "what was asked on demand does not stop the sweep"
                bench.bus.ask(ask, 0.5, next_one)

        bench.port.sent.clear()
        next_one()
        first = asyncio.ensure_future(bench.bus.read(make_rtu_ask(50, 3, 0, 2), 0.5))
        second = asyncio.ensure_future(bench.bus.read(make_rtu_ask(51, 3, 0, 2), 0.5))
        await bench.run(asyncio.gather(first, second))
        await bench.clock.advance(1.0)
        order = [frame[0] for frame in bench.port.sent]
        assert order == [1, 50, 51, 2, 3]

    asyncio.run(scenario())


def test_closing_fails_what_waits_once_and_opens_nothing_again() -> None:
    async def scenario() -> None:
        bench = Bench({RtuAsk: ModbusRtuMaster}, _registers)
        await bench.read(make_rtu_ask(99, 3, 0, 1))
        bench.port.respond = lambda request: ()
        results: list[object] = []

        def done(result: bytes | MetergateError) -> None:
            results.append(result)
            assert not bench.bus.dial(1.0), "whoever is told may not open it again"

        bench.bus.ask(make_rtu_ask(1, 3, 0, 1), 5.0, done)
        bench.bus.ask(make_rtu_ask(2, 3, 0, 1), 5.0, done)
        await bench.clock.advance(0.1)
        bench.bus.close()
        await bench.clock.advance(10.0)
        assert [type(result) for result in results] == [ConnectError, ConnectError]
        assert bench.port.openings == 1
        assert bench.bus.dial(1.0), "a closed bus may be opened again on purpose"
        await bench.clock.advance(0.1)
        assert bench.bus.up

    asyncio.run(scenario())


def test_a_port_that_is_not_there_is_tried_again_with_pauses() -> None:
    async def scenario() -> None:
        bench = Bench({RtuAsk: ModbusRtuMaster}, _registers)
        bench.port.refuse = True
        tries = 0
        for _ in range(600):
            tries += bench.bus.dial(1.0)
            await bench.clock.advance(0.1)
        assert 5 <= tries <= 20, "0.2, 0.4, 0.8 … 10 s in a minute"
        assert bench.counters["connect_failed"] == tries

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("answer", "sort"),
    [
        (Frame(1, bytes.fromhex("04 04 00000000")), "function"),
        (Frame(1, bytes.fromhex("03 02 0000")), "length"),
        (Frame(1, bytes.fromhex("03 08 0000000000000000")), "length"),
    ],
    ids=["another function", "too few registers", "too many registers"],
)
def test_modbus_answers_to_another_question_are_refused(answer: Frame, sort: str) -> None:
    async def scenario() -> None:
        bench = Bench({RtuAsk: ModbusRtuMaster}, lambda request: [(0.02, encode_rtu(answer))])
        result = await bench.outcome(make_rtu_ask(1, 3, 0, 2))
        assert isinstance(result, FrameError)
        assert result.sort == sort

    asyncio.run(scenario())


def test_cjt188_answers_to_another_di_are_refused_and_to_another_ser_noted() -> None:
    def answer(di: bytes, ser: int) -> bytes:
        return cjt188.encode(cjt188.Frame(0x30, GAS, 0x81, di + bytes((ser,)) + bytes.fromhex("000012002c")))

    async def scenario() -> None:
        ask = CjtAsk(0x30, GAS, 0xD120, "little")
        wrong = Bench({CjtAsk: CjtMaster}, lambda request: [(0.02, answer(b"\x1f\x90", 1))])
        result = await wrong.outcome(ask)
        assert isinstance(result, FrameError)
        assert result.sort == "di"
        constant = Bench({CjtAsk: CjtMaster}, lambda request: [(0.02, answer(b"\x20\xd1", 0x77))])
        assert await constant.read(ask) == bytes.fromhex("000012002c")

    asyncio.run(scenario())


def test_dlt645_refusals_say_why() -> None:
    async def scenario() -> None:
        frame = dlt645.encode(dlt645.Frame("000000000161", 0xD1, b"\x02"))
        bench = Bench({DltAsk: DltMaster}, lambda request: [(0.02, frame)])
        with pytest.raises(MeterError, match="no such data") as caught:
            await bench.read(DltAsk("000000000161", 0x00020000))
        assert caught.value.code == 2

    asyncio.run(scenario())


def test_a_line_that_never_falls_silent_is_told_and_recovers() -> None:
    async def scenario() -> None:
        bench = Bench({RtuAsk: ModbusRtuMaster}, _registers)
        await bench.read(make_rtu_ask(1, 3, 0, 1))
        bench.port.say([(0.002, b"\x55\xaa") for _ in range(2000)])
        result = await bench.outcome(make_rtu_ask(1, 3, 0, 1))
        assert isinstance(result, MetergateError)
        assert "never silent" in str(result)
        await bench.clock.advance(10.0)
        assert await bench.read(make_rtu_ask(1, 3, 0, 1)) == bytes(2)

    asyncio.run(scenario())
