"""The outbox loses nothing that it promised to keep, whatever happens to process, disk and file."""

from __future__ import annotations

import asyncio
import os
import random
import resource
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import pytest

from gateway.outbox import Outbox
from gateway.outbox_file import OutboxTaken, waiting_rows
from metering.clock import SystemClock
from metering.errors import OutboxError
from metering.reading import Event, Reading, Row

_ROOT = Path(__file__).parents[2]
_DECODE = msgspec.json.Decoder(Row).decode
_ROWS = msgspec.json.Decoder(list[Row]).decode


@asynccontextmanager
async def _open(path: Path, *, gateway: str = "gw", memory_rows: int = 1000) -> AsyncIterator[Outbox]:
    outbox = Outbox(
        path,
        gateway=gateway,
        clock=SystemClock(),
        rng=random.Random(time.time_ns()),
        memory_rows=memory_rows,
        commit_interval_s=0.0,
    )
    await outbox.open()
    try:
        yield outbox
    finally:
        await outbox.close()


def _rows(start: int, count: int) -> list[Row]:
    return [Reading(f"m-{n}", 1_772_323_200_000 + n, {"volume": n * 1_000_000}) for n in range(start, start + count)]


async def _all(outbox: Outbox) -> list[Row]:
    found: list[Row] = []
    for low, high in list(outbox.held):
        at = low
        while at <= high:
            count, part = await outbox.read(at, high, 64 * 1024)
            assert count, "held rows can be read"
            rows = _ROWS(b"[" + part + b"]")
            assert len(rows) == count
            found += rows
            at += count
    return found


def _meters(rows: list[Row]) -> set[str]:
    return {row.meter for row in rows if isinstance(row, Reading)}


async def _until(condition: Callable[[], bool], deadline_s: float = 60.0) -> None:
    end = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < end, "did not happen in time"
        await asyncio.sleep(0.01)


def test_rows_come_back_in_order_with_gapless_numbers_also_after_a_restart(tmp_path: Path) -> None:
    async def scenario() -> None:
        path = tmp_path / "outbox.sqlite"
        async with _open(path) as outbox:
            epoch = outbox.epoch
            await outbox.append(_rows(0, 700))
            await outbox.append(_rows(700, 3))
            assert (outbox.oldest, outbox.produced) == (1, 703)
        async with _open(path) as outbox:
            assert (outbox.epoch, outbox.oldest, outbox.next) == (epoch, 1, 704)
            await outbox.append(_rows(703, 1))
            assert await _all(outbox) == _rows(0, 704)
            count, rows = await outbox.read(499, 502, 10**6)
            assert count == 4
            assert _ROWS(b"[" + rows + b"]") == _rows(498, 4), "over a chunk border"
            count, rows = await outbox.read(1, 704, 300)
            assert 1 <= count < 6
            assert len(rows) <= 300, "the size is kept"
            assert (await outbox.read(1, 704, 1))[0] == 1, "at least one row"

    asyncio.run(scenario())


def test_an_emptied_outbox_goes_on_with_its_numbers(tmp_path: Path) -> None:
    async def scenario() -> None:
        path = tmp_path / "outbox.sqlite"
        async with _open(path) as outbox:
            await outbox.append(_rows(0, 10))
            outbox.acknowledge([(1, 10)])
            assert (outbox.oldest, outbox.next, outbox.oldest_at) == (11, 11, None)
        async with _open(path) as outbox:
            assert (outbox.oldest, outbox.next) == (11, 11)
            await outbox.append(_rows(10, 1))
            assert list(outbox.held) == [(11, 11)]
        with sqlite3.connect(path) as db:
            assert db.execute("SELECT count(*) FROM chunk").fetchone() == (1,), "acknowledged rows have left the disk"
        db.close()

    asyncio.run(scenario())


def test_only_what_is_acknowledged_leaves_and_missing_rows_stay(tmp_path: Path) -> None:
    async def scenario() -> None:
        path = tmp_path / "outbox.sqlite"
        async with _open(path) as outbox:
            for n in range(6):
                await outbox.append(_rows(n * 10, 10))
            outbox.acknowledge([(1, 14), (21, 40)])
            await _until(lambda: outbox.counters["commits"] >= 7)
            assert list(outbox.held) == [(15, 20), (41, 60)]
            assert outbox.oldest == 15
        async with _open(path) as outbox:
            meters = _meters(await _all(outbox))
            assert meters == {f"m-{n}" for n in [*range(14, 20), *range(40, 60)]}
            assert {_DECODE(row).meter for row in waiting_rows(path)} >= meters, "a tool beside the owner reads them"
            outbox.acknowledge([(15, 20), (41, 60)])
        async with _open(path) as outbox:
            assert list(outbox.held) == []

    asyncio.run(scenario())


def test_two_processes_cannot_own_one_outbox(tmp_path: Path) -> None:
    async def scenario() -> None:
        path = tmp_path / "outbox.sqlite"
        async with _open(path) as outbox:
            await outbox.append(_rows(0, 1))
            with pytest.raises(OutboxTaken, match="another gateway process"):
                async with _open(path):
                    pass
        with pytest.raises(OutboxTaken, match="belongs to gateway gw"):
            async with _open(path, gateway="other"):
                pass
        async with _open(path) as outbox:
            assert len(await _all(outbox)) == 1

    asyncio.run(scenario())


def test_a_new_epoch_keeps_the_rows_and_remembers_the_old_name(tmp_path: Path) -> None:
    async def scenario() -> None:
        path = tmp_path / "outbox.sqlite"
        async with _open(path) as outbox:
            told: list[str] = []
            outbox.on_epoch = lambda: told.append(outbox.epoch)
            await outbox.append(_rows(0, 5))
            old = outbox.epoch
            await outbox.start_epoch()
            assert told == [outbox.epoch]
            assert outbox.epoch != old
            assert outbox.past_epochs() == {old}
        async with _open(path) as outbox:
            assert told == [outbox.epoch]
            assert outbox.past_epochs() == {old}
            assert await _all(outbox) == _rows(0, 5)

    asyncio.run(scenario())


def test_what_append_returned_for_survives_kill_9_at_any_moment(tmp_path: Path) -> None:
    path = tmp_path / "outbox.sqlite"
    rng = random.Random(5)
    promised: list[str] = []
    acknowledged = 0
    for round_number in range(6):
        command = [sys.executable, "-m", "tests.gateway.outbox_writer", str(path), f"r{round_number}"]
        writer = subprocess.Popen(command, stdout=subprocess.PIPE, cwd=_ROOT)
        assert writer.stdout is not None
        first_line = writer.stdout.readline()
        assert first_line.startswith(b"epoch ")
        promised += [writer.stdout.readline().decode().strip() for _ in range(20)]  # it is in the middle of it
        time.sleep(rng.uniform(0.0, 0.15))
        writer.send_signal(signal.SIGKILL)
        said = writer.stdout.read()
        writer.wait()
        writer.stdout.close()
        promised += said[: said.rfind(b"\n") + 1].decode().split()
    assert len(promised) > 100, "the writers did write"

    async def read() -> tuple[set[str], int, int]:
        async with _open(path) as outbox:
            rows = await _all(outbox)
            assert outbox.held.count == len(rows)
            return _meters(rows), outbox.oldest, outbox.produced

    kept, oldest, produced = asyncio.run(read())
    acknowledged = oldest - 1
    missing = [name for name in promised if name not in kept]
    assert len(missing) <= acknowledged, "only acknowledged rows are gone"
    assert missing == promised[: len(missing)], "and those are the oldest"
    assert produced >= len(promised)


def test_a_full_disk_keeps_rows_in_memory_says_so_and_catches_up(tmp_path: Path) -> None:
    async def scenario() -> None:
        path = tmp_path / "outbox.sqlite"
        async with _open(path, memory_rows=300) as outbox:
            await outbox.append(_rows(0, 50))
            before = resource.getrlimit(resource.RLIMIT_FSIZE)
            log = path.with_name(path.name + "-wal").stat().st_size
            resource.setrlimit(resource.RLIMIT_FSIZE, (max(log, path.stat().st_size), before[1]))
            try:
                taken = sum(outbox.put(row) for row in _rows(50, 400))
                await _until(lambda: outbox.state == "full")
                assert 0.5 < outbox.pressure <= 1.0
                assert outbox.reason
                while outbox.put(_rows(50 + taken, 1)[0]):
                    taken += 1
                assert outbox.pressure == 1.0
                assert outbox.in_memory == 300
                with pytest.raises(OutboxError):
                    await outbox.append(_rows(0, 1))
                assert _meters(await _all(outbox)) >= {f"m-{n}" for n in range(50)}, "the disk still reads"
            finally:
                resource.setrlimit(resource.RLIMIT_FSIZE, before)
            await _until(lambda: outbox.in_memory == 0)
            assert (str(outbox.state), outbox.pressure) == ("ok", 0.0)
            assert await _all(outbox) == _rows(0, 50 + taken), "each once, in order"

    asyncio.run(scenario())


def test_a_disk_that_is_full_at_the_start_does_not_stop_the_gateway(tmp_path: Path) -> None:
    async def scenario() -> None:
        folder = tmp_path / "later"
        folder.write_text("a file stands where the folder should be: it can be made only when it is gone")
        path = folder / "outbox.sqlite"
        async with _open(path) as outbox:
            assert outbox.state == "full"
            assert outbox.put(_rows(0, 1)[0])
            folder.unlink()
            await _until(lambda: outbox.in_memory == 0)
            assert await _all(outbox) == _rows(0, 1)
            assert str(outbox.state) == "ok"

    asyncio.run(scenario())


def _fill(path: Path, rows: int = 3000) -> str:
    async def scenario() -> str:
        async with _open(path, memory_rows=10_000) as outbox:
            for start in range(0, rows, 10):
                await outbox.append(_rows(start, 10))
            return outbox.epoch

    return asyncio.run(scenario())


def _cut_in_half(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


def _overwrite_head(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(b"\xa5" * 4096)


def _overwrite_middle(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2 // 4096 * 4096)
        file.write(b"\x00" * 40_000)


def _empty(path: Path) -> None:
    os.truncate(path, 0)


@pytest.mark.parametrize(
    ("harm", "least"), [(_cut_in_half, 1000), (_overwrite_head, 2500), (_overwrite_middle, 2000)]
)
def test_a_damaged_file_is_set_aside_its_readable_rows_saved_and_work_goes_on(
    tmp_path: Path, harm: Callable[[Path], None], least: int
) -> None:
    path = tmp_path / "outbox.sqlite"
    epoch = _fill(path)
    harm(path)
    harmed = path.read_bytes()

    async def scenario() -> None:
        async with _open(path) as outbox:
            assert outbox.epoch != epoch
            await _until(lambda: outbox.in_memory == 0)
            await outbox.append(_rows(9000, 1))
            rows = await _all(outbox)
            saved = _meters(rows) - {"m-9000"}
            assert len(saved) >= least
            assert {repr(row) for row in rows[: len(saved)]} <= {repr(row) for row in _rows(0, 3000)}
            assert [row.kind for row in rows if isinstance(row, Event)] == ["outbox_damaged"]
            assert "m-9000" in _meters(rows)
            assert "rows were saved" in outbox.reason

    asyncio.run(scenario())
    (aside,) = [found for found in tmp_path.glob("*.damaged-*") if not found.name.endswith(("-wal", "-shm"))]
    assert aside.read_bytes() == harmed, "the damaged file is kept as it was found"


def test_an_emptied_file_starts_anew_with_another_epoch(tmp_path: Path) -> None:
    path = tmp_path / "outbox.sqlite"
    epoch = _fill(path, 30)
    _empty(path)

    async def scenario() -> None:
        async with _open(path) as outbox:
            assert outbox.epoch != epoch
            await outbox.append(_rows(0, 1))
            assert (await _all(outbox))[-1] == _rows(0, 1)[0]

    asyncio.run(scenario())


@pytest.mark.parametrize("harm", [_cut_in_half, _overwrite_middle, Path.unlink])
def test_damage_while_running_is_noticed_and_repaired(tmp_path: Path, harm: Callable[[Path], None]) -> None:
    path = tmp_path / "outbox.sqlite"
    _fill(path)

    async def scenario() -> None:
        async with _open(path, memory_rows=10_000) as outbox:
            epoch = outbox.epoch
            harm(path)
            for number in range(200):
                await outbox.append(_rows(3000 + number, 1))
                if outbox.epoch != epoch:
                    break
                if number % 10 == 0:
                    try:
                        await _all(outbox)
                    except OutboxError:
                        await asyncio.sleep(0.05)
            assert outbox.counters["damaged"] == 1
            await outbox.append(_rows(9000, 1))
            rows = await _all(outbox)
            fresh = {f"m-{n}" for n in range(3000, 3001 + number)} | {"m-9000"}
            assert _meters(rows) >= fresh, "what was appended around the damage is all there"
            assert len(_meters(rows)) > 1000
            assert any(isinstance(row, Event) and row.kind == "outbox_damaged" for row in rows)

    asyncio.run(scenario())


def test_what_is_not_committed_yet_is_known_for_the_one_who_kills(tmp_path: Path) -> None:
    async def scenario() -> None:
        async with _open(tmp_path / "outbox.sqlite") as outbox:
            row = _rows(0, 1)[0]
            assert outbox.put(row)
            assert outbox.uncommitted() == (row,)
            await _until(lambda: outbox.in_memory == 0)
            assert outbox.uncommitted() == ()

    asyncio.run(scenario())
