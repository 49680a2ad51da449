"""A house from an archive of `metergate.backup`: verified first, nothing overwritten unasked, proved afterwards."""

from __future__ import annotations

import os
import shutil
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import sqlalchemy as sa
from alembic.script import ScriptDirectory
from sqlalchemy.engine import make_url

from metergate.backup import MANIFEST, Manifest, Part, postgresql_tool, read_manifest, sha256
from metergate.files import sync_folder
from metergate.settings import Settings
from metering.errors import RegistryError, SettingsError
from registry import audit, audit_check
from registry.database import Database
from registry.models import PartLease

_MAX_MANIFEST: Final = 16 << 20
_ALLOWED: Final = frozenset(
    {"registry.db", "registry.dump", "readings.db", "settings.toml", "audit-anchors.jsonl"}
)  # what `backup` writes; nothing else is ever taken out of an archive
_MIGRATIONS: Final = Path(__file__).parent.parent / "registry" / "migrations"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a part goes. url: of a database that pg_restore fills, instead of a file."""

    part: Part
    path: Path | None = None
    url: str = ""


def places_in(folder: Path, manifest: Manifest) -> list[Place]:
    """Return where parts go that are restored as files into one folder."""
    return [Place(part, folder / part.name) for part in manifest.parts]


def places_of(settings: Settings, manifest: Manifest) -> list[Place]:
    """Return where parts go that these settings name; the archive's settings file is not among them.

    Raises: SettingsError when the archive's registry or store is of another kind than the settings'.
    """
    found = []
    url = make_url(settings.registry.url)
    for part in manifest.parts:
        if part.role == "registry":
            kind = "sqlite" if url.get_backend_name() == "sqlite" else "postgresql"
            if part.kind != kind:
                raise SettingsError(f"the archive's registry is {part.kind}, registry.url of the settings is {kind}")
            place = (
                Place(part, Path(url.database or "")) if kind == "sqlite" else Place(part, url=settings.registry.url)
            )
            found.append(place)
        elif part.role == "store":
            if settings.store.kind != part.kind:
                raise SettingsError(f"the archive's store is {part.kind}, store.kind is {settings.store.kind}")
            found.append(Place(part, settings.store.path))
        elif part.role == "anchors":
            found.append(Place(part, settings.audit.anchors))
    return found


@contextmanager
def opened(archive: Path, near: Path) -> Iterator[tuple[Manifest, Path]]:
    """Take an archive apart beside `near`; every part's size and hash are checked before anything is handed out.

    Raises: SettingsError when the archive is not ours, damaged, or of a newer program.
    """
    near.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".metergate-restore-", dir=near) as name:
        folder = Path(name)
        try:
            with tarfile.open(archive, "r:gz") as tar:
                manifest = _first(tar)
                _check_version(manifest)
                wanted = {part.name: part for part in manifest.parts}
                if set(wanted) - _ALLOWED or len(wanted) != len(manifest.parts):
                    raise SettingsError(f"{archive.name} names parts that no backup has: {', '.join(sorted(wanted))}")
                for member in tar:
                    if member.name in wanted:
                        _extract(tar, member, wanted[member.name], folder)
        except (tarfile.TarError, EOFError, OSError) as error:
            raise SettingsError(f"{archive} is not a whole archive: {error}") from error
        for part in manifest.parts:
            _verify(archive, part, folder / part.name)
        yield manifest, folder


def put(places: list[Place], folder: Path, now_ms: int, *, replace: bool) -> list[str]:
    """Put every part at its place; return a sentence for each.

    replace: what is there already is moved aside (files) or dropped (a PostgreSQL database's tables). Without it
    nothing is touched when anything is there. Raises: SettingsError, RegistryError.
    """
    if not replace and (there := [words for place in places if (words := _occupied(place))]):
        raise SettingsError([f"{words}; --replace restores all the same" for words in there])
    said = []
    for place in places:
        source = folder / place.part.name
        if place.path is None:
            clean = ("--clean", "--if-exists") if replace else ()
            url = make_url(place.url)
            how = ("--no-owner", "--exit-on-error", "--single-transaction", *clean)
            postgresql_tool("pg_restore", url, *how, str(source))
            said.append(f"{place.part.name}: into {url.render_as_string(hide_password=True)}")
            continue
        said.append(_put_file(source, place.path, now_ms))
    return said


def prove(url: str, anchors: Path, manifest: Manifest) -> list[str]:
    """Make a restored registry ready and prove its audit; return a sentence for each thing that was looked at.

    anchors: the restored file of them.
    Raises: RegistryError when the chain of the audit is broken or ends elsewhere than the manifest says.
    """
    anchored = any(part.role == "anchors" for part in manifest.parts)
    database = Database(url)
    try:
        database.upgrade()
        verdict = audit_check.check(database, anchors)
        faults = [fault.text for fault in verdict.faults if anchored or fault.sort != "anchors"]
        with database.read() as connection:
            head = audit.head(connection)
        found = (head.number, head.hash) if head else (0, audit.GENESIS)
        if found != (manifest.audit_number, manifest.audit_hash):
            faults.append(f"the audit ends at row {found[0]}; the manifest says {manifest.audit_number}")
        if faults:
            raise RegistryError(f"restored, but the audit is not whole: {'; '.join(faults)}")
        with database.begin() as connection:
            # the store may be some seconds ahead of this registry: ingest shall read all of it again
            connection.execute(sa.update(PartLease).values(floor=0))
    finally:
        database.close()
    return [f"audit: {verdict.rows} rows and {verdict.anchors} anchors, whole up to the head of the backup"]


def gateways_words(manifest: Manifest) -> list[str]:
    """Say what the house does not know any more, and what comes again by itself."""
    taken = datetime.fromtimestamp(manifest.taken_at / 1000, UTC).isoformat(timespec="seconds")
    return [
        f"{len(manifest.acknowledged)} outboxes of gateways are known as of {taken}",
        "what gateways still hold they send again by themselves; what they sent between then and now and was "
        "acknowledged they no longer hold: ingest reports it as counter_gap events",
    ]


def _first(tar: tarfile.TarFile) -> Manifest:
    member = tar.next()
    source = tar.extractfile(member) if member is not None and member.name == MANIFEST and member.isfile() else None
    if member is None or source is None or member.size > _MAX_MANIFEST:
        raise SettingsError("not an archive of metergate backup: it does not begin with a manifest")
    return read_manifest(source.read().decode("utf-8", "replace"))


def _check_version(manifest: Manifest) -> None:
    """An archive of older tables is brought up to date; one of newer tables nobody here understands."""
    known = {script.revision for script in ScriptDirectory(str(_MIGRATIONS)).walk_revisions()}
    if manifest.revision not in known:
        raise SettingsError(
            f"the archive is of metergate {manifest.version} with tables {manifest.revision}, newer than this program"
        )


def _extract(tar: tarfile.TarFile, member: tarfile.TarInfo, part: Part, folder: Path) -> None:
    source = tar.extractfile(member) if member.isfile() and member.size == part.bytes else None
    if source is None:
        raise SettingsError(f"{part.name} in the archive is not a file of {part.bytes} bytes")
    with os.fdopen(os.open(folder / part.name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as target:
        shutil.copyfileobj(source, target, 1 << 20)
        target.flush()
        os.fsync(target.fileno())


def _verify(archive: Path, part: Part, path: Path) -> None:
    if not path.exists():
        raise SettingsError(f"{archive.name} lacks {part.name}")
    if sha256(path) != part.sha256:
        raise SettingsError(f"{archive.name}: {part.name} is damaged: its SHA-256 is not the manifest's")


def _occupied(place: Place) -> str:
    if place.path is not None:
        there = [path for path in _files_of(place.path) if path.exists()]
        return f"{there[0]} is there already" if there else ""
    database = Database(place.url)
    try:
        with database.read() as connection:
            tables = sa.inspect(connection).get_table_names()
        shown = make_url(place.url).render_as_string(hide_password=True)
        return f"{shown} has {len(tables)} tables already" if tables else ""
    finally:
        database.close()


def _files_of(path: Path) -> list[Path]:
    """A file, and what SQLite keeps beside a database: a journal left there would be applied to the restored one."""
    return [path, *(path.with_name(f"{path.name}{end}") for end in ("-wal", "-shm", "-journal"))]


def _put_file(source: Path, path: Path, now_ms: int) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = [old for old in _files_of(path) if old.exists()]
    stamp = f"{datetime.fromtimestamp(now_ms // 1000, UTC):%Y%m%dT%H%M%SZ}"
    for old in aside:
        old.rename(old.with_name(f"before-{stamp}-{old.name}"))
    shutil.copyfile(source, fresh := path.with_name(f".{path.name}.restored"))
    fresh.chmod(0o600)
    if os.geteuid() == 0:
        owner = path.parent.stat()
        os.chown(fresh, owner.st_uid, owner.st_gid)
    with fresh.open("rb") as file:
        os.fsync(file.fileno())
    fresh.rename(path)
    sync_folder(path.parent)
    return f"{path}" + (f" (what was there is now before-{stamp}-{path.name})" if aside else "")
