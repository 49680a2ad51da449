"""The health checks of containers: well, silent, never heard of, and not reachable, in one sentence each."""

from __future__ import annotations

import asyncio
import fcntl
import json
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from api.service import run_api
from ingest.service import READY_KEY
from ingest.store_sqlite import SqliteStore
from metergate import authority, health
from metergate.settings import Settings, load_settings
from metering.clock import ManualClock, SystemClock
from registry import ledger as books
from registry.database import Database

NOW = ManualClock().now_ms()


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return load_settings(
        None,
        {
            "METERGATE__REGISTRY__URL": f"sqlite:///{tmp_path / 'registry.db'}",
            "METERGATE__GATEWAY__OUTBOX": str(tmp_path / "gateway" / "outbox.db"),
            "METERGATE__API__PORT": "0",
        },
    )


def report(settings: Settings, at: int) -> None:
    """Let ingest have reported at a time."""
    with closing(Database(settings.registry.url)) as database:
        database.upgrade()
        with database.begin() as connection:
            said = json.dumps({"at": at, "problems": {"store": "away"}})
            books.set_state(connection, READY_KEY + settings.ingest.instance, said)


def test_ingest_that_reported_lately_is_well_even_when_it_waits_for_its_store(settings: Settings) -> None:
    report(settings, NOW - 15_000)
    assert health.ingest(settings, ManualClock()) == ""


def test_ingest_that_is_silent_is_not_well(settings: Settings) -> None:
    report(settings, NOW - 16_000)
    sentence = "ingest-1 has been silent for 16 s; 15 s are allowed"
    assert health.ingest(settings, ManualClock()) == sentence


def test_ingest_that_never_reported_is_not_well(settings: Settings) -> None:
    with closing(Database(settings.registry.url)) as database:
        database.upgrade()
    assert health.ingest(settings, ManualClock()) == "ingest-1 has never reported to the registry"


def test_a_registry_without_tables_is_a_sentence(settings: Settings) -> None:
    assert "cannot be asked" in health.ingest(settings, ManualClock())


def test_a_gateway_is_well_while_its_health_file_is_fresh(settings: Settings) -> None:
    folder = settings.gateway.outbox.parent
    assert "cannot be read" in health.gateway(settings, ManualClock())
    folder.mkdir()
    (folder / "health.json").write_text(json.dumps({"gateway": "gw-1", "at": NOW - 25_000}))
    assert health.gateway(settings, ManualClock()) == ""  # 5 reports of 5 s
    (folder / "health.json").write_text(json.dumps({"gateway": "gw-1", "at": NOW - 26_000}))
    sentence = "gateway gw-1 has been silent for 26 s; 25 s are allowed"
    assert health.gateway(settings, ManualClock()) == sentence


@pytest.mark.parametrize("encrypted", [False, True])
def test_the_api_is_well_when_livez_answers(settings: Settings, tmp_path: Path, encrypted: bool) -> None:
    if encrypted:
        authority.create(tmp_path / "ca", "Test", SystemClock().now_ms())
        authority.issue(tmp_path / "ca", ["metergate.example"], SystemClock().now_ms(), file="api")
        files = {"tls_cert": tmp_path / "ca" / "api.pem", "tls_key": tmp_path / "ca" / "api.key"}
        settings = settings.model_copy(update={"api": settings.api.model_copy(update=files)})

    async def scenario() -> tuple[str, str]:
        stop, address = asyncio.Event(), asyncio.get_running_loop().create_future()
        with closing(Database(settings.registry.url)) as database:
            database.upgrade()
            store = SqliteStore(tmp_path / "readings.db", mode="write")
            serving = asyncio.create_task(
                run_api(
                    settings.api,
                    database=database,
                    store=store,
                    clock=SystemClock(),
                    stop=stop,
                    on_ready=address.set_result,
                )
            )
            port = int((await address).rpartition(":")[2])
            here = settings.model_copy(update={"api": settings.api.model_copy(update={"port": port})})
            look: Callable[[], str] = lambda: health.api(here, SystemClock())  # noqa: E731 (read twice)
            while_up = await asyncio.to_thread(look)
            stop.set()
            await serving
            store.close()
            return while_up, await asyncio.to_thread(look)

    up, down = asyncio.run(scenario())
    assert up == ""
    assert down.startswith("no answer from 127.0.0.1:")


def test_the_command_answers_by_its_exit_code(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("METERGATE__GATEWAY__OUTBOX", str(tmp_path / "outbox.db"))
    assert health.main(["gateway"]) == 1
    assert "health.json cannot be read" in capsys.readouterr().err
    (tmp_path / "health.json").write_text(json.dumps({"gateway": "gw-1", "at": SystemClock().now_ms()}))
    assert health.main(["gateway"]) == 0
    assert capsys.readouterr().err == ""


def test_a_settings_file_with_a_mistake_is_not_well(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "metergate.toml"
    path.write_text("[api]\nprot = 1\n")
    assert health.main(["api", "--config", str(path)]) == 1
    assert 'did you mean "port"?' in capsys.readouterr().err


def test_the_office_is_well_while_it_holds_its_outbox(settings: Settings, tmp_path: Path) -> None:
    here = settings.model_copy(update={"office": settings.office.model_copy(update={"outbox": tmp_path / "o.db"})})
    assert "cannot be read: No such file" in health.office(here, ManualClock())
    with (tmp_path / "o.db.lock").open("wb") as lock:
        assert health.office(here, ManualClock()) == f"nobody holds {tmp_path / 'o.db.lock'}"
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        assert health.office(here, ManualClock()) == ""
