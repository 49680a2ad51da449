"""The front door: check, import, plan, and the sample settings file, as a person types them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from gateway.plan import parse_plan
from gateway.profile_mqtt import FOLDER
from metergate import settings
from metergate.__main__ import build

ROOT = Path(__file__).resolve().parent.parent.parent
HEADER = "meter_id,medium,gateway,bus,host,port,address,profile,interval_s"


def call(*words: str | Path) -> Result:
    return CliRunner().invoke(build(), [str(word) for word in words])


def write(path: Path, text: str) -> Path:
    path.write_text(text, "utf-8")
    return path


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("METERGATE__REGISTRY__URL", f"sqlite:///{tmp_path / 'registry.db'}")
    monkeypatch.setenv("COLUMNS", "200")


def test_three_mistakes_are_answered_at_once(tmp_path: Path) -> None:
    text = '[broker]\nhots = "10.0.0.1"\nport = "1883"\n\n[ingest]\nflush_s = -5\n'
    result = call("check", write(tmp_path / "metergate.toml", text))
    assert result.exit_code == 2
    lines = result.stderr.strip().splitlines()
    assert [line.removeprefix("✗ ") for line in lines] == [
        'metergate.toml:2: broker.hots = "10.0.0.1": unknown setting; did you mean "host"?',
        'metergate.toml:3: broker.port = "1883": must be a whole number without quotes (allowed: 1 … 65535)',
        "metergate.toml:6: ingest.flush_s = -5: must be 0.1 or more (allowed: 0.1 … 3600)",
    ]


def test_a_plan_is_recognised_and_its_mistakes_are_answered(tmp_path: Path) -> None:
    text = 'gateway = "gw-1"\n[[bus]]\nname = "b"\nhost = "h"\nport = "x"\n[[meter]]\nmeter = "M1"\nbus = "b"\n'
    text += 'profile = "fuxin-corector"\ninterval_s = -1\nunti = 3\n'
    result = call("check", write(tmp_path / "plan.toml", text))
    assert result.exit_code == 2
    assert 'plan.toml:5: bus[0].port = "x": must be a whole number' in result.stderr
    assert "plan.toml:10: meter[0].interval_s = -1" in result.stderr
    assert 'plan.toml:11: meter[0].unti = 3: unknown setting; did you mean "unit"?' in result.stderr


def test_the_sample_file_is_the_manual_of_the_code() -> None:
    sample = (ROOT / "settings.sample.toml").read_text("utf-8")
    assert sample == settings.sample(), "run: metergate check --sample > settings.sample.toml"


def test_the_sample_is_sound_and_means_the_defaults(tmp_path: Path) -> None:
    plain = settings.sample()
    path = write(tmp_path / "sample.toml", plain)
    assert call("check", path).exit_code == 0
    assert settings.load_settings(path, {}) == settings.Settings()
    used = "\n".join(
        line[1:] if line.startswith("#") and not line.startswith("# ") and not line.endswith("=") else line
        for line in plain.splitlines()
    )
    assert settings.load_settings(write(tmp_path / "used.toml", used), {}) == settings.Settings()


def test_every_option_has_one_sentence() -> None:
    for section in settings.Settings.model_fields.values():
        for name, field in section.annotation.model_fields.items():  # type: ignore[union-attr]  # every section is a model
            if not hasattr(field.annotation, "model_fields"):
                assert field.description, name
                assert field.description.endswith("."), name


def test_secrets_are_hidden_in_the_settings_in_force(tmp_path: Path) -> None:
    path = write(tmp_path / "m.toml", '[broker]\nusername = "u"\npassword = "hunter2"\n')
    result = call("check", path, "--redacted")
    assert result.exit_code == 0
    assert json.loads(result.stdout)["broker"]["password"] == "(hidden)"
    assert "hunter2" not in result.output


def test_the_schema_is_json(tmp_path: Path) -> None:
    for kind in ("settings", "plan", "profile"):
        assert json.loads(call("check", "--schema", "--kind", kind).stdout)["type"] == "object"


def test_meters_go_in_and_a_plan_comes_out(tmp_path: Path) -> None:
    lines = [
        f"G{i:03},gas,gw-1,bus-{i % 3},127.0.0.1,{5020 + i % 3},{i // 3 + 1},fuxin-corrector,60" for i in range(300)
    ]
    taken = call("import", "meters", write(tmp_path / "meters.csv", "\n".join([HEADER, *lines])))
    assert taken.exit_code == 0, taken.output
    assert "300 meters taken, 0 rows refused" in taken.stderr
    planned = call("plan", "gw-1", "--out", tmp_path / "plan.toml")
    assert planned.exit_code == 0, planned.output
    checked = call("check", tmp_path / "plan.toml")
    assert "a sound plan, gateway gw-1, 300 meters on 3 buses" in checked.stderr


def test_bad_rows_are_listed_and_written_to_a_file(tmp_path: Path) -> None:
    rows = ["G1,gas,gw-1,b,h,502,1,fuxin-corrector,60", "G2,gas,gw-1,b,h,502,2,fuxin-corector,60"]
    errors = tmp_path / "bad.csv"
    result = call("import", "meters", write(tmp_path / "m.csv", "\n".join([HEADER, *rows])), "--errors", errors)
    assert result.exit_code == 1
    assert "1 meters taken, 1 rows refused" in result.stderr
    assert 'did you mean "fuxin-corrector"?' in errors.read_text("utf-8")


def test_a_gbk_file_is_understood(tmp_path: Path) -> None:
    path = tmp_path / "gbk.csv"
    path.write_bytes("meter_id,medium,customer_address\nG1,gas,南京路1号\n".encode("gbk"))
    assert call("import", "meters", path).exit_code == 0


def test_an_unknown_gateway_gets_the_nearest_name(tmp_path: Path) -> None:
    call("import", "meters", write(tmp_path / "m.csv", f"{HEADER}\nG1,gas,gw-east,b,h,502,1,fuxin-corrector,60"))
    result = call("plan", "gw-aest")
    assert result.exit_code == 1
    assert 'did you mean "gw-east"?' in result.stderr


@pytest.mark.parametrize(
    "command",
    ["demo", "gateway", "ingest", "api", "all", "check", "plan", "poll", "import", "decode", "detect", "backtest"],
)
def test_every_command_helps_with_an_example(command: str) -> None:
    words = [command, "meters", "--help"] if command == "import" else [command, "--help"]
    result = call(*words)
    assert result.exit_code == 0
    assert "Example: metergate" in result.output


def test_meters_that_send_by_mqtt_go_from_the_books_into_the_plan(tmp_path: Path) -> None:
    header = "meter_id,medium,gateway,bus,bus_kind,address,profile,interval_s"
    lora = "G-1,gas,gw-1,lorawan,mqtt,0004A30B001C0530,ugm-chirpstack,3600"
    node = 'G-2,gas,gw-1,sparkplug,mqtt,"gas/gw ""1""/fc-1",sparkplug-flow-computer,60'
    result = call("import", "meters", write(tmp_path / "meters.csv", f"{header}\n{lora}\n{node}\n"))
    assert result.exit_code == 0, result.stderr
    made = call("plan", "gw-1").stdout
    assert "[[bus]]" not in made
    pushed = {m.meter: m for bus in parse_plan(made, {}, name="made").mqtt for m in bus.meters.values()}
    assert pushed["G-1"].device == "0004A30B001C0530"
    assert pushed["G-1"].interval_s == 3600
    assert pushed["G-2"].device == 'gas/gw "1"/fc-1'
    answer = call("check", write(tmp_path / "plan.toml", made), FOLDER / "wmbus-gas.toml").stderr
    assert "a sound plan, gateway gw-1, 2 meters on 2 buses" in answer
    assert "a sound MQTT profile, gas, 1 golden messages read as they say" in answer
