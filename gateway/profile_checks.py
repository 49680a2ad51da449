"""Find everything that is wrong in a profile beyond types: overlaps, units, lengths, golden frames that disagree."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal, InvalidOperation

from gateway.faults import Fault
from gateway.items.checks import item_field_faults, item_file_faults, item_golden_faults
from gateway.profile import Profile, build, decode_field, show
from gateway.profile_file import WITH_SET_TIME, Absent, FieldFile, GoldenFile, ProfileFile
from gateway.protocols.framing import crc16_modbus
from gateway.protocols.registers import BYTES, MAX_BCD_BYTES, Encoding
from gateway.units import units_of
from metering.errors import FrameError
from metering.quantities import COUNTERS, UNITS, to_micro
from metering.settings import nearest


def faults_of(file: ProfileFile, stem: str) -> Iterator[Fault]:
    """Yield every fault; stem: the file's name without its ending."""
    if file.id != stem:
        yield ("id",), f'"{file.id}"', f'must be the file\'s name, "{stem}"'
    if file.set_time == "standard" and file.protocol not in WITH_SET_TIME:
        yield ("set_time",), '"standard"', f"{file.protocol} has none; allowed with {', '.join(WITH_SET_TIME)}"
    by_item = file.protocol != "modbus"
    check = item_field_faults if by_item else lambda _, field, at: _field_faults(field, at)
    faults = [fault for i, field in enumerate(file.field) for fault in check(file, field, ("field", i))]
    faults += item_file_faults(file) if by_item else []
    yield from faults
    yield from _twice(file)
    index = next((field for field in file.field if field.name == file.index), None)
    if index is None:
        yield ("index",), f'"{file.index}"', "no such field; " + nearest(file.index, [f.name for f in file.field])
    elif index.quantity not in COUNTERS:
        yield ("index",), f'"{file.index}"', "only a field whose quantity accumulates can be billed"
    if not faults and index is not None:
        profile = build(file)
        if by_item:
            yield from item_golden_faults(profile)
            return
        yield from _overlaps(profile)
        for i, golden in enumerate(file.golden):
            yield from _golden_faults(profile, golden, ("golden", i))


def _field_faults(field: FieldFile, at: tuple[str | int, ...]) -> Iterator[Fault]:
    if field.item or field.value or field.word:
        yield (*at, "item"), f'"{field.item}"', "a Modbus field has a register, not an item"
    if (field.quantity is None) == (not field.flag):
        yield at, "", f'field "{field.name}" needs either a quantity or [[field.flag]]'
    if field.quantity is not None and field.unit not in (known := units_of(UNITS[field.quantity])):
        yield (*at, "unit"), f'"{field.unit}"', f"allowed: {', '.join(known)}; {nearest(field.unit, known)}"
    if bool(field.part) == (field.register is not None and field.encoding is not None):
        yield at, "", f'field "{field.name}" needs either register and encoding or [[field.part]]'
    for key in ("scale", "offset"):
        yield from _decimal_fault(getattr(field, key), (*at, key), positive=key == "scale")
    if field.encoding is not None:
        yield from _number_faults(field.encoding, field.size, field.register or 0, at)
        yield from _absent_faults(field.not_available, field.encoding, at)
    for i, part in enumerate(field.part):
        yield from _number_faults(part.encoding, part.size, part.register, (*at, "part", i))
        yield from _decimal_fault(part.scale, (*at, "part", i, "scale"), positive=True)
    if field.flag and field.encoding not in ("uint16", "uint32"):
        yield (*at, "encoding"), f'"{field.encoding}"', "flags are told by uint16 or uint32"


def _number_faults(encoding: Encoding, size: int, register: int, at: tuple[str | int, ...]) -> Iterator[Fault]:
    if encoding == "bcd" and (size < 2 or size % 2):
        yield (*at, "size"), str(size), f"bcd needs its length in bytes: 2, 4, 6 or {MAX_BCD_BYTES}"
    if encoding != "bcd" and size:
        yield (*at, "size"), str(size), f"only bcd has a size; {encoding} always takes {BYTES[encoding]} bytes"
    if register + BYTES.get(encoding, size) // 2 > 65536:
        yield (*at, "register"), str(register), "the number would reach past register 65535"


def _decimal_fault(text: str, at: tuple[str | int, ...], *, positive: bool) -> Iterator[Fault]:
    try:
        value = Decimal(text)
        good = value.is_finite() and abs(value.adjusted()) <= 12 and (value > 0 or not positive)
        if not positive:
            to_micro(text)
    except (InvalidOperation, ValueError):
        good = False
    if not good:
        kind = "a decimal text above 0" if positive else "a decimal text with at most 6 decimals"
        yield at, f'"{text}"', f'must be {kind}, such as "0.001"'


def _absent_faults(words: list[Absent], encoding: Encoding, at: tuple[str | int, ...]) -> Iterator[Fault]:
    is_float = encoding.startswith("float")
    for word in words:
        if (word == "nan") != is_float and word != "all_ff":
            allowed = "nan, all_ff" if is_float else "all_ff, max_signed, min_signed"
            yield (*at, "not_available"), f'"{word}"', f"{encoding} allows: {allowed}"


def _twice(file: ProfileFile) -> Iterator[Fault]:
    for key in ("name", "quantity"):
        seen: dict[str, int] = {}
        for i, field in enumerate(file.field):
            word = getattr(field, key)
            if word is not None and word in seen:
                yield ("field", i, key), f'"{word}"', f"stands already at field[{seen[word]}]"
            seen.setdefault(word, i)


def _overlaps(profile: Profile) -> Iterator[Fault]:
    taken: dict[tuple[int, int], str] = {}
    for i, field in enumerate(profile.fields):
        if field.stop - field.start > profile.max_registers:
            yield (
                ("field", i),
                "",
                f'"{field.name}" does not fit into one request of {profile.max_registers} registers',
            )
        for part in field.parts:
            spots = [(field.function, part.register + k) for k in range(part.form.registers)]
            if other := next((taken[spot] for spot in spots if spot in taken), None):
                yield ("field", i, "register"), str(part.register), f'"{field.name}" overlaps "{other}"'
            taken.update(dict.fromkeys(spots, field.name))


def _golden_faults(profile: Profile, golden: GoldenFile, at: tuple[str | int, ...]) -> Iterator[Fault]:
    try:
        function, base, data = _golden_registers(golden)
    except FrameError as error:
        yield at, "", error.message
        return
    for name, said in golden.expect.items():
        field = profile.by_name.get(name)
        if field is None or field.function != function:
            yield (*at, "expect"), f'"{name}"', f"no such field; {nearest(name, list(profile.by_name))}"
            continue
        try:
            found = show(field, decode_field(field, data, base))
        except FrameError as error:
            found = error.message
        if found != said:
            yield (*at, "expect"), f'{name} = "{said}"', f'the response says "{found}"'


def _golden_registers(golden: GoldenFile) -> tuple[int, int, bytes]:
    """Return function, first register and register bytes of a golden pair. Raises: FrameError."""
    frames = []
    for key in ("request", "response"):
        try:
            frame = bytes.fromhex(getattr(golden, key))
        except ValueError:
            raise FrameError(f"{key} is not hex") from None
        if len(frame) < 5 or crc16_modbus(frame[:-2]) != int.from_bytes(frame[-2:], "little"):
            raise FrameError(
                f"{key}: CRC is wrong; it should end with {crc16_modbus(frame[:-2]).to_bytes(2, 'little').hex(' ')}"
            )
        frames.append(frame)
    request, response = frames
    count = int.from_bytes(request[4:6], "big")
    if len(request) != 8 or response[:2] != request[:2] or response[2] != 2 * count or len(response) != 5 + 2 * count:
        raise FrameError("request and response do not belong together (unit, function or count)")
    return request[1], int.from_bytes(request[2:4], "big"), response[3:-2]
