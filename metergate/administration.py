"""What the commands of an administrator share: the registry, who is at the console, and an anchor at the end."""

from __future__ import annotations

import getpass
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from sqlalchemy.exc import DBAPIError

from metergate.console import errors_as_words, say
from metergate.running import registry
from metergate.settings import Settings, load_settings
from metering.clock import SystemClock, rfc3339
from metering.errors import RegistryError, SettingsError
from registry.anchors import anchor
from registry.database import Database
from registry.roles import Actor, Role, areas_from, console

RoleOptions = Annotated[
    list[Role] | None, typer.Option("--role", help="What he does for the utility; repeat for several.")
]
AreaOptions = Annotated[
    list[str] | None, typer.Option("--area", help="District that he may see; repeat; '*' stands for all.")
]


@dataclass(frozen=True, slots=True)
class Desk:
    """One command of an administrator. at: [ms UTC] its moment."""

    settings: Settings
    database: Database
    actor: Actor
    at: int


class _Words:
    """The anchors' log at a console: quiet unless something is wrong."""

    def info(self, event: str, **facts: Any) -> None:
        """Say nothing."""

    def error(self, event: str, **facts: Any) -> None:
        """Say it in words."""
        about = ", ".join(f"{name} {value}" for name, value in facts.items())
        say(f"{event.replace('_', ' ')} ({about}); see: metergate audit verify")


@contextmanager
def desk(config: Path | None, *, changes: bool) -> Iterator[Desk]:
    """Open the registry for one command; errors become words. changes: anchor the audit at the end."""
    with errors_as_words():
        settings = load_settings(config)
        try:
            with registry(settings) as database:
                yield Desk(settings, database, console(getpass.getuser()), SystemClock().now_ms())
                if changes:
                    _anchor(database, settings.audit.anchors)
        except DBAPIError as error:
            raise RegistryError(f"the registry failed: {error.orig}") from error


def _anchor(database: Database, path: Path) -> None:
    try:
        anchor(database, path, _Words(), SystemClock().now_ms())
    except OSError as error:
        say(f"the audit was not anchored: {error}; the API does it at its next turn")


def chosen_areas(areas: list[str] | None) -> frozenset[str] | None:
    """Return the districts of `--area`; none given is nowhere. Raises: SettingsError for an empty word."""
    if any(not area.strip() for area in areas or ()):
        raise SettingsError("--area: the name of a district, or '*' for all")
    return areas_from(areas or ())


def shown_time(at: int | None) -> str | None:
    """Return [ms UTC] as RFC 3339; None stays."""
    return None if at is None else rfc3339(at)
