"""Numbers in 16-bit Modbus registers, exact: bytes in, `int` in 10⁻⁶ of the house unit out, and back.

A `Number` says how one number lies in neighbouring registers. Nothing is rounded that a meter counts: an integer or
BCD value with more than 6 decimals is refused. A float is the shortest decimal that it prints (1243.1116, not
1243.111572265625), rounded to 6 decimals; `step` tells how coarse it is there.

Source: Modbus Application Protocol V1.1b3 (registers are big-endian 16-bit words); word orders as makers print them.
"""

from __future__ import annotations

import math
import struct
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from decimal import ROUND_FLOOR, ROUND_HALF_EVEN, Context, Decimal
from fractions import Fraction
from functools import lru_cache
from typing import Final, Literal, get_args

from metering.errors import FrameError
from metering.quantities import INT64_MAX, from_micro

Encoding = Literal["uint16", "uint32", "uint64", "int16", "int32", "int64", "float32", "float64", "bcd"]
Order = Literal["ABCD", "CDAB", "BADC", "DCBA"]

ENCODINGS: Final[tuple[Encoding, ...]] = get_args(Encoding)
ORDERS: Final[tuple[Order, ...]] = get_args(Order)
BYTES: Final[dict[Encoding, int]] = {
    "uint16": 2,
    "uint32": 4,
    "uint64": 8,
    "int16": 2,
    "int32": 4,
    "int64": 8,
    "float32": 4,
    "float64": 8,
}
"""Length of every encoding but bcd, whose length the profile gives."""
MAX_BCD_BYTES: Final = 8

_FLOAT32: Final = struct.Struct(">f").unpack
_FREXP: Final = math.frexp
_POWERS: Final = [10.0**power for power in range(-4, 16)]
_TENS: Final = [10**power for power in range(20)]
_HALF_ULP: Final = {exponent: math.ldexp(1.0, exponent - 25) for exponent in range(-30, 60)}
"""By the exponent of `frexp`: half the distance to the next larger float32."""
_EXACT: Final = Context(prec=60)  # 17 digits of a double times any scale: nothing is lost


@dataclass(frozen=True, slots=True)
class Number:
    """How one number lies in neighbouring registers.

    size: [bytes], even. order: ABCD high byte first; CDAB words swapped; BADC bytes swapped in each word; DCBA
    everything backwards; longer numbers alike. micro: [10⁻⁶ of the house unit] per unit of the raw number, exact.
    absent: raw forms (in ABCD order) with which the meter says "not available"; nan_absent: a float NaN says it too.
    """

    encoding: Encoding
    size: int
    order: Order = "ABCD"
    micro: Decimal = Decimal(1_000_000)
    absent: frozenset[bytes] = frozenset()
    nan_absent: bool = False

    @property
    def registers(self) -> int:
        """How many 16-bit registers it takes."""
        return self.size // 2


def number(encoding: Encoding, *, size: int = 0, order: Order = "ABCD", scale: str = "1") -> Number:
    """Return a Number of the house unit; `size` [bytes] is needed for bcd only, `scale` is a decimal string."""
    return Number(encoding, BYTES.get(encoding, size), order, Decimal(scale).scaleb(6))


def reorder(raw: bytes, order: Order) -> bytes:
    """Bring bytes from `order` into ABCD, or back: each order undoes itself."""
    if order == "ABCD":
        return raw
    if order == "DCBA":
        return raw[::-1]
    words = [raw[i : i + 2] for i in range(0, len(raw), 2)]
    if order == "CDAB":
        return b"".join(reversed(words))
    return b"".join(word[::-1] for word in words)


def decode(form: Number, raw: bytes) -> int | None:
    """Return the number [10⁻⁶ of the house unit], or None when the meter says that it is not available.

    raw: exactly `form.size` bytes as they came. Raises: FrameError, when the bytes are no number of this form.
    """
    if len(raw) != form.size:
        raise FrameError(f"{form.encoding} takes {form.size} bytes, not {len(raw)}", raw, sort="length")
    return decoder(form)(raw)


@lru_cache(maxsize=1024)
def decoder(form: Number) -> Callable[[bytes], int | None]:
    """Return the function behind `decode`, made once per form (it does not check the length)."""
    convert = _converter(form)
    if form.order == "ABCD" and not form.absent:
        return convert
    order, absent = form.order, form.absent

    def ordered(raw: bytes) -> int | None:
        plain = reorder(raw, order)
        return None if plain in absent else convert(plain)

    return ordered


def encode(form: Number, micro: int, *, cut: bool = False) -> bytes:
    """Return the bytes on the wire for a number [10⁻⁶ of the house unit].

    cut: drop what lies below the last digit of the form, as a counter does; else such a number is refused (a float
    takes the nearest value). Raises: FrameError when it does not fit.
    """
    if form.encoding in ("float32", "float64"):
        plain = _encode_float(form, micro, cut=cut)
    else:
        plain = _encode_whole(form, micro, cut=cut)
    return reorder(plain, form.order)


def encode_sum(forms: Sequence[Number], micro: int) -> list[bytes]:
    """Split a total over several numbers, the coarsest first: hundreds and remainder, whole and fraction."""
    pieces, rest = [], micro
    for place, form in enumerate(forms):
        piece = encode(form, rest, cut=place < len(forms) - 1)
        rest -= decode(form, piece) or 0
        pieces.append(piece)
    return pieces


def capacity(form: Number) -> int:
    """Return the first value [10⁻⁶ of the house unit] that an unsigned form cannot hold: there it rolls over.

    Signed forms: one past the largest positive value. Floats: INT64_MAX, they do not roll over.
    """
    if form.encoding in ("float32", "float64"):
        return INT64_MAX
    return min(INT64_MAX, int((_largest(form) + 1) * form.micro))


def step(form: Number, micro: int) -> int:
    """Return the smallest change [10⁻⁶ of the house unit, at least 1] that this form can show near `micro`.

    float32 moves in steps of 1.0 at 12 345 686 m³ and of 0.0625 at 1 000 000 m³: leaks vanish there.
    """
    if form.encoding not in ("float32", "float64"):
        return max(1, int(form.micro))
    raw = abs(float(Decimal(micro) / form.micro))
    ulp = math.ulp(raw) if form.encoding == "float64" else 2.0 ** (max(math.frexp(raw)[1], -125) - 24)
    return max(1, int(Decimal(ulp) * form.micro))


def _converter(form: Number) -> Callable[[bytes], int | None]:
    """Return the function from bytes in ABCD order to the number."""
    if form.encoding == "float32":
        return _float32_decoder(form)
    if form.encoding == "float64":
        return lambda plain: _float_micro(form, repr(struct.unpack(">d", plain)[0]), plain)
    whole = whole_converter(form)
    if form.encoding == "bcd":
        return lambda plain: whole(_bcd(plain))
    signed = form.encoding.startswith("int")
    return lambda plain: whole(int.from_bytes(plain, "big", signed=signed))


def whole_converter(form: Number) -> Callable[[int], int]:
    """Return the function from an unpacked whole number to 10⁻⁶ of the house unit; it raises FrameError."""
    numerator, denominator = form.micro.as_integer_ratio()
    if denominator == 1 and (_largest(form) + 1) * numerator <= INT64_MAX:
        return numerator.__mul__

    def whole(raw: int) -> int:
        micro, rest = divmod(raw * numerator, denominator)
        if rest:
            raise FrameError(f"{raw} has more than 6 decimals of the house unit", sort="decimals")
        if not -INT64_MAX <= micro <= INT64_MAX:
            raise FrameError(f"{raw} is too large for a meter", sort="range")
        return micro

    return whole


def _bcd(plain: bytes) -> int:
    digits = plain.hex()
    if not digits.isdecimal():
        raise FrameError("BCD with a digit above 9", plain, sort="bcd")
    return int(digits)


def _float32_decoder(form: Number) -> Callable[[bytes], int | None]:
    convert = float32_converter(form)
    return lambda plain: convert(_FLOAT32(plain)[0])


def float32_converter(form: Number) -> Callable[[float], int | None]:
    """Return the function from an unpacked float32 to the number: a gateway decodes some 100,000 of them a second.

    The shortest decimal that reads back has 6 to 9 digits; plain arithmetic tries them, and where doubles cannot
    tell (on the border between two float32) the slow way decides.
    """
    numerator, denominator = form.micro.as_integer_ratio()
    tries = [
        [(10.0**p, *Fraction(numerator * _TENS[max(0, -p)], denominator * _TENS[max(0, p)]).as_integer_ratio())
         for p in range(10 - below, 14 - below)]
        for below in range(len(_POWERS) + 1)
    ]  # fmt: skip
    # by the number of _POWERS at or below a number: the power of ten that makes 6, 7, 8, 9 digits of it, and the
    # fraction by which those digits are multiplied to be 10⁻⁶ of the house unit

    def float32(value: float) -> int | None:
        size = abs(value)
        if not 1e-5 < size < 1e15:
            return 0 if size == 0.0 else _slow_float32(form, value)
        mantissa, exponent = _FREXP(size)
        half_above = _HALF_ULP[exponent]
        half_below = half_above if mantissa != 0.5 else half_above / 2
        for power, top, bottom in tries[bisect_right(_POWERS, size)]:
            digits = round(size * power)
            error = digits / power - size
            distance = error / half_above if error >= 0 else -error / half_below
            if distance >= 0.999999:
                if distance < 1.000001:
                    break
                continue
            micro = digits * top
            if bottom != 1:
                micro, rest = divmod(micro, bottom)
                if 2 * rest > bottom or (2 * rest == bottom and micro & 1):
                    micro += 1  # half to even, as for every other number
            if micro > INT64_MAX:
                break
            return micro if value >= 0 else -micro
        return _slow_float32(form, value)

    return float32


def _slow_float32(form: Number, value: float) -> int | None:
    plain = struct.pack(">f", value)
    return _float_micro(form, _shortest32(plain), plain)


def _shortest32(plain: bytes) -> str:
    """Return the shortest decimal that reads back as this float32."""
    value = struct.unpack(">f", plain)[0]
    for digits in (6, 7, 8):  # 6 always suffice for a number that was written with 6, 9 for every number
        text = f"{value:.{digits}g}"
        if abs(value) < 3.4e38 and struct.pack(">f", float(text)) == plain:
            return text
    return f"{value:.9g}"


def _float_micro(form: Number, text: str, plain: bytes) -> int | None:
    if text == "nan" and form.nan_absent:
        return None
    if text in ("nan", "inf", "-inf"):
        raise FrameError(f"{form.encoding} is {text}, not a number", plain, sort="float")
    micro = int(_EXACT.multiply(Decimal(text), form.micro).to_integral_value(ROUND_HALF_EVEN))
    if not -INT64_MAX <= micro <= INT64_MAX:
        raise FrameError("number too large for a meter", plain, sort="range")
    return micro


def _encode_float(form: Number, micro: int, *, cut: bool) -> bytes:
    code = ">f" if form.encoding == "float32" else ">d"
    exact = _EXACT.divide(Decimal(micro), form.micro)
    try:
        plain = struct.pack(code, float(exact))
    except OverflowError:
        raise FrameError(f"{from_micro(micro)} does not fit into {form.encoding}") from None
    if cut and micro > 0 and struct.unpack(code, plain)[0] > exact:
        plain = (int.from_bytes(plain, "big") - 1).to_bytes(form.size, "big")  # the next float below
    return plain


def _encode_whole(form: Number, micro: int, *, cut: bool) -> bytes:
    exact = _EXACT.divide(Decimal(micro), form.micro)
    raw = int(exact.to_integral_value(ROUND_FLOOR))
    if raw != exact and not cut:
        raise FrameError(f"{from_micro(micro)} is finer than the form's step of {from_micro(step(form, 0))}")
    signed = form.encoding.startswith("int")
    if not (-_largest(form) - 1 if signed else 0) <= raw <= _largest(form):
        raise FrameError(f"{from_micro(micro)} does not fit into {form.encoding} of {form.size} bytes")
    if form.encoding == "bcd":
        return bytes.fromhex(f"{raw:0{form.size * 2}d}")
    return raw.to_bytes(form.size, "big", signed=signed)


def _largest(form: Number) -> int:
    if form.encoding == "bcd":
        return int(10 ** (2 * form.size)) - 1
    return (1 << (8 * form.size - (1 if form.encoding.startswith("int") else 0))) - 1
