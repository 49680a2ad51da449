"""`metergate backup` and `metergate restore`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from sqlalchemy.engine import make_url

from metergate.backup import SUFFIX, name_at, prune, take
from metergate.console import emit, errors_as_words, say
from metergate.restore import gateways_words, opened, places_in, places_of, prove, put
from metergate.running import ConfigOption
from metergate.settings import load_settings
from metering.clock import SystemClock
from metering.errors import SettingsError


def backup(
    to: Annotated[Path, typer.Option("--to", "-t", help="A new file, or a folder that collects archives.")],
    config: ConfigOption = None,
    keep: Annotated[int, typer.Option(min=1, max=10_000, help="Archives that a folder keeps, the newest ones.")] = 8,
    secrets: Annotated[bool, typer.Option("--with-secrets", help="Leave passwords in the settings file.")] = False,
) -> None:
    """Copy registry, embedded store, settings and audit anchors into one archive, while everything runs.

    Example: metergate backup --config metergate.toml --to /var/backups/metergate/
    """
    with errors_as_words():
        now, folder = SystemClock().now_ms(), to if to.is_dir() or not to.name.endswith(SUFFIX) else None
        target = to if folder is None else folder / name_at(now)
        manifest = take(load_settings(config), config, target, now, secrets=secrets)
        emit(manifest.text().rstrip("\n"))
        for note in manifest.notes:
            say(f"note: {note}")
        say(f"{target}: {target.stat().st_size} bytes, {len(manifest.parts)} parts, mode 0600")
        for gone in prune(folder, keep) if folder else ():
            say(f"{gone.name} was older than the newest {keep} and is removed")


def restore(
    archive: Annotated[Path, typer.Argument(help="An archive of metergate backup.")],
    into: Annotated[Path | None, typer.Option("--into", help="Folder for the parts as files.")] = None,
    config: ConfigOption = None,
    replace: Annotated[bool, typer.Option("--replace", help="Put aside what is there already.")] = False,
) -> None:
    """Bring a backup back: into a folder, or (--config) to where the settings say. Stop the services before.

    The archive is verified before anything is touched, the audit's chain afterwards.

    Example: metergate restore metergate-backup-20260301T020000Z.tar.gz --config metergate.toml
    """
    with errors_as_words():
        if (into is None) == (config is None):
            raise SettingsError("say where to: either --into FOLDER or --config FILE")
        settings = load_settings(config)
        near = into or _near(settings.registry.url, settings.store.path)
        now = SystemClock().now_ms()
        with opened(archive, near) as (manifest, folder):
            places = places_in(into, manifest) if into is not None else places_of(settings, manifest)
            said = put(places, folder, now, replace=replace)
        url = settings.registry.url if into is None else f"sqlite:///{into / 'registry.db'}"
        if into is not None and not (into / "registry.db").exists():
            said.append("registry.dump is for pg_restore: give --config with the registry's URL to have it filled")
        else:
            anchors = settings.audit.anchors if into is None else into / "audit-anchors.jsonl"
            said += prove(url, anchors, manifest)
        for line in [*said, *manifest.notes, *gateways_words(manifest)]:
            say(line)


def _near(url: str, store: Path) -> Path:
    """Return a folder on the disk that the restored files go to."""
    found = make_url(url)
    is_file = found.get_backend_name() == "sqlite" and found.database
    return Path(found.database or "").parent if is_file else store.parent
