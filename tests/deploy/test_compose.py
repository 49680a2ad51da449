"""docker-compose.yml: understood by docker-compose, and every service as small as it can be."""

from __future__ import annotations

import os
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from gateway.plan import load_plan
from gateway.profiles import load_profiles
from metergate.settings import load_settings
from tests.deploy.tools import DEPLOY, ROOT, compose, make_secrets, run, written

SERVICES = sorted(written()["services"])
OURS = ("anomaly", "api", "gateway", "ingest", "office")
SECRET_WORDS = re.compile(r"PASSWORD|PASSWD|TOKEN|SECRET|_KEY|REGISTRY__URL")


@pytest.fixture(scope="module")
def house() -> dict[str, Any]:
    return compose()


def service(house: dict[str, Any], name: str) -> dict[str, Any]:
    found: dict[str, Any] = house["services"][name]
    return found


def test_the_whole_house_is_there(house: dict[str, Any]) -> None:
    expected = {"mosquitto", "influxdb", "postgres", "grafana", "prometheus", "door", *OURS}
    assert set(house["services"]) == expected


def test_a_gateway_is_only_there_when_asked_for() -> None:
    profiles = {name: found.get("profiles") for name, found in written()["services"].items()}
    assert profiles == {name: ["gateway"] if name == "gateway" else None for name in SERVICES}


@pytest.mark.parametrize("name", SERVICES)
def test_nobody_is_root_and_nobody_can_become_it(house: dict[str, Any], name: str) -> None:
    found = service(house, name)
    user = str(found["user"]).partition(":")[0]
    assert user not in ("", "0", "root")
    assert found["cap_drop"] == ["ALL"]
    assert "cap_add" not in found
    assert found["security_opt"] == ["no-new-privileges:true"]
    assert not found.get("privileged")
    assert found.get("pid") is None
    assert found.get("ipc") is None
    assert found.get("network_mode") in (None, "service:door")


@pytest.mark.parametrize("name", SERVICES)
def test_the_root_is_read_only_and_what_is_written_has_a_place(house: dict[str, Any], name: str) -> None:
    found = service(house, name)
    assert found["read_only"] is True
    assert any(str(line).startswith("/tmp:") for line in found["tmpfs"])
    for volume in found.get("volumes", []):
        source, target, *mode = str(volume).split(":")
        if source.startswith("/"):  # a file of the repository
            assert mode == ["ro"], volume
            assert Path(source).is_relative_to(ROOT)
            assert Path(source).exists(), volume
        else:
            assert source in house["volumes"]
            assert target != "/"
    assert "docker.sock" not in str(found)


@pytest.mark.parametrize("name", SERVICES)
def test_it_comes_back_by_itself_and_says_how_it_is(house: dict[str, Any], name: str) -> None:
    found = service(house, name)
    assert found["restart"] == "unless-stopped"
    check = found["healthcheck"]
    assert check["test"][0] in ("CMD", "CMD-SHELL")
    assert not check.get("disable")
    assert {"interval", "timeout", "retries", "start_period"} <= set(check)
    assert found["logging"]["options"]["max-size"] == "10m"


@pytest.mark.parametrize("name", SERVICES)
def test_every_image_is_pinned_to_a_version(house: dict[str, Any], name: str) -> None:
    image = service(house, name)["image"]
    assert re.fullmatch(r"[a-z0-9./-]+:v?\d+\.\d+(\.\d+)?(-[a-z]+)?", image), image


@pytest.mark.parametrize("name", OURS)
def test_our_images_carry_our_version_and_are_built_from_their_target(house: dict[str, Any], name: str) -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["version"]
    found = service(house, name)
    assert found["image"] == f"metergate-{name}:{version}"
    assert found["build"]["target"] == name
    assert re.search(rf"^FROM runtime AS {name}$", (ROOT / "Dockerfile").read_text("utf-8"), re.MULTILINE)


@pytest.mark.parametrize("name", SERVICES)
def test_no_password_stands_in_the_file(name: str) -> None:
    found = written()["services"][name]
    own = {Path(f"/run/secrets/{secret}") for secret in found.get("secrets", [])}
    for key, value in found.get("environment", {}).items():
        if SECRET_WORDS.search(key):
            assert key.endswith("_FILE"), key
            assert Path(value) in own, f"{key}: {value} is no secret of {name}"
    text = str(found.get("entrypoint", "")) + str(found.get("command", "")) + str(found.get("healthcheck", ""))
    for path in re.findall(r"/run/secrets/\w+", text):
        assert Path(path) in own, f"{path} is no secret of {name}"
    without_files = re.sub(r"\$\$\(cat /run/secrets/\w+\)", "", text)
    assert not re.search(r"(PASSWORD|-P)[= ]\"?[A-Za-z0-9]", without_files), text


def test_secrets_are_files_outside_git(house: dict[str, Any]) -> None:
    for secret in house["secrets"].values():
        assert Path(secret["file"]).parent == DEPLOY / "secrets"


@pytest.mark.parametrize("name", SERVICES)
def test_ports_are_on_loopback_only(house: dict[str, Any], name: str) -> None:
    for port in service(house, name).get("ports", []):
        assert str(port).startswith("127.0.0.1:"), port


def test_databases_are_on_networks_without_a_way_out(house: dict[str, Any]) -> None:
    for name in ("postgres", "influxdb"):
        assert "ports" not in service(house, name)
        for network in service(house, name)["networks"]:
            assert house["networks"][network]["internal"] is True
    assert "data" not in service(house, "gateway")["networks"]
    assert "field" not in service(house, "grafana")["networks"]


@pytest.mark.parametrize("name", OURS)
def test_our_services_understand_their_settings(
    house: dict[str, Any], name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_secrets(tmp_path, "gw-1")
    files = {key: tmp_path / Path(secret["file"]).name for key, secret in house["secrets"].items()}
    env = {
        key: str(files[value.removeprefix("/run/secrets/")]) if key.endswith("_FILE") else value
        for key, value in service(house, name)["environment"].items()
    }
    settings = load_settings(DEPLOY / "compose" / "metergate.toml", env)
    assert settings.broker.host == "mosquitto"
    if name == "gateway":
        assert settings.broker.username == "gw-1"
        assert settings.broker.password.get_secret_value() == (tmp_path / "broker_gw-1").read_text()
        assert str(settings.gateway.outbox).startswith("/var/lib/metergate/")
        return
    password = (tmp_path / "postgres").read_text()
    assert settings.registry.url == f"postgresql+psycopg://metergate:{password}@postgres:5432/metergate"
    assert settings.broker.username == name
    assert settings.broker.password.get_secret_value() == (tmp_path / f"broker_{name}").read_text()
    if name == "office":  # it reads no store
        assert str(settings.office.outbox).startswith("/var/lib/metergate/")
        return
    assert settings.store.kind == "influxdb"
    assert settings.store.influxdb.password.get_secret_value() == (tmp_path / "influxdb_metergate").read_text()
    influxdb = service(house, "influxdb")["environment"]
    assert settings.store.influxdb.username == influxdb["INFLUXDB_USER"]
    assert settings.store.influxdb.database == influxdb["INFLUXDB_DB"]


def test_the_example_plan_is_sound_and_of_the_default_gateway() -> None:
    assert load_plan(DEPLOY / "compose" / "plan.toml", load_profiles()).gateway == "gw-1"


def test_influxdb_understands_its_variables(house: dict[str, Any]) -> None:
    """`influxd config` prints what it makes of the environment; a misspelt variable would change nothing."""
    env = dict(service(house, "influxdb")["environment"])
    for key in ("INFLUXDB_DB", "INFLUXDB_ADMIN_USER", "INFLUXDB_USER", "INFLUXDB_READ_USER"):
        del env[key]  # these are the image's own
    del env["INFLUXDB_REPORTING_DISABLED"]  # upstream's name; Debian's build has reporting-enabled = false instead
    done = run("influxd", "config", "-config", os.devnull, env=env)
    assert done.returncode == 0, done.stderr
    made = tomllib.loads(done.stdout)
    for variable, value in env.items():
        first, *rest = variable.removeprefix("INFLUXDB_").lower().split("_")
        here = made[first]["-".join(rest)] if first in made else made["-".join([first, *rest])]
        assert str(here).lower() == value, variable
