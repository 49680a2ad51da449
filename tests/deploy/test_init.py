"""The step that makes the passwords: complete, only for those who may, never twice, never in the repository."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

from metergate.broker_access import SERVICES, acl_text
from registry.credentials import SERVICE_OWNERS, Login
from tests.deploy.tools import DEPLOY, compose, make_secrets

MADE = ("mosquitto_users", "mosquitto_acl")


def test_every_secret_of_compose_is_made(tmp_path: Path) -> None:
    make_secrets(tmp_path, "gw-1")
    made = {path.name for path in tmp_path.iterdir()}
    wanted = {Path(secret["file"]).name for secret in compose()["secrets"].values()}
    assert wanted == made


def test_passwords_are_long_all_different_and_need_no_quoting(tmp_path: Path) -> None:
    make_secrets(tmp_path, "gw-1", "gw-2")
    plain = [p.read_text() for p in tmp_path.iterdir() if p.name not in (*MADE, "registry_url")]
    assert len(plain) == 12
    assert len(set(plain)) == 12
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{32}", text) for text in plain)


def test_only_the_folder_keeps_strangers_out_because_containers_have_other_users(tmp_path: Path) -> None:
    folder = tmp_path / "secrets"
    make_secrets(folder, "gw-1")
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {0o444}


def test_a_second_run_adds_a_gateway_and_changes_no_password(tmp_path: Path) -> None:
    make_secrets(tmp_path, "gw-1")
    before = {path.name: path.read_text() for path in tmp_path.iterdir() if path.name not in MADE}
    assert "1 new" in make_secrets(tmp_path, "gw-2")
    after = {path.name: path.read_text() for path in tmp_path.iterdir()}
    assert {name: after[name] for name in before} == before
    users = [line.partition(":")[0] for line in after["mosquitto_users"].splitlines()]
    assert users == ["anomaly", "api", "gw-1", "gw-2", "ingest", "office", "watch"]
    assert "nothing was missing" in make_secrets(tmp_path)


def test_a_password_of_the_broker_is_rotated_alone(tmp_path: Path) -> None:
    make_secrets(tmp_path, "gw-1", "gw-2")
    before = {path.name: path.read_text() for path in tmp_path.iterdir() if path.name not in MADE}
    make_secrets(tmp_path, rotate=["gw-1"])
    changed = [name for name, text in before.items() if (tmp_path / name).read_text() != text]
    assert changed == ["broker_gw-1"]


def test_names_that_cannot_be_a_gateway_are_refused(tmp_path: Path) -> None:
    for name in ("ingest", "watch", "api", "anomaly", "office", "a/b", "../x", "+", "#", "", "x" * 49, "-gw"):
        command = [sys.executable, str(DEPLOY / "init.py"), "--folder", str(tmp_path), f"--gateway={name}"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
        assert done.returncode == 2, name
        assert "cannot be the id of a gateway" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_git_never_sees_a_secret(tmp_path: Path) -> None:
    """Judged by git itself, in a repository that has nothing but our one file about it."""
    (tmp_path / "deploy" / "secrets").mkdir(parents=True)
    shutil.copy(DEPLOY / "secrets" / ".gitignore", tmp_path / "deploy" / "secrets")
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True, timeout=60)
    make_secrets(tmp_path / "deploy" / "secrets", "gw-1")
    done = subprocess.run(
        ["git", "status", "--short", "--untracked-files=all"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.stdout.split() == ["??", "deploy/secrets/.gitignore"]


def test_the_access_list_is_the_one_that_metergate_broker_write_makes(tmp_path: Path) -> None:
    """init.py cannot import it, so that it says the same a second time; letter by letter."""
    make_secrets(tmp_path, "gw-1", "gw.2", "Office_3")
    logins = [Login(name, name, "", 0, None) for name in ("gw-1", "gw.2", "Office_3", "office")]
    logins += [Login(name, f"@{name}", "", 0, None) for name in ("anomaly", "api", "ingest", "watch")]
    assert (tmp_path / "mosquitto_acl").read_text() == acl_text(logins)


def test_every_service_has_its_rights() -> None:
    assert set(SERVICES) == set(SERVICE_OWNERS)
