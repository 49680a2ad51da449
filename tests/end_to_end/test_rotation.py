"""Passwords at the broker are replaced under load, over TLS, with an access list: nothing is lost or restarted."""

from __future__ import annotations

import re
import signal
from pathlib import Path

import pytest

from metergate import authority
from metergate.house import GATEWAY
from tests.brokers import mosquitto
from tests.end_to_end.town import CLOCK, Town, town, until
from tests.guarded import metergate

ROTATIONS = 4


class Keys:
    """The credential files of one town, and how they are replaced."""

    def __init__(self, place: Town, folder: Path) -> None:
        self.place, self.folder, self.access = place, folder, folder / "access"
        self.config = place.house.settings
        authority.create(folder / "ca", "Test", CLOCK.now_ms())
        authority.issue(folder / "ca", ["127.0.0.1"], CLOCK.now_ms(), file="broker")
        extra = (
            f"allow_anonymous false\npassword_file {self.access}/users\nacl_file {self.access}/acl\nlog_type all\n"
        )
        extra += f"certfile {folder}/ca/broker.pem\nkeyfile {folder}/ca/broker.key\ntls_version tlsv1.2\n"
        place.broker = mosquitto(folder / "guarded", extra, port=place.house.broker_port)
        for name in (GATEWAY, "ingest"):
            self.make("add", name, self.file(name))
        self.write()

    def file(self, name: str) -> Path:
        return self.folder / f"{name}.credential"

    def make(self, verb: str, name: str, path: Path) -> None:
        metergate("broker", verb, name, "--config", self.config, "--out", path)

    def write(self) -> None:
        metergate("broker", "write", "--folder", self.access, "--config", self.config)
        if self.place.broker.process is not None:
            self.place.broker.process.send_signal(signal.SIGHUP)

    def rotate(self, name: str, number: int) -> None:
        """The steps of docs/broker.md, in their order."""
        fresh = self.folder / "fresh.credential"
        self.make("rotate", name, fresh)
        self.write()
        fresh.replace(self.file(name))
        until(
            lambda: f"{name}.{number + 1}'" in self.log(), lambda: f"{name} uses its new login\n{self.place.words()}"
        )
        metergate("broker", "retire", f"{name}.{number}", "--config", self.config)
        self.write()

    def log(self) -> str:
        return (self.folder / "guarded" / "broker.log").read_text("utf-8", "replace")


@pytest.mark.timeout(900)
def test_passwords_are_replaced_under_load_and_nothing_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with town(tmp_path / "town", "mosquitto") as place:
        keys = Keys(place, tmp_path)
        place.start("broker", "meters")
        monkeypatch.setenv("METERGATE__BROKER__TLS_CA", str(tmp_path / "ca" / "ca.pem"))
        for name, service in (("ingest", "ingest"), (GATEWAY, "gateway")):
            monkeypatch.setenv("METERGATE__BROKER__CREDENTIAL_FILE", str(keys.file(name)))
            place.start(service)
        until(lambda: place.stored() > 100, lambda: f"readings flow\n{place.words()}")
        first = {name: place.processes[name].pid for name in ("gateway", "ingest")}
        for number in range(1, ROTATIONS + 1):
            keys.rotate(GATEWAY, number)
            if number % 2:
                keys.rotate("ingest", (number + 1) // 2)
            before = place.stored()
            until(lambda before=before: place.stored() > before + 50, lambda: f"readings flow on\n{place.words()}")  # type: ignore[misc]  # the default binds this round's value
        assert all(place.processes[name].poll() is None for name in first), place.words()
        assert {name: place.processes[name].pid for name in first} == first
        place.drain()
        verdict = place.verdict()
        print(f"\n{verdict}")
        assert verdict.clean, f"{verdict}\n{verdict.lost[:5]}\n{verdict.invented[:5]}"
        assert verdict.excused == 0 or verdict.stored > 100 * verdict.excused
        assert verdict.stored > 500
        users = set(re.findall(r"u'([^']+)'", keys.log()))
        assert {f"{GATEWAY}.{n}" for n in range(1, ROTATIONS + 2)} <= users
        assert place.events("security") == []
