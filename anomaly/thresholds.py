"""Thresholds as data: defaults, overrides by medium, class and meter, and the date from which each counts."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from anomaly.meters import CLASSES, MEDIA, OTHER_CLASS, MeterTable
from metering.errors import SettingsError

DEFAULT_FILE: Final = Path(__file__).with_name("thresholds.toml")
_KEYS: Final = {"medium", "class", "meter", "from", "set"}
_WIDE: Final = ("engine.", "outage.", "festival.", "guests.", "low_battery.", "supply_balance.")
_WIDE_NAMES: Final = frozenset({"stuck.max_still_share", "leak.daily_min_score"})


def is_wide(name: str) -> bool:
    """True for a threshold that is one for all meters and all dates (`Thresholds.number`)."""
    return name.startswith(_WIDE) or name in _WIDE_NAMES


@dataclass(frozen=True, slots=True)
class Override:
    """`values` count for meters that fit medium, class and meter ("" fits all), from `since` on (None: always).

    origin: where it stands, for people.
    """

    values: Mapping[str, float]
    medium: str = ""
    customer_class: str = ""
    meter: str = ""
    since: date | None = None
    origin: str = ""

    def covers(self, medium: str, customer_class: str, meter: str) -> bool:
        """True when it counts for such a meter; "" is any medium, class or meter, which only an open entry covers."""
        mine = (self.medium, self.customer_class, self.meter)
        return all(own in ("", other) for own, other in zip(mine, (medium, customer_class, meter), strict=True))


@dataclass(frozen=True, slots=True)
class Source:
    """A value and where it comes from: "built-in", a file's entry, or "change 17". since: None for always."""

    value: float
    origin: str
    since: date | None = None


@dataclass(frozen=True, slots=True)
class Thresholds:
    """version: written into every finding. overrides: in order, later ones win.

    dated: (second from which it counts, version), ascending: a finding carries the version of its own day.
    """

    version: str
    defaults: Mapping[str, float]
    overrides: tuple[Override, ...] = ()
    dated: tuple[tuple[int, str], ...] = ()

    def version_at(self, at_s: int) -> str:
        """The version that judged the time just before `at_s` [s since 1970]: a day is judged at its end."""
        return next((version for since, version in reversed(self.dated) if since < at_s), self.version)

    def source(self, name: str, day: date, *, medium: str = "", customer_class: str = "", meter: str = "") -> Source:
        """The value of one meter (or of all those without an entry of their own) on a local day, and why."""
        found = Source(self.defaults[name], "built-in")
        for item in self.overrides:
            if name not in item.values or (item.since is not None and item.since > day):
                continue
            if is_wide(name) and (item.since is not None or not item.covers("", "", "")):
                continue
            if item.covers(medium, customer_class, meter):
                found = Source(item.values[name], item.origin or "built-in", item.since)
        return found

    def number(self, name: str) -> float:
        """A threshold that is one for all meters: entries for some meters or from some date do not count."""
        wide = [
            o for o in self.overrides if name in o.values and not (o.medium or o.customer_class or o.meter or o.since)
        ]
        return wide[-1].values[name] if wide else self.defaults[name]

    def resolve(self, name: str, meters: MeterTable, day: date) -> NDArray[np.float64]:
        """Value per meter on a local day."""
        out = np.full(len(meters), self.defaults[name], np.float64)
        for item in self.overrides:
            if name in item.values and (item.since is None or item.since <= day):
                out[_fits(item, meters)] = item.values[name]
        return out

    def change_days(self) -> frozenset[date]:
        """Days on which a value may change."""
        return frozenset(item.since for item in self.overrides if item.since is not None)

    def with_values(self, values: Mapping[str, float], *, version: str) -> Thresholds:
        """The same with some values set for every meter (back-test grids)."""
        return self.with_override(Override(dict(values)), version=version)

    def with_override(self, item: Override, *, version: str) -> Thresholds:
        """The same with one more entry, which wins."""
        return Thresholds(version, self.defaults, (*self.overrides, item))


def _fits(item: Override, meters: MeterTable) -> NDArray[np.bool_]:
    fits = np.ones(len(meters), bool)
    if item.medium:
        fits &= meters.medium == MEDIA.index(item.medium)
    if item.customer_class:
        fits &= meters.customer_class == (*CLASSES, OTHER_CLASS).index(item.customer_class)
    if item.meter:
        fits &= np.arange(len(meters)) == meters.rows.get(item.meter, -1)
    return fits


def load_thresholds(path: Path | None = None) -> Thresholds:
    """The packaged defaults, with the file `path` laid over them.

    Raises: SettingsError naming each entry that is not understood, with the nearest spelling.
    """
    base = _parse(DEFAULT_FILE, None)
    return base if path is None else _parse(path, base)


def _parse(path: Path, base: Thresholds | None) -> Thresholds:
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingsError(f"{path}: {error}") from error
    problems: list[str] = []
    for key in sorted(set(data) - {"version", "defaults", "override"}):
        problems.append(f"{path}: {key!r} is not known; allowed: version, defaults, override")
    values = _numbers(data.get("defaults", {}), f"{path}: [defaults]", problems)
    names = dict(values) if base is None else base.defaults
    _check_names(values, names, f"{path}: [defaults]", problems)
    origin = path.name if base is not None else "built-in"
    overrides = [
        _override(item, f"{path}: override {i + 1}", names, problems, f"{origin}: override {i + 1}")
        for i, item in enumerate(data.get("override", []))
    ]
    if problems:
        raise SettingsError(problems)
    if base is None:
        return Thresholds(str(data["version"]), values, tuple(overrides))
    version = str(data.get("version", f"{base.version}+{path.stem}"))
    wide = (Override(values, origin=f"{origin}: [defaults]"),) if values else ()
    return Thresholds(version, base.defaults, (*base.overrides, *wide, *overrides))


def check_values(values: Mapping[str, Any], names: Mapping[str, float]) -> list[str]:
    """What is wrong with values of a change, each with the nearest spelling; empty when all is well."""
    problems: list[str] = []
    _check_names(_numbers(values, "values", problems), names, "values", problems)
    return problems


def _override(item: Any, where: str, names: Mapping[str, float], problems: list[str], origin: str) -> Override:
    if not isinstance(item, dict):
        problems.append(f"{where}: not a table")
        return Override({})
    for key in sorted(set(item) - _KEYS):
        problems.append(f"{where}: {key!r} is not known; allowed: {', '.join(sorted(_KEYS))}")
    medium, kind = str(item.get("medium", "")), str(item.get("class", ""))
    if medium and medium not in MEDIA:
        problems.append(f"{where}: medium {medium!r} is not known; allowed: {', '.join(MEDIA)}")
        medium = ""
    if kind and kind not in (*CLASSES, OTHER_CLASS):
        problems.append(f"{where}: class {kind!r} is not known; allowed: {', '.join((*CLASSES, OTHER_CLASS))}")
        kind = ""
    since = item.get("from")
    if isinstance(since, str):
        try:
            since = date.fromisoformat(since)
        except ValueError:
            problems.append(f"{where}: from = {since!r} is not a date (2026-03-01)")
            since = None
    values = _numbers(item.get("set", {}), f"{where}: set", problems)
    _check_names(values, names, f"{where}: set", problems)
    return Override(values, medium, kind, str(item.get("meter", "")), since, origin)


def _numbers(table: Any, where: str, problems: list[str]) -> dict[str, float]:
    out: dict[str, float] = {}
    for name, value in (table if isinstance(table, dict) else {}).items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not np.isfinite(value):
            problems.append(f"{where}: {name} = {value!r} is not a number")
        elif value < 0:
            problems.append(f"{where}: {name} = {value!r} must be 0 or more")
        else:
            out[name] = float(value)
    return out


def _check_names(values: Mapping[str, float], names: Mapping[str, float], where: str, problems: list[str]) -> None:
    for name in values:
        if name not in names:
            near = difflib.get_close_matches(name, names, 1)
            problems.append(f"{where}: {name!r} is not known" + (f"; did you mean {near[0]!r}?" if near else ""))
