"""`metergate backup` and `restore`: online, consistent, verified, and never over something without a word."""

from __future__ import annotations

import gzip
import io
import json
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from ingest.store_sqlite import SqliteStore
from metergate.backup import prune
from metergate.settings_secrets import without_secrets
from registry import anchors, audit, leases
from registry.audit_check import check
from registry.database import Database
from registry.ledger import load_positions
from registry.models import PartLease
from registry.models_access import AuditRecord
from tests.end_to_end.town import CLOCK, until
from tests.guarded import metergate, refused


class House:
    """A registry, a store, and somebody who writes both the way ingest does."""

    def __init__(self, folder: Path, url: str = "") -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.url = url or f"sqlite:///{folder}/registry.db"
        self.store = folder / "readings.db"
        self.anchors = folder / "anchors.jsonl"
        self.config = folder / "metergate.toml"
        self.config.write_text(
            f'[registry]\nurl = "{self.url}"\n[store]\npath = "{self.store}"\n'
            f'[audit]\nanchors = "{self.anchors}"\n[broker]\npassword = "hunter2hunter2"\n',
            "utf-8",
        )
        self.acknowledged = folder / "acknowledged"

    @contextmanager
    def writing(self) -> Iterator[None]:
        database = Database(self.url)
        database.upgrade()
        database.close()
        self.acknowledged.touch()
        command = [sys.executable, "-m", "tests.metergate.commands.backup_writer"]
        with (self.folder / "writer.log").open("wb") as log:
            writer = subprocess.Popen([*command, self.url, self.store, self.acknowledged], stdout=log, stderr=log)
        try:
            until(lambda: self.told() > 100 or writer.poll() is not None, "the writer writes")
            assert writer.poll() is None, (self.folder / "writer.log").read_text()
            yield
            assert writer.poll() is None, (self.folder / "writer.log").read_text()
        finally:
            writer.kill()
            writer.wait()

    def told(self) -> int:
        """The highest row of which the writer knows that it was committed."""
        lines = self.acknowledged.read_text().split("\n")[:-1]
        return int(lines[-1]) if lines else 0

    def anchor(self) -> None:
        database = Database(self.url)
        assert anchors.anchor(database, self.anchors, anchors._log, CLOCK.now_ms()) is not None
        database.close()

    def facts(self) -> tuple[int, int, int]:
        """(rows acknowledged by the ledger, newest row in the store, rows of the audit)."""
        database = Database(self.url)
        try:
            with database.read() as connection:
                (position,) = load_positions(connection).values()
                rows = connection.execute(sa.select(sa.func.count()).select_from(AuditRecord)).scalar_one()
        finally:
            database.close()
        store = SqliteStore(self.store, mode="read")
        try:
            readings = list(store.range(None, 0, 2**62))
        finally:
            store.close()
        # every row from the first to the newest, with its own value: nothing is missing between them
        assert [(r.read_at, r.values["volume"]) for r in readings] == [
            (n + 1, (n + 1) * 1000) for n in range(len(readings))
        ]
        return position.spans[-1][1], len(readings), rows


def archive_of(house: House, name: str = "one.tar.gz", *words: str) -> tuple[Path, dict[str, Any]]:
    target = house.folder / name
    return target, json.loads(metergate("backup", "--config", house.config, "--to", target, *words))


@pytest.fixture(scope="module")
def resting(tmp_path_factory: pytest.TempPathFactory) -> House:
    """A house in which nobody writes any more."""
    house = House(tmp_path_factory.mktemp("resting"))
    with house.writing():
        house.anchor()
    return house


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_what_was_acknowledged_before_the_backup_is_in_the_restored_house(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    house = House(tmp_path / "old", request.getfixturevalue("postgres_url") if kind == "postgresql" else "")
    with house.writing():
        house.anchor()
        for turn in range(4):
            before = house.told()
            archive, manifest = archive_of(house, f"{turn}.tar.gz")
            until(partial(lambda told: house.told() > told, before), "the writer goes on meanwhile and afterwards")
    fresh = request.getfixturevalue("fresh_postgres_url") if kind == "postgresql" else ""
    new = House(tmp_path / "new", fresh)
    metergate("restore", archive, "--config", new.config)
    acknowledged, stored, rows = new.facts()
    assert acknowledged >= before > 0  # all of which the writer had been told when the backup began
    assert stored >= acknowledged  # the ledger never knows more than the store
    (counted,) = [part["rows"] for part in manifest["parts"] if part["role"] == "registry"]
    assert (rows, manifest["audit_number"]) == (counted["audit"], counted["audit"])
    assert manifest["acknowledged"] == {"gw-1 abcdef01": acknowledged}
    assert [part["rows"]["reading"] for part in manifest["parts"] if part["role"] == "store"] == [stored]
    database = Database(new.url)
    verdict = check(database, new.anchors)
    database.close()
    assert (verdict.faults, verdict.anchors) == ([], 1)


@pytest.fixture
def fresh_postgres_url(request: pytest.FixtureRequest) -> Iterator[str]:
    """A second database, without a table."""
    cluster = request.getfixturevalue("postgres_server")
    url = cluster.create("restored", template="template0")
    yield url
    cluster.drop("restored")


def test_ingest_reads_the_whole_store_again_after_a_restore(resting: House, tmp_path: Path) -> None:
    database = Database(resting.url)
    with database.begin() as connection:
        connection.execute(sa.update(PartLease).values(floor=10**12))
    database.close()
    archive, _ = archive_of(resting, "floor.tar.gz")
    metergate("restore", archive, "--into", tmp_path / "new")
    restored = Database(f"sqlite:///{tmp_path / 'new' / 'registry.db'}")
    with restored.read() as connection:
        assert leases.floor_of(connection, range(64)) == 0
    restored.close()


def test_the_archive_is_for_its_owner_and_begins_with_its_manifest(resting: House) -> None:
    archive, manifest = archive_of(resting, "mode.tar.gz")
    assert archive.stat().st_mode & 0o777 == 0o600
    with tarfile.open(archive) as tar:
        assert tar.getnames() == ["manifest.json", *(part["name"] for part in manifest["parts"])]
    assert [part["role"] for part in manifest["parts"]] == ["registry", "store", "settings", "anchors"]
    assert not list(archive.parent.glob(".metergate-backup-*"))


def test_secrets_stay_at_home_unless_asked_for(resting: House) -> None:
    archive, manifest = archive_of(resting, "without.tar.gz")
    with tarfile.open(archive) as tar:
        inside = tar.extractfile("settings.toml")
        assert inside is not None
        text = inside.read().decode()
    assert "hunter2" not in text
    assert "# left out of the backup: password" in text
    assert "left out of the settings: broker.password" in manifest["notes"]
    assert manifest["secrets"] == "left out"
    archive, manifest = archive_of(resting, "with.tar.gz", "--with-secrets")
    with tarfile.open(archive) as tar:
        inside = tar.extractfile("settings.toml")
        assert inside is not None
        assert b"hunter2hunter2" in inside.read()
    assert manifest["secrets"].startswith("included")


@pytest.mark.parametrize(
    "text",
    [
        '[broker]\npassword = "s3cr3tword"\n',
        '[registry]\nurl = "postgresql+psycopg://u:s3cr3tword@h/db"\n',
        'broker = { password = "s3cr3tword", host = "h" }\n',
        '[store.influxdb]\ntoken = """\ns3cr3tword"""\n',
        '[store.influxdb]\nurl = "http://u:s3cr3tword@h:8086"\n',
        'broker.password = "s3cr3tword"\n',
    ],
)
def test_no_way_of_writing_a_secret_gets_into_an_archive(text: str) -> None:
    made, left_out = without_secrets(text)
    assert "s3cr3tword" not in made
    assert len(left_out) == 1


def test_a_backup_never_overwrites_and_leaves_nothing_behind_when_it_fails(resting: House, tmp_path: Path) -> None:
    archive, _ = archive_of(resting, "twice.tar.gz")
    assert "there already" in refused("backup", "--config", resting.config, "--to", archive)
    empty = House(tmp_path / "empty")
    assert "there is no registry at" in refused("backup", "--config", empty.config, "--to", tmp_path / "x.tar.gz")
    assert not (tmp_path / "x.tar.gz").exists()
    assert not list(tmp_path.glob(".metergate*"))
    assert not (empty.folder / "registry.db").exists()


def test_restore_overwrites_nothing_without_a_word_and_keeps_what_it_replaces(resting: House, tmp_path: Path) -> None:
    archive, _ = archive_of(resting, "over.tar.gz")
    (tmp_path / "readings.db-wal").write_bytes(b"left behind")
    said = refused("restore", archive, "--into", tmp_path)
    assert "readings.db-wal is there already; --replace" in said.replace("\n", "")
    assert [path.name for path in tmp_path.iterdir()] == ["readings.db-wal"]
    metergate("restore", archive, "--into", tmp_path, "--replace")
    (kept,) = tmp_path.glob("before-*")
    assert kept.read_bytes() == b"left behind"
    assert kept.name.endswith("readings.db-wal")
    assert not (tmp_path / "readings.db-wal").exists()


def test_a_postgresql_registry_that_has_tables_is_not_overwritten(tmp_path: Path, postgres_url: str) -> None:
    house = House(tmp_path, postgres_url)
    with house.writing():
        archive, _ = archive_of(house)
    assert "tables already; --replace" in refused("restore", archive, "--config", house.config)
    metergate("restore", archive, "--config", house.config, "--replace")
    acknowledged, stored, _ = house.facts()
    assert stored >= acknowledged > 0


def rewritten(archive: Path, target: Path, change: Any) -> Path:
    """Copy an archive member by member; `change(name, bytes)` gives what stands there, None nothing."""
    with tarfile.open(archive) as old, tarfile.open(target, "w:gz") as new:
        for member in old:
            source = old.extractfile(member)
            assert source is not None
            data = change(member.name, source.read())
            if data is not None:
                member.size = len(data)
                new.addfile(member, io.BytesIO(data))
    return target


def test_a_damaged_or_foreign_archive_is_refused_before_anything_is_touched(resting: House, tmp_path: Path) -> None:
    archive, _ = archive_of(resting, "sound.tar.gz")
    raw = archive.read_bytes()

    def flip(name: str, data: bytes) -> bytes:
        return data[:5000] + bytes([data[5000] ^ 1]) + data[5001:] if name == "readings.db" else data

    def newer(name: str, data: bytes) -> bytes:
        return data.replace(b'"revision": "', b'"revision": "9') if name == "manifest.json" else data

    def outside(name: str, data: bytes) -> bytes:
        return data.replace(b"settings.toml", b"../escaped.to") if name == "manifest.json" else data

    cases = {
        "cut": (raw[: len(raw) // 2], "is not a whole archive"),
        "bit": (None, "readings.db is damaged"),
        "lacks": (None, "lacks readings.db"),
        "newer": (None, "newer than this program"),
        "outside": (None, "names parts that no backup has"),
        "text": (b"hello", "is not a whole archive"),
        "gzip": (gzip.compress(b"hello" * 1000), "is not a whole archive"),
    }
    changes = {"bit": flip, "newer": newer, "outside": outside}
    for name, (data, words) in cases.items():
        bad = tmp_path / f"{name}.tar.gz"
        if data is not None:
            bad.write_bytes(data)
        elif name == "lacks":
            rewritten(archive, bad, lambda member, content: None if member == "readings.db" else content)
        else:
            rewritten(archive, bad, changes[name])
        assert words in refused("restore", bad, "--into", tmp_path / "into").replace("\n", " "), name
        assert list((tmp_path / "into").iterdir()) == [], name


def test_an_audit_that_was_changed_before_the_backup_is_told_at_the_restore(resting: House, tmp_path: Path) -> None:
    house = House(tmp_path / "old")
    with house.writing():
        house.anchor()
    database = Database(house.url)
    with database.begin() as connection:
        connection.execute(sa.update(AuditRecord).where(AuditRecord.number == 2).values(actor="service:nobody"))
    database.close()
    archive, _ = archive_of(house)
    said = refused("restore", archive, "--into", tmp_path / "new").replace("\n", " ")
    assert "the audit is not whole" in said
    assert "2" in said


def test_a_folder_keeps_the_newest_archives_and_nothing_else_is_removed(resting: House, tmp_path: Path) -> None:
    names = [f"metergate-backup-2026010{day}T020000Z.tar.gz" for day in range(1, 6)]
    for name in [*names, "mine.tar.gz", "metergate-backup-notes.txt"]:
        (tmp_path / name).write_text("x")
    metergate("backup", "--config", resting.config, "--to", tmp_path, "--keep", "3")
    left = sorted(path.name for path in tmp_path.iterdir())
    assert [name for name in left if name in names] == names[3:]  # and the one of today
    assert {"mine.tar.gz", "metergate-backup-notes.txt"} <= set(left)
    assert len(left) == 5
    assert prune(tmp_path, 3) == []


def test_an_archive_says_what_is_not_in_it(resting: House, tmp_path: Path) -> None:
    config = tmp_path / "influx.toml"
    config.write_text(resting.config.read_text().replace("[store]\n", '[store]\nkind = "influxdb"\n'))
    manifest = json.loads(metergate("backup", "--config", config, "--to", tmp_path / "a.tar.gz"))
    assert any("influxd backup" in note for note in manifest["notes"])
    assert "store" not in [part["role"] for part in manifest["parts"]]


def test_the_head_of_the_manifest_is_the_head_of_the_copy(resting: House) -> None:
    _, manifest = archive_of(resting, "head.tar.gz")
    database = Database(resting.url)
    with database.read() as connection:
        head = audit.head(connection)
    database.close()
    assert head is not None
    assert (manifest["audit_number"], manifest["audit_hash"]) == (head.number, head.hash)
