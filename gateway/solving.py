"""Find where the number on a meter's dial stands among its bytes: address, type, order and scale that fit, ranked.

Nothing is guessed away: every reading of the bytes that gives the dial's digits is listed, the likeliest first. A
number that fits exactly comes before one that only shows the same digits; a plain form before a rare one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import ROUND_DOWN, ROUND_HALF_EVEN, Decimal
from typing import Final

from gateway.protocols.registers import BYTES, ORDERS, Encoding, Number, Order, decoder
from metering.errors import FrameError
from metering.quantities import MICRO

SCALES: Final = tuple(
    Decimal(text) for text in ("1", "0.1", "0.01", "0.001", "0.0001", "0.00001", "0.000001", "10", "100", "1000")
)
"""What one step of the raw number may be worth; the order is the one of likelihood."""
_BCD_SIZES: Final = (4, 6, 8, 2)
_ENCODINGS: Final[tuple[Encoding, ...]] = (
    "uint32", "float32", "uint64", "float64", "uint16", "int32", "int64", "int16",
)  # fmt: skip
_SPLITS: Final = tuple(
    (Decimal(high), Decimal(low))
    for high, low in (("100", "1"), ("1000", "1"), ("10000", "1"), ("1", "0.001"), ("1", "0.0001"), ("1", "0.01"))
)
_SIZE_RANK: Final = {4: 0, 8: 1, 6: 2, 2: 3}


@dataclass(frozen=True, slots=True)
class Fit:
    """One way to read the dial's number. place: [bytes] from the beginning; size: [bytes].

    exact: the number itself, not only the digits that the dial shows.
    split: the number behind it is added, with this scale (a total in two pieces); None: it stands alone.
    """

    place: int
    encoding: Encoding
    size: int
    order: Order
    scale: Decimal
    value: Decimal
    exact: bool
    split: Decimal | None = None

    @property
    def rank(self) -> tuple[int, ...]:
        """Smaller is likelier."""
        encoding = len(_ENCODINGS) if self.encoding == "bcd" else _ENCODINGS.index(self.encoding)
        wide = _SIZE_RANK.get(self.size, 4)
        scale = SCALES.index(self.scale) if self.scale in SCALES else len(SCALES)
        return (not self.exact, self.split is not None, scale > 6, wide, ORDERS.index(self.order), scale, encoding)

    def toml(self, register: int) -> str:
        """Return the lines of a profile's field. register: address of the first byte."""
        first = register + self.place // 2
        size = f"\nsize = {self.size}" if self.encoding == "bcd" else ""
        if self.split is None:
            order = "" if self.order == "ABCD" else f'\norder = "{self.order}"'
            scale = "" if self.scale == 1 else f'\nscale = "{self.scale:f}"'
            return f'register = 0x{first:04X}\nencoding = "{self.encoding}"{size}{order}{scale}'
        part = f'encoding = "{self.encoding}", order = "{self.order}"'
        behind = first + self.size // 2
        return (
            f'part = [{{ register = 0x{first:04X}, {part}, scale = "{self.scale:f}" }}, '
            f'{{ register = 0x{behind:04X}, {part}, scale = "{self.split:f}" }}]'
        )


def solve(data: bytes, dial: Decimal, *, align: int = 2) -> list[Fit]:
    """Return every fit, the likeliest first. align: 2 for registers, 1 for bytes of any protocol.

    Raises: ValueError for a dial of 0: it fits wherever nothing stands.
    """
    if not dial:
        raise ValueError("a dial that shows 0 fits everywhere: give a meter that has counted")
    found = [*_single(data, dial, align), *_splits(data, dial, align)]
    return sorted(found, key=lambda fit: (*fit.rank, fit.place))


def _forms() -> Iterator[tuple[Encoding, int]]:
    for encoding in _ENCODINGS:
        yield encoding, BYTES[encoding]
    for size in _BCD_SIZES:
        yield "bcd", size


def _orders(size: int, align: int) -> tuple[Order, ...]:
    """Two bytes have two orders; at byte level words mean nothing, so only forwards and backwards are tried."""
    if align == 1:
        return ("ABCD", "DCBA")
    return ("ABCD", "BADC") if size == 2 else ORDERS


def _single(data: bytes, dial: Decimal, align: int) -> Iterator[Fit]:
    for encoding, size in _forms():
        for order in _orders(size, align):
            read = decoder(Number(encoding, size, order))
            for place in range(0, len(data) - size + 1, align):
                raw = _number(read, data[place : place + size])
                if not raw:
                    continue
                for scale in SCALES if encoding[:5] != "float" else SCALES[:7]:
                    value = raw * scale
                    if _shows(value, dial):
                        yield Fit(place, encoding, size, order, scale, value, value == dial)


def _splits(data: bytes, dial: Decimal, align: int) -> Iterator[Fit]:
    for encoding in ("uint16", "uint32", "float32"):
        size = BYTES[encoding]
        for order in _orders(size, align):
            read = decoder(Number(encoding, size, order))
            for place in range(0, len(data) - 2 * size + 1, align):
                high = _number(read, data[place : place + size])
                low = _number(read, data[place + size : place + 2 * size])
                if not high or not low or low < 0:
                    continue
                pairs = [*_SPLITS, (Decimal(1), Decimal(1))] if encoding == "float32" else _SPLITS
                for scale, split in pairs:
                    value = high * scale + low * split
                    if low * split < scale and _shows(value, dial):
                        yield Fit(place, encoding, size, order, scale, value, value == dial, split)


def _number(read: object, raw: bytes) -> Decimal | None:
    assert callable(read)
    try:
        micro = read(raw)
    except FrameError:
        return None
    return None if micro is None else Decimal(micro) / MICRO


def _shows(value: Decimal, dial: Decimal) -> bool:
    """True when a dial with as many decimals would show this value, cut or rounded."""
    if abs(value - dial) > abs(dial) / 10:
        return False
    step = Decimal(1).scaleb(int(dial.as_tuple().exponent))
    return dial in (value.quantize(step, ROUND_DOWN), value.quantize(step, ROUND_HALF_EVEN))
