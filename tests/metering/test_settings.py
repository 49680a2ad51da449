"""Settings: every mistake answered at once, with line, value, what is allowed and the nearest spelling."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest
from pydantic import Field, SecretStr

from metering import settings
from metering.errors import SettingsError
from metering.settings import SettingsModel


class Broker(SettingsModel):
    host: str = "127.0.0.1"
    port: int = Field(1883, ge=1, le=65535)
    kind: Literal["auto", "five"] = "auto"
    password: SecretStr = SecretStr("")


class Line(SettingsModel):
    name: str
    speed: int = Field(9600, gt=0)


class House(SettingsModel):
    broker: Broker = Broker()
    interval_s: float = Field(5.0, gt=0, le=86400)
    folder: Path = Path("var")
    line: tuple[Line, ...] = ()


def problems(text: str, env: dict[str, str] | None = None) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        settings.parse(text, House, name="house.toml", env=env)
    return caught.value.problems


def test_three_mistakes_are_told_at_once_with_their_lines() -> None:
    text = 'interval_s = -5\n\n[broker]\nhots = "x"\nport = "1883"\n'
    assert problems(text) == [
        "house.toml:1: interval_s = -5: must be greater than 0.0 (allowed: over 0 … 86400)",
        'house.toml:4: broker.hots = "x": unknown setting; did you mean "host"?',
        'house.toml:5: broker.port = "1883": must be a whole number without quotes (allowed: 1 … 65535)',
    ]


def test_a_fault_in_the_second_of_two_tables_names_its_own_line() -> None:
    text = '[[line]]\nname = "a"\n[[line]]\nname = "b"\nspeed = 0\n'
    assert problems(text) == ["house.toml:5: line[1].speed = 0: must be greater than 0 (allowed: over 0)"]


def test_a_wrong_word_is_answered_with_the_nearest_one() -> None:
    assert problems('[broker]\nkind = "fife"\n') == [
        'house.toml:2: broker.kind = "fife": allowed: auto, five; did you mean "five"?'
    ]


def test_a_missing_value_is_named_at_the_table_that_lacks_it() -> None:
    assert problems("[[line]]\nspeed = 5\n") == ["house.toml:1: line[0].name: is missing and has no default"]


def test_a_secret_is_never_shown() -> None:
    assert "hunter2" not in "".join(problems('[broker]\npassword = ["hunter2"]\n'))


def test_text_that_is_not_toml_names_the_place() -> None:
    assert "line 2" in problems("x = 1\ny = = 2\n")[0]


def test_variables_lie_over_the_file() -> None:
    env = {"METERGATE__BROKER__PORT": "18", "METERGATE__INTERVAL_S": "2.5", "METERGATE_OTHER": "x", "PATH": "y"}
    house = settings.parse("[broker]\nport = 17\n", House, name="house.toml", env=env)
    assert (house.broker.port, house.interval_s) == (18, 2.5)


def test_a_secret_may_come_from_a_file(tmp_path: Path) -> None:
    secret = tmp_path / "password"
    secret.write_text("s3cret\n")
    env = {"METERGATE__BROKER__PASSWORD_FILE": str(secret)}
    house = settings.parse("", House, name="house.toml", env=env)
    assert house.broker.password.get_secret_value() == "s3cret"
    assert "s3cret" not in repr(house)


def test_a_variable_that_fits_no_setting_is_refused() -> None:
    assert problems("", {"METERGATE__BROKER__PROT": "1"}) == [
        'environment: METERGATE__BROKER__PROT: unknown setting; did you mean "port"?'
    ]


def test_a_variable_of_the_wrong_type_is_refused() -> None:
    assert "must be a whole number" in problems("", {"METERGATE__BROKER__PORT": "many"})[0]


@pytest.mark.parametrize(
    "text", ["", "[broker]\n", 'folder = "x/y"\n', '[[line]]\nname = "a"\n[[line]]\nname = "b"\n']
)
def test_sound_files_are_taken(text: str) -> None:
    assert isinstance(settings.parse(text, House, name="house.toml"), House)


def test_an_unreadable_file_is_a_settings_error(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="cannot be read"):
        settings.load(tmp_path / "absent.toml", House)
    (tmp_path / "latin.toml").write_bytes(b"x = '\xff'")
    with pytest.raises(SettingsError, match="not UTF-8"):
        settings.load(tmp_path / "latin.toml", House)
