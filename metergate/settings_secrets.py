"""Which settings are secrets, and a settings file without them."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from typing import Any, Final
from urllib.parse import urlsplit

from pydantic import BaseModel, SecretStr

from metergate.settings import Settings
from metering.settings import locate, spell

LEFT_OUT: Final = "# left out of the backup:"


def secrets_in(data: Mapping[str, Any], model: type[BaseModel] = Settings, path: tuple[str, ...] = ()) -> Iterator[
    tuple[tuple[str, ...], str]
]:  # fmt: skip
    """Yield (path, value) of every secret in the data of a settings file: secret fields, and URLs with a password."""
    for key, value in data.items():
        info = model.model_fields.get(key)
        kind = info.annotation if info else None
        if isinstance(value, Mapping) and isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from secrets_in(value, kind, (*path, key))
        elif isinstance(value, str) and value and (kind is SecretStr or has_password(value)):
            yield (*path, key), value


def has_password(text: str) -> bool:
    """True for a URL that carries a password, or anything in the place of one."""
    try:
        return "://" in text and urlsplit(text).password is not None
    except ValueError:
        return "://" in text and "@" in text


def without_secrets(text: str) -> tuple[str, list[str]]:
    """Return a settings file whose secrets are comments without values, and which they were.

    A file in which a secret cannot be found line by line (an odd layout) becomes one comment.
    """
    found = list(secrets_in(tomllib.loads(text)))
    places, lines = locate(text), text.splitlines()
    for path, _ in found:
        if line := places.get(path):
            lines[line - 1] = f"{LEFT_OUT} {path[-1]}"
    made = "".join(f"{line}\n" for line in lines)
    if _gives_away(made, [value for _, value in found]):
        made = (
            f"{LEFT_OUT} the whole file, because secrets stand in it in a way that cannot be cut out line by line\n"
        )
    return made, [spell(path) for path, _ in found]


def _gives_away(text: str, secrets: list[str]) -> bool:
    try:
        left = list(secrets_in(tomllib.loads(text)))
    except tomllib.TOMLDecodeError:
        return True
    return bool(left) or any(secret in text for secret in secrets)
