"""What the MQTT driver still knows after a restart."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from gateway.drivers.mqtt_memory import KEEP_MS, MqttMemory
from metering.clock import ManualClock
from metering.errors import OutboxError

NOW = 1_772_323_200_000
KEY = ("M-1", b"0123456789abcdef", 0)


def _memory(folder: Path) -> MqttMemory:
    return MqttMemory(folder / "memory.db", ManualClock())


async def _opened(folder: Path) -> MqttMemory:
    memory = _memory(folder)
    await memory.open()
    return memory


def test_stamps_and_counters_outlive_the_process(tmp_path: Path) -> None:
    async def scenario() -> None:
        memory = await _opened(tmp_path)
        await memory.keep_stamps({KEY: NOW})
        await memory.keep_counters({"bus/d": 7})
        again = await _opened(tmp_path)  # the first was never closed, as after kill -9
        assert again.stamps == {KEY: NOW}
        assert again.counters == {"bus/d": 7}
        await memory.close()
        await again.close()

    asyncio.run(scenario())


def test_stamps_are_forgotten_a_day_after_others_came_not_a_day_after_we_left(tmp_path: Path) -> None:
    async def scenario() -> None:
        memory = await _opened(tmp_path)
        await memory.keep_stamps({KEY: NOW})
        await memory.keep_stamps({("M-2", b"x" * 16, n): NOW + KEEP_MS - 1 + n for n in range(9_998)})
        assert KEY in memory.stamps, "9,999 stamps are not looked through"
        await memory.keep_stamps({("M-3", b"y" * 16, 0): NOW + KEEP_MS + 9_999})
        assert KEY not in memory.stamps
        again = await _opened(tmp_path)
        assert again.stamps == memory.stamps
        await memory.close()
        await again.close()

    asyncio.run(scenario())


def test_a_damaged_file_is_set_aside_and_a_new_one_begun(tmp_path: Path) -> None:
    (tmp_path / "memory.db").write_bytes(b"this is no database, however long one looks at it" * 100)

    async def scenario() -> None:
        memory = await _opened(tmp_path)
        await memory.keep_counters({"bus/d": 7})
        await memory.close()

    asyncio.run(scenario())
    assert [path.name for path in tmp_path.glob("*.damaged-*")] == ["memory.db.damaged-1772323200000"]


def test_a_disk_that_refuses_is_said_and_nothing_is_remembered(tmp_path: Path) -> None:
    async def scenario() -> None:
        memory = await _opened(tmp_path)
        await memory.close()
        closed = _memory(tmp_path)
        with pytest.raises(OutboxError, match="is not open"):
            await closed.keep_stamps({KEY: NOW})
        assert closed.stamps == {}
        await closed.close()

    asyncio.run(scenario())
