"""Every master on a serial link passes the contract; frames are golden ones or built from their layout."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from gateway.drivers.cjt188 import CjtAsk, CjtMaster
from gateway.drivers.dlt645 import DltAsk, DltMaster
from gateway.drivers.iec62056 import IecAsk, IecMaster
from gateway.drivers.mbus import MbusAsk, MbusMaster
from gateway.drivers.modbus_rtu import ModbusRtuMaster, RtuAsk, make_rtu_ask
from gateway.drivers.serial_port import Line
from gateway.protocols import cjt188, dlt645, mbus
from gateway.protocols import iec62056_21 as iec
from gateway.protocols.modbus import Frame, encode_rtu
from tests.gateway.drivers.contract import SUITE, Case
from tests.gateway.drivers.scripted import Bench


def _rtu_reply(request: bytes) -> bytes:
    """Register n holds n + 1; every read of a part of them is answered."""
    start, count = int.from_bytes(request[2:4], "big"), int.from_bytes(request[4:6], "big")
    registers = b"".join((start + n + 1).to_bytes(2, "big") for n in range(count))
    return encode_rtu(Frame(request[0], bytes((request[1], 2 * count)) + registers))


MODBUS = Case(
    name="modbus-rtu",
    masters={RtuAsk: ModbusRtuMaster},
    first=make_rtu_ask(1, 3, 0x00, 2),
    first_bytes=bytes.fromhex("0001 0002"),
    second=make_rtu_ask(1, 3, 0x64, 2),
    second_bytes=bytes.fromhex("0065 0066"),
    reply=_rtu_reply,
    has_data=lambda request: True,
    foreign=bytes.fromhex("0203184110000040f0fc46000000000000000041a0000042caa600baa2"),  # golden mo-03: unit 2
    refusal=bytes.fromhex("018302c0f1"),  # golden mo-06
)

_GAS = "33780020260001"
_NOW = bytes.fromhex("563412002c 000012002c 58592331012620 0400")  # golden cj-20: 1234.56, 1200.00, clock, ST
_LAST_MONTH = bytes.fromhex("000012002c")


def _cj_reply(request: bytes) -> bytes:
    asked = cjt188.decode(request)
    payload = _NOW if asked.data[:2] == b"\x1f\x90" else _LAST_MONTH
    return b"\xfe\xfe" + cjt188.encode(cjt188.Frame(0x30, _GAS, 0x81, asked.data[:3] + payload))


def _cj_reply_with_its_own_ser(request: bytes) -> bytes:
    asked = cjt188.decode(request)
    payload = _NOW if asked.data[:2] == b"\x1f\x90" else _LAST_MONTH
    return cjt188.encode(cjt188.Frame(0x30, _GAS, 0x81, asked.data[:2] + b"\x03" + payload))


def _cj(name: str, reply: Callable[[bytes], bytes]) -> Case:
    return Case(
        name=name,
        masters={CjtAsk: CjtMaster},
        first=CjtAsk(0x30, _GAS, 0x901F, "little"),
        first_bytes=_NOW,
        second=CjtAsk(0x30, _GAS, 0xD120, "little"),
        second_bytes=_LAST_MONTH,
        reply=reply,
        has_data=lambda request: True,
        foreign=bytes.fromhex("6810880527101520008116901f01000000002c000000002c0620170901172000008e16"),  # cj-19
        refusal=cjt188.encode(cjt188.Frame(0x30, _GAS, 0xC1, b"\x01\x04\x00")),
        line=Line(2400, "even"),
    )


_POWER = "000000000161"


def _dl_reply(request: bytes) -> bytes:
    """Answers of dl-02 and dl-04; identifier 000100FF comes in three frames."""
    asked = dlt645.decode(request)
    di, values = asked.data[:4], {0x00010000: "26000000", 0x02010100: "0110"}
    number = int.from_bytes(di, "little")
    if number in values:
        return b"\xfe" + dlt645.encode(dlt645.Frame(_POWER, 0x91, di + bytes.fromhex(values[number])))
    if asked.function == 0x11:
        return dlt645.encode(dlt645.Frame(_POWER, 0xB1, di + b"\x01\x02"))
    last = asked.data[4] == 2
    return dlt645.encode(
        dlt645.Frame(_POWER, 0x92 if last else 0xB2, di + bytes((16 * asked.data[4], asked.data[4])))
    )


def _dl(name: str, di: int, found: str) -> Case:
    return Case(
        name=name,
        masters={DltAsk: DltMaster},
        first=DltAsk(_POWER, di),
        first_bytes=bytes.fromhex(found),
        second=DltAsk(_POWER, 0x02010100),
        second_bytes=bytes.fromhex("0110"),
        reply=_dl_reply,
        has_data=lambda request: True,
        foreign=bytes.fromhex("6801000000000068910833333433ab8967451716"),  # golden dl-05
        refusal=dlt645.encode(dlt645.Frame(_POWER, 0xD1, b"\x02")),
        line=Line(2400, "even"),
    )


_WATER_1 = bytes.fromhex("681b1b6808017207201800e61e35074c0000000c78072018000c16690200009616")  # golden mb-03
_PADPULS = bytes.fromhex("681f1f680802727856341224400107550000000313153100da023b13018b60043718021816")  # mb-04


def _mb_reply(request: bytes) -> bytes:
    if request[:2] == b"\x10\x40" or request[:1] == b"\x68":
        return b"\xe5"
    return {1: _WATER_1, 2: _PADPULS, 0xFD: _PADPULS}[request[2]]


MBUS = Case(
    name="mbus",
    masters={MbusAsk: MbusMaster},
    first=MbusAsk(1),
    first_bytes=_WATER_1,
    second=MbusAsk(2, "12345678"),
    second_bytes=_PADPULS,
    reply=_mb_reply,
    has_data=lambda request: request[:1] == b"\x10" and request[1] & 0x4F == 0x4B,
    foreign=bytes.fromhex("68131368080573785634120a00e97e01000000350100003c16"),  # golden mb-09: address 5
    refusal=bytes.fromhex("68040468 08017008 81 16"),  # CI 70: application busy
    line=Line(2400, "even"),
)

_READOUT = "1-0:1.8.0*255(000123.456*kWh)\r\n0.0.0(12345678)\r\n!\r\n"
_VOLUME = "7:300.0(00001234.5670*m3)"


def _iec_reply(request: bytes) -> bytes:
    asked = iec.decode(request)
    match asked:
        case iec.SignOn():
            return iec.encode(iec.Identification("ELS", "5", "6EK280 V1.00"))
        case iec.Option(mode="0"):
            return iec.encode(iec.Data(_READOUT))
        case iec.Option():
            return iec.encode(iec.Data("(1234567)"))
        case iec.Command("R1"):
            return iec.encode(iec.Data(_VOLUME))
    return b""


IEC = Case(
    name="iec62056-21",
    masters={IecAsk: IecMaster},
    first=IecAsk("12345678"),
    first_bytes=_READOUT.encode(),
    second=IecAsk("12345678", ("7:300.0",)),
    second_bytes=_VOLUME.encode(),
    reply=_iec_reply,
    has_data=lambda request: (
        request[:1] in (b"\x06", b"\x01") and request[1:3] in (b"05", b"R1") and request[3:4] != b"1"
    ),
    foreign=iec.encode(iec.Identification("LGZ", "5", "2ZMD120APt.G03")),
    refusal=b"\x15",
    line=Line(300, "even", 7),
)

CASES = [
    MODBUS,
    _cj("cjt188", _cj_reply),
    _cj("cjt188-own-ser", _cj_reply_with_its_own_ser),
    _dl("dlt645", 0x00010000, "26000000"),
    _dl("dlt645-followed", 0x000100FF, "0102 10 20"),
    MBUS,
    IEC,
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: str(case.name))
@pytest.mark.parametrize("check", SUITE, ids=lambda check: str(check.__name__).removeprefix("assert_"))
def test_contract(case: Case, check: Callable[[Case], None]) -> None:
    check(case)


def _in_pieces(answer: bytes) -> list[tuple[float, bytes]]:
    return [(0.001, answer[i : i + 1]) for i in range(len(answer))]


def test_registers_that_look_like_a_frame_are_still_registers() -> None:
    """The answer holds golden mo-06, a whole exception frame of the same unit with a right CRC."""
    inside = bytes.fromhex("018302c0f1 00")
    answer = encode_rtu(Frame(1, b"\x03\x06" + inside))

    async def scenario() -> None:
        bench = Bench({RtuAsk: ModbusRtuMaster}, lambda request: _in_pieces(answer))
        assert await bench.read(make_rtu_ask(1, 3, 0, 3)) == inside

    asyncio.run(scenario())


def test_values_that_look_like_a_request_are_still_values() -> None:
    """The telegram holds golden mb-13, a whole short frame with a right sum, in one of its numbers."""
    records = bytes.fromhex("0714 1040014116000000")  # DIF 07: a 64-bit integer
    telegram = mbus.encode_frame(mbus.LongFrame(0x08, 1, 0x78, records))

    async def scenario() -> None:
        bench = Bench({MbusAsk: MbusMaster}, lambda r: _in_pieces(b"\xe5" if r[1] == 0x40 else telegram))
        assert await bench.read(MbusAsk(1)) == telegram

    asyncio.run(scenario())
