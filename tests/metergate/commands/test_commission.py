"""Commissioning in one go: nothing is written before the meter answered and its index was accepted; then all is."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from typer.testing import CliRunner, Result

from metergate.__main__ import build
from metering.clock import SystemClock
from registry.books import import_meters
from registry.database import Database
from registry.models import Installation, Meter
from registry.models_access import AuditRecord
from tests.gateway.drivers.buses import farm_of

ADDRESS = "00000805000009"


@contextmanager
def _box(fault: str = "", **bus: Any) -> Iterator[str]:
    """A serial-to-TCP box with one water meter that stands at 1234.56 m³ behind it, in a thread of its own."""
    meter: dict[str, Any] = {
        "meter": "W-9", "profile": "water-cjt188", "address": ADDRESS, "curve": "rest", "start_index": 1_234_560_000,
    }  # fmt: skip
    if fault:
        meter["fault"] = {"kind": fault}
    place: list[str] = []
    ready, end = threading.Event(), threading.Event()

    async def serve() -> None:
        farm = farm_of(SystemClock(), {"name": "b", "kind": "tcp", "pace": False, "meter": [meter], **bus})
        await farm.start()
        place.append(farm.path("b"))
        ready.set()
        while not end.is_set():
            await asyncio.sleep(0.02)
        await farm.close()

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    assert ready.wait(90)
    try:
        yield place[0]
    finally:
        end.set()
        thread.join(90)


@pytest.fixture
def books(tmp_path: Path) -> Iterator[Database]:
    database = Database(f"sqlite:///{tmp_path}/registry.db")
    database.upgrade()
    (tmp_path / "settings.toml").write_text(f'[registry]\nurl = "sqlite:///{tmp_path}/registry.db"\n')
    yield database
    database.close()


def _prepare(database: Database, place: str) -> None:
    host, _, port = place.rpartition(":")
    rows = (
        "meter_id,medium,usage_point,profile,gateway,bus,bus_kind,host,port,address,interval_s,state\n"
        f"W-1,water,UP-1,water-cjt188,gw,box,serial-tcp:2400-8E1,{host},{port},00000805000001,60,in_service\n"
    )
    with database.begin() as connection:
        assert import_meters(connection, rows).bad == []
        connection.execute(
            sa.text(
                "insert into usage_point (id, medium, customer_class, district, tz, address, "
                "account_number) values ('UP-9', 'water', '', '', 'UTC', '', '')"
            )
        )


def _call(*words: str, answer: str = "") -> Result:
    return CliRunner().invoke(build(), list(words), input=answer)


def _commission(folder: Path, *words: str, answer: str = "", usage_point: str = "UP-9") -> Result:
    where = ["--usage-point", usage_point, "--gateway", "gw", "--bus", "box", "--address", ADDRESS]
    what = ["--meter", "W-9", "--profile", "water-cjt188", "--interval-s", "600"]
    return _call("commission", "--config", str(folder / "settings.toml"), *where, *what, *words, answer=answer)


def _written(database: Database) -> tuple[int, int, int]:
    with database.read() as connection:
        return (
            len(connection.execute(sa.select(Meter.id).where(Meter.id == "W-9")).all()),
            len(connection.execute(sa.select(Installation.id).where(Installation.meter_id == "W-9")).all()),
            len(connection.execute(sa.select(AuditRecord.number)).all()),
        )


@pytest.mark.parametrize("how", ["accept", "confirmed", "dial"])
def test_a_meter_that_answers_is_read_and_put_into_service(tmp_path: Path, books: Database, how: str) -> None:
    words = {"accept": ["--accept"], "confirmed": [], "dial": ["--start-index", "1234.5"]}[how]
    with _box() as place:
        _prepare(books, place)
        said = _commission(tmp_path, *words, answer="y\n")
    assert said.exit_code == 0, said.stderr
    assert json.loads(said.stdout.splitlines()[0])["values"]["volume"]["value"] == "1234.56"
    with books.read() as connection:
        meter = connection.execute(sa.select(Meter.__table__).where(Meter.id == "W-9")).mappings().one()
        stay = (
            connection.execute(sa.select(Installation.__table__).where(Installation.meter_id == "W-9"))
            .mappings()
            .one()
        )
    assert (meter["state"], meter["address"], meter["interval_s"]) == ("in_service", ADDRESS, 600)
    assert meter["commissioned_at"] == stay["installed_at"] > 1_700_000_000_000
    assert (stay["usage_point_id"], stay["start_index"]) == ("UP-9", 1_234_560_000)
    assert _written(books) == (1, 1, 1)
    assert "is in_service already" in _commission(tmp_path, "--accept").stderr


@pytest.mark.parametrize(
    ("fault", "words", "answer", "why"),
    [
        ("silent", ["--accept"], "", "no answer"),
        ("", [], "n\n", "nothing is written"),
        ("", ["--start-index", "99.0"], "", "another meter, address or scale"),
        ("", ["--accept", "--tolerance", "x"], "", "--tolerance"),
    ],
)
def test_nothing_is_half_done(
    tmp_path: Path, books: Database, fault: str, words: list[str], answer: str, why: str
) -> None:
    with _box(fault) as place:
        _prepare(books, place)
        said = _commission(tmp_path, *words, answer=answer)
    assert said.exit_code != 0
    assert why in said.stderr
    assert "Traceback" not in said.stderr
    assert _written(books) == (0, 0, 0)


def test_a_usage_point_that_is_taken_or_unknown_undoes_all(tmp_path: Path, books: Database) -> None:
    with _box() as place:
        _prepare(books, place)
        for usage_point in ("UP-1", "UP-none"):
            said = _commission(tmp_path, "--accept", usage_point=usage_point)
            assert (said.exit_code, usage_point in said.stderr) == (1, True)
    assert _written(books) == (0, 0, 0)


def test_poll_once_reads_a_meter_behind_a_box_without_a_plan() -> None:
    with _box() as place:
        words = ("poll", "--once", "--tcp", place, "--address", ADDRESS)
        said = _call(*words, "--profile", "water-cjt188")
        assert said.exit_code == 0, said.stderr
        assert json.loads(said.stdout)["values"]["volume"] == {"value": "1234.56", "unit": "m3"}
        wrong = _call(*words, "--protocol", "mbus")
        assert (wrong.exit_code, "address" in wrong.stderr) == (2, True)
        nowhere = _call("poll", "--once", "--tcp", "box", "--profile", "water-cjt188")
        assert (nowhere.exit_code, "HOST:PORT is needed" in nowhere.stderr) == (2, True)


def test_poll_once_reads_a_meter_on_a_serial_port_without_a_plan(tmp_path: Path) -> None:
    with _box(kind="pty", link=tmp_path / "tty") as place:
        words = ("poll", "--once", "--serial", place, "--line", "2400-8E1", "--address", ADDRESS)
        said = _call(*words, "--profile", "water-cjt188")
    assert said.exit_code == 0, said.stderr
    assert json.loads(said.stdout)["values"]["volume"]["value"] == "1234.56"
