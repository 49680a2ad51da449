"""The systemd units: read by systemd itself without a complaint, hardened, and of one mind with the settings."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest

from metergate.settings import load_settings
from tests.deploy.tools import DEPLOY, program, run

UNITS = ("anomaly", "api", "gateway", "ingest", "office")
INSTALLED = "/opt/metergate/bin/metergate"


def text(name: str) -> str:
    return (DEPLOY / "systemd" / f"metergate-{name}.service").read_text("utf-8")


def lines(name: str, key: str) -> list[str]:
    """Return the values of a key, in order."""
    return re.findall(rf"^{key}=(.*)$", text(name), re.MULTILINE)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The units with the path of this machine's program."""
    for name in UNITS:
        assert text(name).count(INSTALLED) == 1
        moved = text(name).replace(INSTALLED, program("metergate"))
        (tmp_path / f"metergate-{name}.service").write_text(moved)
    return tmp_path


@pytest.mark.parametrize("name", UNITS)
def test_systemd_understands_every_line(folder: Path, name: str) -> None:
    done = run("systemd-analyze", "verify", "--man=no", "--recursive-errors=no", folder / f"metergate-{name}.service")
    assert (done.returncode, _about(done.stderr, name)) == (0, [])


def test_systemd_would_complain(folder: Path) -> None:
    unit = folder / "metergate-api.service"
    unit.write_text(unit.read_text().replace("WatchdogSec=", "WatchdogSeconds="))
    done = run("systemd-analyze", "verify", "--man=no", "--recursive-errors=no", unit)
    assert _about(done.stderr, "api") != []  # its exit code stays 0


def _about(said: str, name: str) -> list[str]:
    """Return what it says of our unit; a machine may have other units with other faults."""
    return [line for line in said.splitlines() if f"metergate-{name}" in line]


@pytest.mark.parametrize("name", UNITS)
def test_systemd_calls_the_exposure_small(folder: Path, name: str) -> None:
    """0 is none, 10 all; what is left below 2.0 is the network itself and the service's own files."""
    unit = folder / f"metergate-{name}.service"
    done = run("systemd-analyze", "security", "--offline=true", "--no-pager", "--threshold=20", unit)
    assert done.returncode == 0, done.stdout[-300:]


@pytest.mark.parametrize("name", UNITS)
def test_the_manager_is_told_and_watches(name: str) -> None:
    assert lines(name, "Type") == ["notify"]
    assert lines(name, "NotifyAccess") == ["main"]  # the front door speaks itself, no child does
    assert lines(name, "WatchdogSec") == ["30"]
    assert lines(name, "Restart") == ["always"]
    assert lines(name, "ExecStart") == [f"{INSTALLED} {name} --config /etc/metergate/metergate.toml"]


@pytest.mark.parametrize("name", UNITS)
def test_nobody_is_root_and_secrets_come_as_credentials(name: str) -> None:
    dynamic = lines(name, "DynamicUser") == ["yes"]
    assert dynamic or lines(name, "User") == ["metergate"]
    credentials = {value.partition(":")[0] for value in lines(name, "LoadCredential")}
    for value in lines(name, "Environment"):
        key, _, content = value.partition("=")
        if key.endswith("_FILE"):
            assert content.removeprefix("%d/") in credentials
        else:
            assert "PASSWORD" not in key
            assert "URL" not in key


def test_only_the_gateway_reaches_serial_ports() -> None:
    assert lines("gateway", "SupplementaryGroups") == ["dialout"]
    assert lines("gateway", "DevicePolicy") == ["closed"]
    assert all(value.startswith("char-tty") for value in lines("gateway", "DeviceAllow"))
    for name in ("anomaly", "api", "ingest", "office"):
        assert lines(name, "PrivateDevices") == ["yes"]
        assert lines(name, "SupplementaryGroups") == []


@pytest.mark.parametrize("name", UNITS)
def test_the_example_settings_write_only_where_the_unit_may(name: str, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("s3cret")
    env = dict(value.split("=", 1) for value in lines(name, "Environment"))
    env = {key: str(secret) if key.endswith("_FILE") else value for key, value in env.items()}
    settings = load_settings(DEPLOY / "systemd" / "metergate.toml", env)
    (own,) = lines(name, "StateDirectory")
    mine = f"/var/lib/{own}/"
    if name == "gateway":
        assert str(settings.gateway.outbox).startswith(mine)
        assert settings.broker.username == "gw-1"
    else:
        assert settings.registry.url.startswith(f"sqlite:///{mine}")
        assert str(settings.store.path).startswith(mine)
        assert str(settings.office.outbox).startswith(mine)
        assert str(settings.audit.anchors).startswith(mine)
    assert settings.broker.password.get_secret_value() == "s3cret"
    assert settings.broker.username == ("gw-1" if name == "gateway" else name)
    assert lines(name, "WorkingDirectory") == [mine.rstrip("/")]


def test_the_drop_in_of_the_manual_is_understood(folder: Path) -> None:
    """What stands as comments in the units, for PostgreSQL and InfluxDB, is switched on and read by systemd."""
    for name in ("anomaly", "api", "ingest", "office"):
        options = re.findall(r"^# ((?:LoadCredential|Environment)=.*)$", text(name), re.MULTILINE)
        assert len(options) == (2 if name == "office" else 4)  # the office reads no store
        drop_in = folder / f"metergate-{name}.service.d" / "databases.conf"
        drop_in.parent.mkdir()
        drop_in.write_text("[Service]\n" + "\n".join(options) + "\n")
        done = run(
            "systemd-analyze", "verify", "--man=no", "--recursive-errors=no", folder / f"metergate-{name}.service"
        )
        assert (done.returncode, _about(done.stderr, name)) == (0, [])


def test_the_user_is_made_by_sysusers(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "usr/lib/sysusers.d").mkdir(parents=True)
    shutil.copy(DEPLOY / "systemd" / "metergate.sysusers.conf", tmp_path / "usr/lib/sysusers.d/metergate.conf")
    done = run("systemd-sysusers", f"--root={tmp_path}")
    assert done.returncode == 0, done.stderr
    (entry,) = (tmp_path / "etc/passwd").read_text().splitlines()
    assert re.fullmatch(r"metergate:x:\d+:\d+:Metergate:/var/lib/metergate:/usr/sbin/nologin", entry)


def test_no_key_is_set_twice_by_mistake() -> None:
    several = {"Environment", "LoadCredential", "DeviceAllow", "SystemCallFilter"}
    for name in UNITS:
        keys = re.findall(r"^([A-Z]\w+)=", text(name), re.MULTILINE)
        assert [key for key in set(keys) if keys.count(key) > 1 and key not in several] == []


@pytest.fixture
def backup(folder: Path) -> Path:
    """The backup's unit and timer beside the others, with the path of this machine's program."""
    (folder / "metergate-backup.service").write_text(text("backup").replace(INSTALLED, program("metergate")))
    shutil.copy(DEPLOY / "systemd" / "metergate-backup.timer", folder)
    return folder


@pytest.mark.parametrize("kind", ["service", "timer"])
def test_systemd_understands_the_backup(backup: Path, kind: str) -> None:
    unit = backup / f"metergate-backup.{kind}"
    done = run("systemd-analyze", "verify", "--man=no", "--recursive-errors=no", unit)
    assert (done.returncode, _about(done.stderr, "backup")) == (0, [])


def test_the_backup_runs_every_week_as_nobody_special(backup: Path) -> None:
    timer = (DEPLOY / "systemd" / "metergate-backup.timer").read_text("utf-8")
    (when,) = re.findall(r"^OnCalendar=(.*)$", timer, re.MULTILINE)
    done = run("systemd-analyze", "calendar", "--iterations=2", "--base-time=2026-03-02", when, env={"TZ": "UTC"})
    assert re.findall(r"2026-03-\d\d 02:00:00", done.stdout)[:2] == ["2026-03-08 02:00:00", "2026-03-15 02:00:00"]
    assert "Persistent=true" in timer
    done = run(
        "systemd-analyze",
        "security",
        "--offline=true",
        "--no-pager",
        "--threshold=20",
        backup / "metergate-backup.service",
    )
    assert done.returncode == 0, done.stdout[-300:]


def test_the_backup_is_called_as_the_command_understands_it() -> None:
    (line,) = lines("backup", "ExecStart")
    words = line.split()
    assert words[:2] == [INSTALLED, "backup"]
    assert words[words.index("--to") + 1] == "/var/lib/metergate-backup"
    assert lines("backup", "StateDirectory") == ["metergate metergate-backup"]
    options = {word for word in words if word.startswith("--")}
    said = run("metergate", "backup", "--help").stdout
    assert all(option in said for option in options)
