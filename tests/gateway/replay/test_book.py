"""The book finds answers by request, number left out, and gives them as often and in the order that was recorded."""

from __future__ import annotations

from gateway.protocols import cjt188
from gateway.replay.book import Book
from gateway.replay.line import Pace
from metering.recording import Frame, RecordedBus

METER = "00000805000001"


def _frame(t: float, way: str, data: bytes) -> Frame:
    return Frame(t, 1_772_323_200_000, "tx" if way == "tx" else "rx", data.hex(), "b", "W-1")


def _ask(ser: int) -> bytes:
    return cjt188.PREAMBLE + cjt188.encode(cjt188.read_request(0x10, METER, 0x901F, ser=ser))


def _answer(ser: int, filling: int = 5) -> bytes:
    data = b"\x90\x1f" + bytes((ser,)) + bytes((filling,)) * 19
    return cjt188.PREAMBLE + cjt188.encode(cjt188.Frame(0x10, METER, 0x81, data))


def _book(*frames: Frame, again: bool = False) -> Book:
    return Book(frames, RecordedBus("b", "serial"), again=again)


def test_each_request_is_answered_as_often_as_recorded_and_then_with_silence() -> None:
    book = _book(
        _frame(1.0, "tx", b"\x10\x7b"), _frame(1.25, "rx", b"\x01"), _frame(2.0, "tx", b"\x10\x7b"),
        _frame(3.0, "tx", b"\x10\x5b"), _frame(3.5, "rx", b"\x02"), _frame(3.75, "rx", b"\x03"),
    )  # fmt: skip
    assert [(said.delay_s, said.data) for said in book.take(b"\x10\x5b")] == [(0.5, b"\x02"), (0.75, b"\x03")]
    assert [said.data for said in book.take(b"\x10\x7b")] == [b"\x01"]
    assert book.take(b"\x10\x7b") == []  # it was silent the second time
    assert (book.asked, book.over, book.unknown, book.unused) == (3, 0, 0, 0)
    assert book.take(b"\x10\x7b") == []
    assert book.take(b"\xff") == []
    assert (book.asked, book.over, book.unknown) == (3, 1, 1)


def test_it_can_begin_anew() -> None:
    book = _book(_frame(1.0, "tx", b"\x10"), _frame(1.1, "rx", b"\x01"), again=True)
    assert [book.take(b"\x10")[0].data for _ in range(3)] == [b"\x01"] * 3


def test_the_answer_bears_the_ser_of_the_question_and_a_right_checksum() -> None:
    book = _book(_frame(1.0, "tx", _ask(7)), _frame(1.1, "rx", _answer(7)))
    (said,) = book.take(_ask(200))
    assert said.data == _answer(200)


def test_a_damaged_answer_stays_exactly_as_damaged() -> None:
    damaged = bytearray(_answer(7))
    damaged[-2] ^= 0x10  # the checksum
    book = _book(_frame(1.0, "tx", _ask(7)), _frame(1.1, "rx", bytes(damaged)))
    (said,) = book.take(_ask(200))
    good = _answer(200)
    assert said.data[:-2] == good[:-2]
    assert said.data[-2] - good[-2] & 0xFF == damaged[-2] - _answer(7)[-2] & 0xFF


def test_a_late_answer_keeps_the_number_of_its_own_question() -> None:
    """SER 7 was answered after SER 8 had been asked."""
    book = _book(
        _frame(1.0, "tx", _ask(7)), _frame(2.0, "tx", _ask(8)), _frame(2.1, "rx", _answer(7, 1)),
        _frame(2.2, "rx", _answer(8, 2)),
    )  # fmt: skip
    assert book.take(_ask(100)) == []
    assert [said.data for said in book.take(_ask(101))] == [_answer(100, 1), _answer(101, 2)]


def test_modbus_tcp_answers_bear_the_transaction_of_the_question_also_two_in_one_segment() -> None:
    request, good = bytes.fromhex("0000 0006 01 03 0000 0001"), bytes.fromhex("0000 0005 01 03 02 0007")
    frames = [
        _frame(1.0, "tx", b"\x00\x01" + request), _frame(1.5, "tx", b"\x00\x02" + request),
        _frame(1.6, "rx", b"\x00\x01" + good + b"\x00\x02" + good), _frame(1.7, "rx", b"\x99\x99" + good),
    ]  # fmt: skip
    book = Book(frames, RecordedBus("b", "modbus-tcp"))
    both = book.take(b"\x50\x00" + request)  # the segment began with its number
    assert [said.data[:2] for said in both] == [b"\x50\x00"]
    (foreign,) = book.take(b"\x50\x01" + request)
    assert foreign.data == b"\x99\x99" + good


def test_late_answers_stay_late_at_any_speed() -> None:
    assert Pace(1.0, 0.5).delay_s(0.2) == 0.2
    assert Pace(10.0, 0.5).delay_s(0.2) == 0.02
    assert Pace(10.0, 0.5).delay_s(0.7) == 0.7
    assert Pace(0.0, 0.5).delay_s(0.2) == 0.0
    assert Pace(0.0, 0.5).delay_s(0.7) == 0.7
