"""No secret prints: every secret field, and every URL that carries a password, in force or in a complaint."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import BaseModel, SecretStr

from metergate.settings import Settings, load_settings, redacted
from metering.errors import SettingsError
from metering.settings import without_password

SECRET = "hunter2-Ω/@:x"
URLS = {
    "METERGATE__REGISTRY__URL": "postgresql+psycopg://metergate:{}@127.0.0.1:5432/metergate",
    "METERGATE__STORE__INFLUXDB__URL": "http://writer:{}@127.0.0.1:8086",
}


def secret_fields(model: type[BaseModel] = Settings, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for key, info in model.model_fields.items():
        if info.annotation is SecretStr:
            yield (*path, key)
        elif isinstance(info.annotation, type) and issubclass(info.annotation, BaseModel):
            yield from secret_fields(info.annotation, (*path, key))


def test_there_are_secrets_to_hide() -> None:
    found = set(secret_fields())
    assert {("broker", "password"), ("field_broker", "password"), ("store", "influxdb", "token")} <= found


@pytest.mark.parametrize("path", list(secret_fields()), ids=".".join)
def test_a_secret_from_a_file_is_read_and_never_printed(path: tuple[str, ...], tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_text(SECRET + "\n", "utf-8")
    name = "METERGATE__" + "__".join(path).upper() + "_FILE"
    settings = load_settings(None, {name: str(file)})
    value: object = settings
    for part in path:
        value = getattr(value, part)
    assert isinstance(value, SecretStr)
    assert value.get_secret_value() == SECRET
    shown: object = redacted(settings)
    for part in path:
        assert isinstance(shown, dict)
        shown = shown[part]
    assert shown == "(hidden)"
    assert SECRET not in json.dumps(redacted(settings), ensure_ascii=False) + repr(settings) + str(settings)


@pytest.mark.parametrize("name", URLS)
@pytest.mark.parametrize("password", ["hunter2", "p@ss:w%2Ford", "a:b@c@d"])
def test_a_url_with_a_password_is_shown_without_it(name: str, password: str) -> None:
    settings = load_settings(None, {name: URLS[name].format(password)})
    text = json.dumps(redacted(settings))
    assert password not in text
    assert ":(hidden)@127.0.0.1" in text


def test_a_complaint_about_a_url_does_not_show_its_password() -> None:
    with pytest.raises(SettingsError) as refused:
        load_settings(None, {"METERGATE__STORE__INFLUXDB__URL": "http://u:hunter2@127.0.0.1:8086?x=1"})
    assert "hunter2" not in str(refused.value)
    assert "(hidden)" in str(refused.value)


def test_the_command_prints_none_of_them(tmp_path: Path) -> None:
    """As systemd gives them: files below $CREDENTIALS_DIRECTORY."""
    (tmp_path / "broker").write_text("hunter2\n")
    (tmp_path / "url").write_text(URLS["METERGATE__REGISTRY__URL"].format("hunter3"))
    env = {
        **os.environ,
        "CREDENTIALS_DIRECTORY": str(tmp_path),
        "METERGATE__BROKER__PASSWORD_FILE": f"{tmp_path}/broker",
        "METERGATE__REGISTRY__URL_FILE": f"{tmp_path}/url",
    }
    command = [sys.executable, "-m", "metergate", "check", "--redacted"]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["broker"]["password"] == "(hidden)"
    assert "hunter" not in done.stdout + done.stderr


@pytest.mark.parametrize(
    "text", ["http://127.0.0.1:8086", "sqlite:///var/registry.db", "mg/v1/+/x", "a:b@c", "postgresql://u@h:5432/db"]
)
def test_texts_without_a_password_stay_as_they_are(text: str) -> None:
    assert without_password(text) == text
