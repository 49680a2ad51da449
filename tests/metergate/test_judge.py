"""The judge itself: it must see a loss, a double and an invention, and excuse only what may be excused."""

from __future__ import annotations

import pytest

from metergate.judge import judge
from metering.quantities import Quantity
from metering.reading import Reading
from simulators.answer_log import Answer

BILLED: dict[str, Quantity] = {"M1": "volume", "M2": "volume"}


def said(*pairs: tuple[int, int], meter: str = "M1", outcome: str = "ok") -> list[Answer]:
    return [Answer(n, at, meter, 1, 3, 0, 20, index, outcome) for n, (at, index) in enumerate(pairs, 1)]


def kept(*pairs: tuple[int, int], meter: str = "M1") -> list[Reading]:
    return [Reading(meter, at, {"volume": index}) for at, index in pairs]


def test_everything_said_is_stored() -> None:
    verdict = judge(said((1000, 5), (6000, 5), (11000, 6)), kept((1003, 5), (6009, 5), (11001, 6)), BILLED)
    assert verdict.clean
    assert (verdict.served, verdict.stored, verdict.worst_ms) == (3, 3, 9)
    assert str(verdict) == "served 3, stored 3, lost 0, invented or twice 0"


def test_a_lost_answer_is_found_also_among_equal_values() -> None:
    assert len(judge(said((1000, 5), (6000, 5)), kept((1003, 5)), BILLED).lost) == 1
    assert len(judge(said((1000, 5), (6000, 6)), kept((1003, 5)), BILLED).lost) == 1


def test_a_double_and_an_invention_are_found() -> None:
    assert len(judge(said((1000, 5)), kept((1003, 5), (1004, 5)), BILLED).invented) == 1
    assert len(judge([], kept((1003, 0)), BILLED).invented) == 1


def test_another_meters_value_is_no_help() -> None:
    verdict = judge(said((1000, 5)), kept((1000, 5), meter="M2"), BILLED)
    assert (len(verdict.lost), len(verdict.invented)) == (1, 1)


def test_spoiled_answers_and_answers_without_index_are_not_owed() -> None:
    spoiled = [*said((1000, 5), outcome="cut"), Answer(2, 1000, "M1", 1, 3, 0, 20, None, "ok")]
    assert judge(spoiled, [], BILLED).served == 0


@pytest.mark.parametrize(("killed_at", "lost", "excused"), [(1100, 0, 1), (9000, 1, 0)])
def test_only_answers_just_before_a_kill_are_excused(killed_at: int, lost: int, excused: int) -> None:
    verdict = judge(said((1000, 5)), [], BILLED, excuse=lambda answer: 0 <= killed_at - answer.at_ms < 1000)
    assert (len(verdict.lost), verdict.excused) == (lost, excused)


def test_an_excuse_covers_the_answer_that_is_missing_and_not_its_neighbour() -> None:
    verdict = judge(said((1000, 5), (6000, 5)), kept((6001, 5)), BILLED, excuse=lambda answer: answer.at_ms == 6000)
    assert [answer.at_ms for answer in verdict.lost] == [1000]
    assert verdict.excused == 0


def test_rows_still_in_the_outbox_are_waiting_and_not_counted_twice() -> None:
    verdict = judge(said((1000, 5), (6000, 6)), kept((1003, 5)), BILLED, waiting=kept((1003, 5), (6002, 6)))
    assert verdict.clean
    assert verdict.waiting == 1
