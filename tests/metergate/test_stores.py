"""The settings' word for a store becomes that store, and `check` says what is worth a second thought."""

from __future__ import annotations

from pathlib import Path

from ingest.settings import StoreSettings
from ingest.store_influx import InfluxStore
from ingest.store_sqlite import SqliteStore
from metergate.commands.check import notes
from metergate.settings import Settings, load_settings
from metergate.stores import make_store
from metering.clock import SystemClock


def settings_of(folder: Path, text: str) -> Settings:
    path = folder / "metergate.toml"
    path.write_text(text, "utf-8")
    return load_settings(path, {"METERGATE__STORE__INFLUXDB__PASSWORD": "secret"})


def test_the_settings_choose_the_store(tmp_path: Path) -> None:
    embedded = make_store(StoreSettings(path=tmp_path / "new" / "readings.db"), "write", SystemClock())
    assert isinstance(embedded, SqliteStore)
    embedded.close()
    server = make_store(StoreSettings(kind="influxdb"), "read", SystemClock())  # it opens nothing yet
    assert isinstance(server, InfluxStore)
    server.close()


def test_secrets_of_the_store_come_by_the_environment_and_do_not_print(tmp_path: Path) -> None:
    settings = settings_of(tmp_path, '[store]\nkind = "influxdb"\n[store.influxdb]\nusername = "ingest"\n')
    assert settings.store.influxdb.password.get_secret_value() == "secret"
    assert "secret" not in repr(settings)
    assert notes(settings) == []


def test_check_tells_what_does_not_fit_together(tmp_path: Path) -> None:
    text = '[ingest]\nsharing = "lease"\nparts = [1]\n'
    assert [note.split(",")[0] for note in notes(settings_of(tmp_path, text))] == [
        "ingest.sharing is lease",
        "ingest.parts does nothing while ingest.sharing is lease",
    ]
    text = '[store]\nkind = "influxdb"\n[store.influxdb]\nwire = "v2"\nurl = "http://influx.city:8086"\n'
    found = notes(settings_of(tmp_path, text + "read_back_rows = 0\n"))
    assert ["needs store.influxdb.token" in found[0], "use https" in found[1], "unnoticed" in found[2]] == [True] * 3
