"""Meter models, one TOML file each, and the functions that read and check them."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from gateway.faults import sentences
from gateway.profile import Profile, build
from gateway.profile_checks import faults_of
from gateway.profile_file import ProfileFile
from metering.errors import SettingsError
from metering.settings import parse, read_text

__all__ = ["FOLDER", "load_profile", "load_profiles"]

FOLDER: Final = Path(__file__).parent


def load_profile(path: Path) -> Profile:
    """Read and check one profile file. Raises: SettingsError with one line per problem."""
    text = read_text(path)
    file = parse(text, ProfileFile, name=path.name)
    problems = sentences(faults_of(file, path.stem), text, path.name)
    if problems:
        raise SettingsError(problems)
    return build(file)


def load_profiles(*folders: Path) -> dict[str, Profile]:
    """Read every profile of our folder and of `folders` (a later one replaces an earlier of the same id).

    Raises: SettingsError with the problems of all files.
    """
    found: dict[str, Profile] = {}
    problems: list[str] = []
    for folder in (FOLDER, *folders):
        for path in sorted(folder.glob("*.toml")):
            try:
                found[path.stem] = load_profile(path)
            except SettingsError as error:
                problems += error.problems
    if problems:
        raise SettingsError(problems)
    return found
