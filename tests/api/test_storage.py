"""Sizes and how long the disk lasts: worked by hand, honest where nobody can tell."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from api.storage import DAY_MS, SAMPLE_S, STATE_KEY, Sizes, forecast, keep, measure, run_sampling, samples
from ingest.store_sqlite import SqliteStore
from metering.clock import ManualClock
from registry.database import Database
from registry.ledger import set_state
from tests.api.world import T0, World

GB = 10**9
NOW = Sizes(T0 + 10 * DAY_MS, 3 * GB, 30 * GB, 40 * GB, 40 * GB, True)


def test_two_on_one_disk_fill_it_together() -> None:
    # in ten days the registry grew by 1 GB and the store by 10 GB: 1.1 GB a day, 40 GB are left
    found = forecast([Sizes(T0, 2 * GB, 20 * GB)], NOW)
    assert (found["registry"].growth, found["store"].growth) == (GB / 10, GB)
    assert found["registry"].days == pytest.approx(40 / 1.1)
    assert found["store"].days == pytest.approx(40 / 1.1)


def test_on_disks_of_their_own_each_lasts_by_itself() -> None:
    found = forecast([Sizes(T0, 2 * GB, 20 * GB)], replace(NOW, same_disk=False, registry_free=10 * GB))
    assert (found["registry"].days, found["store"].days) == (100.0, 40.0)


def test_what_is_not_known_is_not_said() -> None:
    young = forecast([Sizes(NOW.at - DAY_MS, 2 * GB, 20 * GB)], NOW)
    assert (young["store"].growth, young["store"].days, young["store"].over_days) == (None, None, 1.0)
    assert forecast([], NOW)["registry"].growth is None
    elsewhere = forecast([Sizes(T0, 2 * GB)], Sizes(NOW.at, 3 * GB))
    assert (elsewhere["registry"].growth, elsewhere["registry"].days) == (GB / 10, None)
    assert (elsewhere["store"].size, elsewhere["store"].growth, elsewhere["store"].days) == (None, None, None)


def test_what_shrinks_or_rests_never_fills_a_disk() -> None:
    found = forecast([Sizes(T0, 3 * GB, 30 * GB)], NOW)
    assert (found["store"].growth, found["store"].days) == (0.0, None)
    shrinking = forecast([Sizes(T0, 3 * GB, 40 * GB)], replace(NOW, same_disk=False))
    assert (shrinking["store"].growth, shrinking["store"].days) == (-GB, None)


def test_only_the_last_thirty_days_count() -> None:
    late = replace(NOW, at=T0 + 60 * DAY_MS)
    history = [Sizes(T0, 0, 0), Sizes(T0 + 40 * DAY_MS, 1 * GB, 10 * GB)]
    assert forecast(history, late)["store"].growth == GB  # 20 GB in 20 days


def test_one_sample_a_day_is_kept_for_ninety_days(world: World) -> None:
    with world.database.begin() as connection:
        for hour in range(24 * 100):
            if hour % 6 == 0:
                keep(connection, Sizes(T0 + hour * 3_600_000, hour, hour))
        kept = samples(connection)
        assert len(kept) == 90
        assert kept[-1].registry == 24 * 99 + 18
        assert [kept[0].at // DAY_MS, kept[-1].at // DAY_MS] == [T0 // DAY_MS + 10, T0 // DAY_MS + 99]
        for spoilt in ("{", '[{"at": 1, "colour": 2}]', '"x"', "[1]"):
            set_state(connection, STATE_KEY, spoilt)
            assert samples(connection) == []


def test_files_are_measured_with_what_lies_beside_them(tmp_path: Path) -> None:
    database = Database(f"sqlite:///{tmp_path / 'registry.db'}")
    database.upgrade()
    (tmp_path / "readings.db").write_bytes(b"x" * 1000)
    (tmp_path / "readings.db-wal").write_bytes(b"x" * 500)
    store = SqliteStore(tmp_path / "readings.db", mode="read")
    with database.read() as connection:
        found = measure(connection, database, store, T0)
    assert found.store == 1500
    assert found.registry == (tmp_path / "registry.db").stat().st_size
    assert found.same_disk
    assert found.registry_free
    database.close()


def test_sampling_begins_at_once_and_goes_on_each_hour(world: World) -> None:
    async def scenario() -> None:
        clock = ManualClock(T0)
        task = asyncio.create_task(run_sampling(world.database, world.store, clock))

        def kept() -> list[Sizes]:
            with world.database.read() as connection:
                return samples(connection)

        for _ in range(2000):
            if kept():
                break
            await asyncio.sleep(0.01)
        assert [sample.at for sample in kept()] == [T0]
        for _ in range(23):
            await clock.advance(SAMPLE_S)
            for _ in range(500):
                if kept()[-1].at > T0:
                    break
                await asyncio.sleep(0.01)
            if kept()[-1].at > T0:
                break
        assert len(kept()) == 1  # of one day
        assert kept()[0].at > T0
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(scenario())
