"""The log of what ingest touched, and the parts of anomaly services."""

from __future__ import annotations

import pytest

from metering.reading import Reading
from registry import watch
from registry.database import Database

NOW = 1_772_323_200_000
DAY = 86_400_000


def reading(meter: str, at: int) -> Reading:
    return Reading(meter, at, {"volume": 1})


def test_live_readings_share_a_line_and_old_ones_keep_their_own_range(database: Database) -> None:
    rows = [reading("A", NOW - 1000), reading("B", NOW - 2000)]
    rows += [reading("A", NOW - 9 * DAY), reading("A", NOW - 8 * DAY), reading("C", NOW - 3 * DAY)]
    with database.begin() as connection:
        watch.note_touched(connection, rows, NOW)
        found = watch.changes_since(connection, 0)
    assert {(line.meters, line.t0, line.t1) for line in found} == {
        (("A", "B"), NOW - 2000, NOW - 1000),
        (("A",), NOW - 9 * DAY, NOW - 8 * DAY),
        (("C",), NOW - 3 * DAY, NOW - 3 * DAY),
    }


def test_a_follower_sees_each_line_once_even_below_its_newest(database: Database) -> None:
    with database.begin() as connection:
        for step in range(3):
            watch.note_touched(connection, [reading(f"M{step}", NOW + step)], NOW + step)
        numbers = [line.number for line in watch.changes_since(connection, 0)]
        assert watch.last_number(connection) == numbers[-1]
        missed = watch.changes_since(connection, numbers[0] - 1, {numbers[0], numbers[2]})
    assert [line.meters for line in missed] == [("M1",)]


def test_the_log_is_kept_for_an_hour_and_no_number_comes_again(database: Database) -> None:
    with database.begin() as connection:
        watch.note_touched(connection, [reading("A", NOW)], NOW)
        first = watch.last_number(connection)
        watch.note_touched(connection, [reading("B", NOW)], NOW + watch.KEEP_MS + 1)
        left = watch.changes_since(connection, 0)
    assert [line.meters for line in left] == [("B",)]
    assert left[0].number > first


def test_a_part_has_one_holder_and_an_old_token_saves_nothing(database: Database) -> None:
    with database.begin() as connection:
        old = watch.claim(connection, "one", [1, 2], now=NOW, lease_ms=30_000)
        tokens = {part: known.token for part, known in old.items()}
        watch.save_progress(connection, "one", tokens, expires_at=NOW + 30_000, judged_at=NOW, log=7)
        with pytest.raises(watch.PartTakenError, match="part 2 of the city is judged by one"):
            watch.claim(connection, "two", [2, 3], now=NOW + 1, lease_ms=30_000)
        taken = watch.claim(connection, "two", [2], now=NOW + 30_001, lease_ms=30_000)
        assert taken[2] == watch.Progress(tokens[2] + 1, NOW, 7)
        with pytest.raises(watch.PartTakenError):
            watch.save_progress(connection, "one", tokens, expires_at=NOW + 90_000)
        watch.release(connection, "two", {2: taken[2].token})
        assert watch.claim(connection, "one", [2], now=NOW + 30_002, lease_ms=30_000)[2].token == tokens[2] + 2


def test_what_the_rules_remember_comes_back_by_part(database: Database) -> None:
    with database.begin() as connection:
        watch.save_memory(connection, {"a": (1, {"held_s": 5}), "b": (2, {"held_s": 6})})
        watch.save_memory(connection, {"a": (1, {"held_s": 7})})
        assert watch.load_memory(connection, [1]) == {"a": {"held_s": 7}}
        watch.forget_memory(connection, ["a"])
        assert watch.load_memory(connection, [1, 2]) == {"b": {"held_s": 6}}
