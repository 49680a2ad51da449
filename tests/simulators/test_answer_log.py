"""The answer log: the judge must itself survive crashes."""

from __future__ import annotations

from pathlib import Path

import pytest

from simulators.answer_log import Answer, AnswerLog, NoAnswerLog, asked_columns, read_answers

ASKED = asked_columns("G 1", 7, 3, 10, 20)


def _written(path: Path, count: int) -> None:
    log = AnswerLog(path)
    for n in range(count):
        log.add(1_000 + n, ASKED, n * 10)
    log.close()


def test_answers_come_back_as_they_were_written(tmp_path: Path) -> None:
    log = AnswerLog(tmp_path / "a.tsv")
    log.add(1_772_323_200_000, ASKED, 123_450_000)
    log.add(1_772_323_200_001, ASKED, None, "cut")
    log.close()
    log.close()
    assert list(read_answers(tmp_path / "a.tsv")) == [
        Answer(1, 1_772_323_200_000, "G 1", 7, 3, 10, 20, 123_450_000, "ok"),
        Answer(2, 1_772_323_200_001, "G 1", 7, 3, 10, 20, None, "cut"),
    ]


def test_log_cut_at_every_byte_of_its_last_line_loses_only_that_line(tmp_path: Path) -> None:
    whole = tmp_path / "whole.tsv"
    _written(whole, 3)
    text = whole.read_bytes()
    last_line = text.rindex(b"\n", 0, -1) + 1
    for cut in range(last_line, len(text)):
        path = tmp_path / "cut.tsv"
        path.write_bytes(text[:cut])
        assert [a.number for a in read_answers(path)] == [1, 2]
        _written(path, 1)  # the next farm goes on behind the cut
        assert [(a.number, a.index) for a in read_answers(path)] == [(1, 0), (2, 10), (3, 0)]


def test_numbers_go_on_after_a_restart(tmp_path: Path) -> None:
    _written(tmp_path / "a.tsv", 2)
    _written(tmp_path / "a.tsv", 2)
    assert [a.number for a in read_answers(tmp_path / "a.tsv")] == [1, 2, 3, 4]


def test_log_that_was_cut_inside_its_header_starts_anew(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_bytes(b"# meterg")
    _written(tmp_path / "a.tsv", 1)
    assert [a.number for a in read_answers(tmp_path / "a.tsv")] == [1]


def test_answers_are_readable_while_the_farm_still_writes(tmp_path: Path) -> None:
    log = AnswerLog(tmp_path / "a.tsv")
    log.add(1, ASKED, 5)
    assert list(read_answers(tmp_path / "a.tsv")) == []
    log.flush()
    assert [a.index for a in read_answers(tmp_path / "a.tsv")] == [5]
    log.close()


def test_many_lines_reach_the_file_without_waiting_for_the_timer(tmp_path: Path) -> None:
    log = AnswerLog(tmp_path / "a.tsv")
    for n in range(10_000):
        log.add(n, ASKED, n)
    assert len(list(read_answers(tmp_path / "a.tsv"))) == 8_192  # two blocks of 4,096
    log.close()
    assert len(list(read_answers(tmp_path / "a.tsv"))) == 10_000


def test_a_foreign_file_is_refused_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "a.tsv").write_text("# x\nhello\n")
    with pytest.raises(ValueError, match=r"a\.tsv line 2.*hello"):
        list(read_answers(tmp_path / "a.tsv"))
    with pytest.raises(ValueError, match="last line"):
        AnswerLog(tmp_path / "a.tsv")


def test_switched_off_log_keeps_nothing_and_complains_about_nothing() -> None:
    log = NoAnswerLog()
    log.add(1, ASKED, 5)
    log.flush()
    log.close()
