"""The office's side of commands, from the settings: the signing key, and which meter models take a time."""

from __future__ import annotations

import structlog

from api.command_office import CommandOffice
from gateway.profiles import load_profiles
from metergate.settings import Settings
from metering.signing import load_or_make_key

_log = structlog.get_logger(__name__)


def make_command_office(settings: Settings) -> CommandOffice | None:
    """Return it; None, and said in the log, where the key can neither be read nor made.

    Raises: SettingsError when the file is there and no key, or others may read it.
    """
    path = settings.commands.signing_key
    try:
        key = load_or_make_key(path)
    except OSError as error:
        _log.warning("no commands to gateways: no signing key", file=str(path), why=error.strerror)
        return None
    return CommandOffice(settings.commands, key, models_with_clock(settings), settings.broker)


def models_with_clock(settings: Settings) -> frozenset[str]:
    """Return the ids of the meter models whose clock can be set."""
    profiles = load_profiles(*settings.gateway.profiles)
    return frozenset(name for name, profile in profiles.items() if profile.takes_time)
