"""DSMR P1 telegrams of Dutch, Belgian, Irish, Swedish and other smart meters, with and without CRC; both directions.

    /XXX5ident CRLF CRLF  object lines  !CRC CRLF

Version 4 and later end in a CRC-16/ARC over everything from `/` to `!`, four hex digits (some makers drop leading
zeros); versions 2 and 3 end in `!` alone. A value is as old as its own time: a gas meter behind the electricity meter
reports hourly or every 5 minutes, and repeats of one hour must not become new readings.

Source: DSMR 2.2 to 5.0.2 P1 companion standard; e-MUCS (Belgium).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from typing import Final

from gateway.protocols.framing import Nothing, NotYet, StreamSplitter, Whole, crc16_arc
from metering.errors import ChecksumError, FrameError
from metering.quantities import MICRO, Quantity, to_micro

MAX_FRAME: Final = 8192
_HEX: Final = b"0123456789ABCDEFabcdef"
_LINE: Final = re.compile(r"(\d{1,3}-\d{1,3}:\d{1,3}\.\d{1,3}\.\d{1,3}(?:\.\d{1,3}|\*\d{1,3})?)((?:\([^()]*\))+)")
_GROUPS: Final = re.compile(r"(\([^()]*\))+")
_GROUP: Final = re.compile(r"\(([^()]*)\)")
_VALUE: Final = re.compile(r"(\d{1,12}(?:\.\d{1,6})?)\*([A-Za-z0-9]{1,6})")
_NUMBER: Final = re.compile(r"\d{1,12}(?:\.\d{1,6})?")
_TIME: Final = re.compile(r"(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)([SW]?)")
_SUMMER, _WINTER = timezone(timedelta(hours=2)), timezone(timedelta(hours=1))


@dataclass(frozen=True, slots=True)
class Line:
    """One object: its OBIS code as written, and what stands in each pair of brackets."""

    obis: str
    groups: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Value:
    """A number with its unit as written: 4.426 kWh."""

    number: Decimal
    unit: str


@dataclass(frozen=True, slots=True)
class P1Time:
    """A time as written. aware: with +01:00 (W) or +02:00 (S); without letter (before v4) it is the meter's local."""

    moment: datetime


@dataclass(frozen=True, slots=True)
class SubMeter:
    """A meter on M-Bus channel 1-4. type: 3 gas, 7 water, 4 heat, None when not told. id: hex-coded ASCII as sent.

    time: of the value, None with it. converted: True for 24.2.1 of gas in the Netherlands (to base conditions), False
    for 24.2.3 of Belgium (not converted), None when the telegram does not tell.
    """

    channel: int
    type: int | None
    id: str
    time: P1Time | None
    value: Value | None
    converted: bool | None

    @property
    def printed_id(self) -> str:
        """The id as on the meter: hex-coded ASCII decoded, else as sent."""
        return printed(self.id)


@dataclass(frozen=True, slots=True)
class Telegram:
    """One telegram. ident: what follows `/`. crc: as sent, None before v4. lines: every object, in order."""

    ident: str
    crc: str | None
    lines: tuple[Line, ...]
    end: str = "\r\n"

    def value(self, *codes: str) -> Value | None:
        """Return the number of the first of these OBIS codes that is there with a unit; None when none is."""
        for line in self.lines:
            if line.obis in codes and line.groups and (found := value_of(line.groups[-1])) is not None:
                return found
        return None

    def text(self, code: str) -> str | None:
        """Return the first bracket of an object, None when it is not there or empty."""
        return next(
            (line.groups[0] for line in self.lines if line.obis == code and line.groups and line.groups[0]), None
        )

    @property
    def time(self) -> P1Time | None:
        """When the telegram was made (0-0:1.0.0)."""
        text = self.text("0-0:1.0.0")
        return None if text is None else time_of(text)

    @property
    def sub_meters(self) -> tuple[SubMeter, ...]:
        """Meters behind this one, by channel; also an empty channel that names a type or an id."""
        channels = sorted({int(line.obis[2]) for line in self.lines if re.match(r"0-[1-4]:\d", line.obis)})
        meters = (_sub_meter(self, channel) for channel in channels)
        return tuple(meter for meter in meters if meter.id or meter.type is not None or meter.value)


def decode(frame: bytes) -> Telegram:
    """Check one whole telegram and take it apart.

    Raises: FrameError, not a telegram or cut (sort "length"); ChecksumError, sort "crc".
    """
    body, crc = _checked(frame)
    try:
        text = body.decode("ascii")
    except UnicodeDecodeError:
        raise FrameError("P1 telegram has bytes that are not ASCII", frame) from None
    head, _, rest = text[1:].partition("\n")
    end = "\r\n" if head.endswith("\r") else "\n"
    ident = head.removesuffix("\r")
    if len(ident) < 3 or "\r" in ident:
        raise FrameError("P1 telegram has no identification of its maker", frame)
    return Telegram(ident, crc, _lines(rest, frame, checked=crc is not None), end)


def _checked(frame: bytes) -> tuple[bytes, str | None]:
    """Return the bytes from `/` to before `!`, and the CRC as sent."""
    if frame[:1] != b"/":
        raise FrameError("not a P1 telegram: it does not begin with /", frame, sort="frame" if frame else "length")
    mark = frame.find(b"!")
    if mark < 0:
        raise FrameError("P1 telegram is cut: it has no !", frame, sort="length", also=("crc",))
    tail = frame[mark + 1 :]
    if not tail.endswith(b"\n"):
        raise FrameError("P1 telegram is cut behind its !", frame, sort="length", also=("crc",))
    digits = tail.strip(b"\r\n")
    if len(tail) - len(digits) > 2 or len(digits) > 4 or any(byte not in _HEX for byte in digits):
        raise FrameError("what stands behind ! is not a CRC", frame, also=("crc",))
    if not digits:
        if _needs_crc(frame[:mark]):
            raise ChecksumError("P1 telegram of version 4 or later has no CRC", frame, sort="crc")
        return frame[:mark], None
    computed = crc16_arc(frame[: mark + 1])
    if int(digits, 16) != computed:
        facts = {"crc_in_frame": digits.decode(), "crc_computed": f"{computed:04X}"}
        raise ChecksumError("CRC of the P1 telegram is wrong", frame, sort="crc", facts=facts)
    return frame[:mark], digits.decode().upper()


def _needs_crc(body: bytes) -> bool:
    """Version 4 and later name their version (1-3:0.2.8, Belgium 0-0:96.1.4) or the time of the telegram."""
    return b"1-3:0.2.8(" in body or b"0-0:96.1.4(" in body or b"0-0:1.0.0(" in body


def _lines(text: str, frame: bytes, *, checked: bool) -> tuple[Line, ...]:
    """checked: a CRC has proved the text; a line of another form is then kept as it is, not taken for damage."""
    lines: list[Line] = []
    for raw in text.split("\n"):
        line = raw.strip("\r ")
        if not line:
            continue
        if match := _LINE.fullmatch(line):
            lines.append(Line(match[1], tuple(_GROUP.findall(match[2]))))
        elif _GROUPS.fullmatch(line) and lines:  # v2 and v3 put the value of a sub-meter on a line of its own
            lines[-1] = Line(lines[-1].obis, (*lines[-1].groups, *_GROUP.findall(line)))
        elif checked:
            lines.append(Line(line, ()))
        else:
            raise FrameError(f"P1 line {line[:40]!r} is not an object", frame)
    return tuple(lines)


def value_of(group: str) -> Value | None:
    """Return the number in a bracket with its unit; None when there is no number or no unit."""
    match = _VALUE.fullmatch(group)
    return None if match is None else Value(Decimal(match[1]), match[2])


def time_of(group: str) -> P1Time | None:
    """Return the time in a bracket; None when it is none, or a filler from before 2000 (1970 written as 700101…)."""
    match = _TIME.fullmatch(group)
    if match is None:
        return None
    year, month, day, hour, minute, second = (int(match[i]) for i in range(1, 7))
    zone = {"S": _SUMMER, "W": _WINTER, "": None}[match[7]]
    if year >= 70:
        return None
    try:
        return P1Time(datetime(2000 + year, month, day, hour, minute, second, tzinfo=zone))
    except ValueError:
        return None


def printed(id: str) -> str:
    """Return an equipment id as printed on the meter: hex-coded ASCII is decoded when it gives letters and digits."""
    try:
        text = bytes.fromhex(id).decode("ascii")
    except (ValueError, UnicodeDecodeError):
        return id
    return text if text.isalnum() else id


def _sub_meter(telegram: Telegram, channel: int) -> SubMeter:
    type_text = telegram.text(f"0-{channel}:24.1.0")
    id = telegram.text(f"0-{channel}:96.1.0") or telegram.text(f"0-{channel}:96.1.1") or ""
    time, value, converted = _sub_value(telegram, channel)
    type = int(type_text) if type_text is not None and type_text.isdecimal() and len(type_text) <= 3 else None
    return SubMeter(channel, type, id, time, value, converted)


def _sub_value(telegram: Telegram, channel: int) -> tuple[P1Time | None, Value | None, bool | None]:
    for line in telegram.lines:
        _, _, code = line.obis.partition(":")
        if not line.obis.startswith(f"0-{channel}:") or code not in ("24.2.1", "24.2.3", "24.3.0") or not line.groups:
            continue
        time = time_of(line.groups[0])
        value = _old_value(line.groups) if code == "24.3.0" else value_of(line.groups[-1])
        if time is not None and value is not None and len(line.groups) > 1:
            return time, value, {"24.2.1": True, "24.2.3": False}.get(code)
    return None, None, None


def _old_value(groups: tuple[str, ...]) -> Value | None:
    """(time)(status)(period)(n)(obis)(unit) and on the next line (value)."""
    if len(groups) < 7 or not _NUMBER.fullmatch(groups[6]) or not groups[5]:
        return None
    return Value(Decimal(groups[6]), groups[5])


# --- our words

_TO_KILO: Final = {"kWh": Decimal(1), "Wh": Decimal("0.001"), "MWh": Decimal(1000)}
_POWER: Final = {"kW": Decimal(1), "W": Decimal("0.001")}
_JOULES: Final = {"GJ": 1_000_000, "MJ": 1000}
_VOLUME: Final = {"m3": Decimal(1), "dm3": Decimal("0.001"), "l": Decimal("0.001")}
_QUANTITIES: Final[tuple[tuple[Quantity, str, dict[str, Decimal]], ...]] = (
    ("energy_import", "1-0:1.8.0", _TO_KILO),
    ("energy_import_t1", "1-0:1.8.1", _TO_KILO),
    ("energy_import_t2", "1-0:1.8.2", _TO_KILO),
    ("energy_import_t3", "1-0:1.8.3", _TO_KILO),
    ("energy_import_t4", "1-0:1.8.4", _TO_KILO),
    ("energy_export", "1-0:2.8.0", _TO_KILO),
    ("power", "1-0:1.7.0", _POWER),
    ("voltage", "1-0:32.7.0", {"V": Decimal(1)}),
    ("current", "1-0:31.7.0", {"A": Decimal(1)}),
)


def house_values(telegram: Telegram) -> dict[Quantity, int]:
    """Return the electricity meter's own values, {quantity: 10⁻⁶ of the house unit}.

    Power is the import less the export. Where only tariff registers exist, energy_export is their sum.
    """
    found: dict[Quantity, int] = {}
    for quantity, code, units in _QUANTITIES:
        if (micro := _micro(telegram.value(code), units)) is not None:
            found[quantity] = micro
    exported = _micro(telegram.value("1-0:2.7.0"), _POWER)
    if "power" in found and exported:
        found["power"] -= exported
    tariffs = [_micro(telegram.value(f"1-0:2.8.{n}"), _TO_KILO) for n in range(1, 5)]
    if "energy_export" not in found and any(part is not None for part in tariffs):
        found["energy_export"] = sum(part or 0 for part in tariffs)
    return found


def sub_meter_values(meter: SubMeter) -> dict[Quantity, int]:
    """Return a sub-meter's index: gas by its conditions, water as volume, heat (in kWh) as energy."""
    if meter.value is None:
        return {}
    volume = _micro(meter.value, _VOLUME)
    if volume is not None:
        if meter.type != 3:
            return {"volume": volume}
        names: dict[bool | None, Quantity] = {True: "volume_standard", False: "volume_actual", None: "volume"}
        return {names[meter.converted]: volume}
    energy = _micro(meter.value, _TO_KILO)
    if energy is None and meter.value.unit in _JOULES:  # to the nearest 10⁻⁶ kWh: 1 GJ is 277.777… kWh
        energy = round(meter.value.number * _JOULES[meter.value.unit] * MICRO / 3600)
    return {} if energy is None else {"energy_import": energy}


def _micro(value: Value | None, units: dict[str, Decimal]) -> int | None:
    if value is None or value.unit not in units:
        return None
    try:
        return to_micro(value.number * units[value.unit])
    except ValueError:
        return None


# --- writing and streams


def encode(telegram: Telegram) -> bytes:
    """Write a telegram; its CRC is made anew when it has one."""
    end = telegram.end
    lines = [line.obis + "".join(f"({group})" for group in line.groups) for line in telegram.lines]
    body = f"/{telegram.ident}{end}{end}{''.join(line + end for line in lines)}!".encode("ascii")
    crc = "" if telegram.crc is None else f"{crc16_arc(body):0{len(telegram.crc)}X}"
    return body + f"{crc}{end}".encode("ascii")


def measure(data: bytes) -> Whole | NotYet | Nothing:
    """Judge the telegram that begins here (see `framing.Measure`)."""
    again = data.find(b"/", 1)
    mark = data.find(b"!")
    if mark < 0:
        return Nothing("length") if again > 0 and data[again - 1 : again] == b"\n" else NotYet(len(data) + 1)
    end = data.find(b"\n", mark)
    if end < 0:
        return Nothing("frame") if len(data) > mark + 7 else NotYet(len(data) + 1)
    try:
        decode(data[: end + 1])
    except ChecksumError as error:
        return Nothing(error.sort)
    except FrameError as error:
        return Nothing(error.sort)
    return Whole(end + 1)


def splitter() -> StreamSplitter:
    """Return a splitter for a P1 port."""
    return StreamSplitter(measure, MAX_FRAME, starts=b"/")
