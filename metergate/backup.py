"""One file from which a house can be made again, taken while all runs: registry, embedded store, settings, anchors.

The order makes it consistent. The registry's ledger says what ingest has acknowledged; ingest writes the store first
and the ledger second. So the registry is copied first and the store second: whatever the copied ledger calls
acknowledged is in the copied store. Rows that the store has beyond that harm nobody: the key decides. The audit's
anchors are copied before both, so that they know nothing that the copied audit lacks. SQLite is copied by its own
backup interface in one read transaction, PostgreSQL by pg_dump from the very snapshot whose rows the manifest counts.

Not in it: gateways' outboxes (they empty themselves by resending; a restored one would use numbers twice), InfluxDB
(its own tool copies it, the manifest says how), and secrets, unless asked for.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import re
import shutil
import sqlite3
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.engine import URL, Connection, make_url

from metergate import __version__
from metergate.files import sync_folder
from metergate.settings import Settings
from metergate.settings_secrets import without_secrets
from metering.errors import RegistryError, SettingsError, StoreError
from registry import audit
from registry.database import Database
from registry.ledger import load_positions
from registry.models import Base

FORMAT: Final = 1
SUFFIX: Final = ".tar.gz"
MANIFEST: Final = "manifest.json"
_PREFIX: Final = "metergate-backup-"
_NAME: Final = re.compile(rf"{_PREFIX}\d{{8}}T\d{{6}}Z{re.escape(SUFFIX)}")
_CHUNK: Final = 1 << 20
_BUSY_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class Part:
    """A file of the archive. role: registry, store, settings, anchors. rows: of its tables, where it has any."""

    name: str
    role: str
    kind: str
    bytes: int
    sha256: str
    rows: dict[str, int]


@dataclass(slots=True)
class Manifest:
    """What an archive holds. taken_at: [ms UTC] of the registry's copy; audit: number and hash of its head."""

    format: int
    version: str
    taken_at: int
    revision: str
    audit_number: int
    audit_hash: str
    acknowledged: dict[str, int]
    secrets: str
    notes: list[str]
    parts: list[Part] = field(default_factory=list)

    def text(self) -> str:
        """Return it as JSON."""
        return json.dumps(asdict(self), indent=1, sort_keys=True) + "\n"


def take(
    settings: Settings, settings_file: Path | None, target: Path, now_ms: int, *, secrets: bool = False
) -> Manifest:
    """Write one archive; it appears under its name when it is whole and on the disk, mode 0600.

    secrets: copy the settings file as it is, passwords included.
    Raises: RegistryError, StoreError, SettingsError, OSError; then no archive appears.
    """
    if target.exists():
        raise SettingsError(f"{target} is there already; a backup never overwrites")
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".metergate-backup-", dir=target.parent) as name:
        folder = Path(name)
        anchors = _copy_anchors(settings, folder)
        manifest = _copy_registry(settings, folder, now_ms)
        _copy_store(settings, folder, manifest)
        _copy_settings(settings_file, folder, manifest, secrets=secrets)
        manifest.parts += anchors
        (folder / MANIFEST).write_text(manifest.text(), "utf-8")
        _pack(folder, manifest, target)
    return manifest


def name_at(now_ms: int) -> str:
    """Return the name of an archive that is taken now, in a folder of archives."""
    return f"{_PREFIX}{datetime.fromtimestamp(now_ms // 1000, UTC):%Y%m%dT%H%M%SZ}{SUFFIX}"


def prune(folder: Path, keep: int) -> list[Path]:
    """Remove all archives of a folder but the newest `keep`; return the removed ones. Other files stay."""
    ours = sorted(path for path in folder.iterdir() if _NAME.fullmatch(path.name))
    gone = ours[: max(0, len(ours) - keep)]
    for path in gone:
        path.unlink()
    return gone


# -- the registry --------------------------------------------------------------------------------------------------


def _copy_registry(settings: Settings, folder: Path, now_ms: int) -> Manifest:
    url = make_url(settings.registry.url)
    if url.get_backend_name() == "sqlite":
        source, copy = Path(url.database or ""), folder / "registry.db"
        if not source.exists():
            raise RegistryError(f"there is no registry at {source}; is registry.url of these settings right?")
        copy_sqlite(source, copy)
        database = Database(f"sqlite:///{copy}")
        try:
            with database.read() as connection:
                manifest, rows = _facts(connection, now_ms)
        finally:
            database.close()
        manifest.parts.append(_part(copy, "registry", "sqlite", rows))
        return manifest
    return _dump_postgresql(url, folder, now_ms)


def _dump_postgresql(url: URL, folder: Path, now_ms: int) -> Manifest:
    copy = folder / "registry.dump"
    database = Database(url.render_as_string(hide_password=False))
    try:
        engine = database.engine.execution_options(isolation_level="REPEATABLE READ")
        with engine.connect() as connection, connection.begin():
            snapshot = str(connection.exec_driver_sql("SELECT pg_export_snapshot()").scalar_one())
            manifest, rows = _facts(connection, now_ms)
            postgresql_tool("pg_dump", url, "--format=custom", f"--snapshot={snapshot}", f"--file={copy}")
    except sa.exc.DBAPIError as error:
        raise RegistryError(f"the registry cannot be read: {error.orig}") from error
    finally:
        database.close()
    manifest.parts.append(_part(copy, "registry", "postgresql", rows))
    return manifest


def postgresql_tool(program: str, url: URL, *arguments: str) -> None:
    """Run pg_dump or pg_restore on a database; the password goes by the environment, never by the command line.

    Raises: RegistryError with what the tool said.
    """
    found = shutil.which(program) or _newest(program)
    if found is None:
        raise RegistryError(f"{program} is not installed here; Debian has it in postgresql-client")
    plain = URL.create("postgresql", url.username, None, url.host, url.port, url.database, url.query)
    env = {**os.environ, "PGPASSWORD": str(url.password)} if url.password else dict(os.environ)
    command = [found, "--no-password", f"--dbname={plain.render_as_string(hide_password=False)}", *arguments]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, env=env, check=False)
    if done.returncode:
        raise RegistryError(f"{program} failed: {done.stderr.strip()[-1000:]}")


def _newest(program: str) -> str | None:
    """Debian's wrapper may be missing where only a server is installed."""
    found = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{program}"), key=lambda path: path.parts[-3].zfill(4))
    return str(found[-1]) if found else None


def _facts(connection: Connection, now_ms: int) -> tuple[Manifest, dict[str, int]]:
    """Return the manifest without parts, and the rows of every table, in the state that this connection sees."""
    head = audit.head(connection)
    present = set(sa.inspect(connection).get_table_names())
    rows = {
        table.name: int(connection.execute(sa.select(sa.func.count()).select_from(table)).scalar_one())
        for table in Base.metadata.sorted_tables
        if table.name in present
    }
    revision = str(connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar_one())
    known = {f"{p.gateway} {p.epoch}": p.spans[-1][1] for p in load_positions(connection).values() if p.spans}
    number, digest = (head.number, head.hash) if head else (0, audit.GENESIS)
    return Manifest(FORMAT, __version__, now_ms, revision, number, digest, known, "left out", []), rows


# -- the rest ------------------------------------------------------------------------------------------------------


def _copy_store(settings: Settings, folder: Path, manifest: Manifest) -> None:
    if settings.store.kind != "sqlite":
        manifest.notes.append(
            "readings are in InfluxDB, which is not in this archive: take `influxd backup -portable -database "
            f"{settings.store.influxdb.database} FOLDER` after this one, and restore both (docs/deployment.md)"
        )
        return
    if not settings.store.path.exists():
        manifest.notes.append(f"there was no store at {settings.store.path}: ingest makes it when it starts")
        return
    copy = folder / "readings.db"
    try:
        copy_sqlite(settings.store.path, copy)
        with closing(sqlite3.connect(copy)) as connection:
            rows = {name: _count(connection, name) for name in ("meter", "reading")}
    except sqlite3.Error as error:
        raise StoreError(f"{settings.store.path} cannot be copied: {error}") from error
    manifest.parts.append(_part(copy, "store", "sqlite", rows))


def _count(connection: sqlite3.Connection, table: str) -> int:
    known = connection.execute("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?", (table,)).fetchone()
    return int(connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]) if known else 0


def _copy_settings(source: Path | None, folder: Path, manifest: Manifest, *, secrets: bool) -> None:
    if source is None:
        manifest.notes.append("there was no settings file")
        return
    text = source.read_text("utf-8")
    if secrets:
        manifest.secrets = "included: whoever has this archive has them"
    else:
        text, left_out = without_secrets(text)
        manifest.notes += [f"left out of the settings: {name}" for name in left_out]
    copy = folder / "settings.toml"
    copy.write_text(text, "utf-8")
    manifest.parts.append(_part(copy, "settings", "toml", {}))


def _copy_anchors(settings: Settings, folder: Path) -> list[Part]:
    if not settings.audit.anchors.exists():
        return []
    copy = folder / "audit-anchors.jsonl"
    shutil.copyfile(settings.audit.anchors, copy)
    return [_part(copy, "anchors", "jsonl", {"anchor": copy.read_bytes().count(b"\n")})]


def copy_sqlite(source: Path, copy: Path) -> None:
    """Copy a database that others may be writing, in one read transaction, and look that the copy is sound.

    Raises: sqlite3.Error, RegistryError.
    """
    with _reading(source) as connection, closing(sqlite3.connect(copy, isolation_level=None)) as target:
        connection.backup(target)
        target.execute("PRAGMA journal_mode = DELETE")
        (said,) = target.execute("PRAGMA quick_check").fetchone()
        if said != "ok":
            raise RegistryError(f"the copy of {source} is not sound: {said}")


@contextmanager
def _reading(source: Path) -> Iterator[sqlite3.Connection]:
    """Open for reading; a WAL file that nobody has open needs to be writable, so that it can be read at all."""
    for mode in ("ro", "rw"):
        connection = sqlite3.connect(f"{source.absolute().as_uri()}?mode={mode}", uri=True, timeout=_BUSY_S)
        try:
            connection.execute("PRAGMA query_only = 1")
            connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        except sqlite3.OperationalError:
            connection.close()
            if mode == "rw":
                raise
            continue
        with closing(connection):
            yield connection
        return


def _part(path: Path, role: str, kind: str, rows: dict[str, int]) -> Part:
    return Part(path.name, role, kind, path.stat().st_size, sha256(path), rows)


def sha256(path: Path) -> str:
    """Return the hash of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while piece := file.read(_CHUNK):
            digest.update(piece)
    return digest.hexdigest()


def _pack(folder: Path, manifest: Manifest, target: Path) -> None:
    """Manifest first, so that it can be read without unpacking the rest."""
    fresh = folder / "archive"
    names = [MANIFEST, *(part.name for part in manifest.parts)]
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as raw:
        with (
            gzip.GzipFile(target.name.removesuffix(".gz"), "wb", 6, raw) as packed,
            tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as tar,
        ):
            for name in names:
                tar.add(folder / name, name, filter=_nobody)
        raw.flush()
        os.fsync(raw.fileno())
    os.replace(fresh, target)
    sync_folder(target.parent)


def _nobody(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    member.mode = 0o600
    return member


def read_manifest(text: str) -> Manifest:
    """Raises: SettingsError when it is not a manifest that this program understands."""
    try:
        facts: dict[str, Any] = json.loads(text)
        if facts["format"] != FORMAT:
            raise SettingsError(f"the archive has format {facts['format']}; this program reads {FORMAT}")
        return Manifest(**{**facts, "parts": [Part(**part) for part in facts["parts"]]})
    except (ValueError, KeyError, TypeError) as error:
        raise SettingsError(f"the archive's manifest cannot be read: {error}") from error
