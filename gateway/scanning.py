"""Who is on this pair of wires? Tries speeds, formats, protocols and addresses, and says who answered.

CJ/T 188 and DL/T 645 meters tell their address when asked as "whoever is there", which works with one meter on the
line; several at once collide, and that is said too. Modbus units and M-Bus primary addresses are asked one by one.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from gateway.drivers.serial_counts import BusCounts
from gateway.drivers.serial_link import SerialLink, Splitter
from gateway.drivers.serial_port import Line, Transport
from gateway.protocols import cjt188, dlt645, mbus
from gateway.protocols import iec62056_21 as iec
from gateway.protocols.cjt188.message import Order
from gateway.protocols.modbus import Frame, ReadRequest, encode, encode_rtu, rtu_splitter
from metering.clock import Clock
from metering.errors import NoAnswerError, ProtocolError

PROTOCOLS: Final = ("cjt188", "dlt645-2007", "dlt645-1997", "modbus-rtu", "mbus", "iec62056-21")
USUAL_LINES: Final = (
    Line(2400, "even"), Line(9600, "none"), Line(9600, "even"), Line(4800, "even"), Line(1200, "even"),
    Line(19200, "none"),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Seen:
    """Somebody who answered. address: "", with a note, when it cannot be read (collision, another speed)."""

    line: Line
    protocol: str
    address: str
    answer: bytes
    note: str = ""


@dataclass(frozen=True, slots=True)
class _Probe:
    protocol: str
    request: bytes
    splitter: Callable[[], Splitter]
    who: Callable[[bytes], str | None]


def line_count(protocols: Iterable[str], addresses: Sequence[int]) -> int:
    """Return how many questions one speed takes."""
    return sum(len(_probes(protocol, addresses)) for protocol in protocols)


async def scan(
    transport: Transport,
    lines: Iterable[Line],
    protocols: Sequence[str],
    addresses: Sequence[int],
    *,
    clock: Clock,
    timeout_s: float = 0.3,
) -> AsyncIterator[Seen]:
    """Yield everybody who answers. addresses: Modbus units and M-Bus primary addresses to try.

    Raises: ConnectError when the port cannot be opened.
    """
    for line in lines:
        counts = BusCounts()
        link = SerialLink(transport, line, clock=clock, counts=counts)
        try:
            await link.open()
            for protocol in protocols:
                for probe in _probes(protocol, addresses):
                    seen = await _ask(link, probe, counts, timeout_s)
                    if seen is not None:
                        yield seen
        finally:
            link.close()


async def _ask(link: SerialLink, probe: _Probe, counts: BusCounts, timeout_s: float) -> Seen | None:
    answers: list[bytes] = []

    def judge(raw: bytes) -> str | None:
        who = probe.who(raw)
        if who is not None:
            answers.append(raw)
        return who

    try:
        address = await link.ask(
            probe.request, probe.splitter(), judge, timeout_s=timeout_s, count=counts.of(probe.protocol)
        )
    except NoAnswerError:
        return None
    except ProtocolError as error:
        note = "bytes came that are no frame: several meters at once, or another speed"
        return Seen(link.line, probe.protocol, "", error.frame, note)
    return Seen(link.line, probe.protocol, address, answers[-1])


def _probes(protocol: str, addresses: Sequence[int]) -> list[_Probe]:
    match protocol:
        case "cjt188":
            orders: tuple[Order, ...] = ("big", "little")
            asked = [cjt188.read_address_request(order=order) for order in orders]
            asked += [cjt188.read_request(0xAA, cjt188.WILDCARD, order=order) for order in orders]
            sent = [cjt188.PREAMBLE + cjt188.encode(frame) for frame in asked]
            return [_Probe(protocol, request, cjt188.splitter, _cjt_who) for request in sent]
        case "dlt645-2007":
            who = [dlt645.read_address_request(), dlt645.read_request(dlt645.WILDCARD, 0x00010000)]
            return [_Probe(protocol, dlt645.PREAMBLE + dlt645.encode(f), dlt645.splitter, _dlt_who) for f in who]
        case "dlt645-1997":
            frame = dlt645.read_request(dlt645.WILDCARD, 0x9010, "1997")
            return [_Probe(protocol, dlt645.PREAMBLE + dlt645.encode(frame), dlt645.splitter, _dlt_who)]
        case "mbus":
            return [_Probe(protocol, mbus.req_ud2(n, True), mbus.splitter, _mbus_who) for n in addresses if n <= 250]
        case "iec62056-21":
            return [_Probe(protocol, iec.encode(iec.SignOn()), iec.splitter, _iec_who)]
    pdu = encode(ReadRequest(3, 0, 1))
    units = [n for n in addresses if 1 <= n <= 247]
    return [_Probe(protocol, encode_rtu(Frame(n, pdu)), rtu_splitter, _rtu_who(n)) for n in units]


def _cjt_who(raw: bytes) -> str | None:
    frame = cjt188.decode(raw)
    return frame.address if frame.from_meter else None


def _dlt_who(raw: bytes) -> str | None:
    frame = dlt645.decode(raw)
    return frame.address if frame.from_meter else None


def _mbus_who(raw: bytes) -> str | None:
    answer = mbus.decode(raw)
    if isinstance(answer, mbus.Telegram):
        secondary = f"/{answer.header.id}" if answer.header is not None else ""
        return f"{answer.address}{secondary}"
    return str(answer.address) if isinstance(answer, mbus.FixedTelegram) else None


def _iec_who(raw: bytes) -> str | None:
    message = iec.decode(raw)
    if isinstance(message, iec.Identification):
        return f"{message.manufacturer} {message.ident} ({message.baud or message.baud_char} baud)"
    return None


def _rtu_who(unit: int) -> Callable[[bytes], str | None]:
    """An exception answers too: there is somebody."""
    return lambda raw: str(raw[0]) if raw[0] == unit and raw[1] & 0x7F == 3 else None
