"""Compare what two runs came to: readings, events, findings, orders, totals, counts; the difference in words.

A run is a folder (or one file) of JSON lines or CSV, also .gz. Files of one name are compared line by line, by key;
of any other file only whether its bytes are the same.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from metering.clock import rfc3339
from metering.errors import SettingsError

KEYS: Final[dict[str, tuple[str, ...]]] = {
    "readings": ("meter", "meter_id", "read_at", "ts"),
    "events": ("meter", "at", "kind", "cause"),
    "findings": ("meter_id", "meter", "usage_point", "kind", "rule", "started_at"),
    "orders": ("place", "usage_point", "usage_point_id", "meter", "type", "kind", "opened_at"),
    "totals": ("usage_point", "usage_point_id", "meter", "period", "line"),
    "counts": ("bus", "meter", "kind"),
    "labels": ("meter_id", "kind", "start"),
    "hard_negatives": ("meter_id", "kind", "start"),
    "weather": ("date",),
}
"""What tells one line of a sort of file from another; of these, the columns that it has."""
_MS_DIGITS: Final = 13
_MEMBER: Final = {".jsonl", ".ndjson", ".csv", ".json"}
Key = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Difference:
    """One line that differs. change: column -> (in A, in B); None where the line is absent."""

    file: str
    key: Key
    change: Mapping[str, tuple[Any, Any]] | None
    only_in: str = ""

    def __str__(self) -> str:
        words = [_show(part) for n, part in enumerate(self.key) if not n or part != self.key[n - 1]]
        where = f"{self.file} {' '.join(words)}".rstrip()
        if self.change is None:
            return f"{where}: only in {self.only_in}"
        return f"{where}: " + ", ".join(f"{name} {_show(a)} -> {_show(b)}" for name, (a, b) in self.change.items())


@dataclass(slots=True)
class Comparison:
    """What was found. lines: file -> how many in A and in B."""

    differences: list[Difference] = field(default_factory=list)
    lines: dict[str, tuple[int, int]] = field(default_factory=dict)

    @property
    def same(self) -> bool:
        """True when nothing differs."""
        return not self.differences

    def in_words(self, most: int) -> Iterator[str]:
        """Yield the differences of each file one by one, of a file with more than `most` how many at each meter."""
        for name in self.lines:
            mine = [d for d in self.differences if d.file == name]
            many = len(mine) > most and any(d.key for d in mine)
            lines = list(_by_meter(name, mine)) if many else [str(d) for d in mine]
            yield from lines[:most]
            if len(lines) > most:
                yield f"{name}: … and {len(lines) - most} more"

    def summary(self) -> Iterator[str]:
        """Yield one sentence a file."""
        for name, (a, b) in self.lines.items():
            mine = [d for d in self.differences if d.file == name]
            if not mine:
                yield f"{name}: the same {a} lines"
                continue
            changed = sum(d.change is not None for d in mine)
            only = Counter(d.only_in for d in mine if d.change is None)
            yield f"{name}: {a} lines in A, {b} in B; only in A {only['A']}, only in B {only['B']}, changed {changed}"


def compare(a: Path, b: Path) -> Comparison:
    """Compare two runs. Raises: SettingsError when there is nothing to compare or a line is none; OSError."""
    found = Comparison()
    left, right = _files(a), _files(b)
    if not left and not right:
        raise SettingsError(f"{a} and {b}: no file to compare")
    for name in sorted(left.keys() | right.keys()):
        if name not in left or name not in right:
            found.differences.append(Difference(name, (), None, "A" if name in left else "B"))
            found.lines[name] = (int(name in left), int(name in right))
        elif name in KEYS:
            _compare_lines(name, _rows(left[name], name), _rows(right[name], name), found)
        elif left[name].suffix == right[name].suffix == ".json":
            change = dict(_changes({name: _document(left[name])}, {name: _document(right[name])}))
            found.lines[name] = (1, 1)
            found.differences += [Difference(name, (), {path: both}) for path, both in change.items()]
        else:
            same = left[name].read_bytes() == right[name].read_bytes()
            found.lines[name] = (1, 1)
            found.differences += [] if same else [Difference(name, (), {"bytes": ("of A", "others in B")})]
    return found


def _compare_lines(name: str, a: Mapping[Key, Any], b: Mapping[Key, Any], found: Comparison) -> None:
    found.lines[name] = (len(a), len(b))
    for key in sorted(a.keys() | b.keys()):
        if key not in a or key not in b:
            found.differences.append(Difference(name, key, None, "A" if key in a else "B"))
        elif a[key] != b[key]:
            found.differences.append(Difference(name, key, dict(_changes(a[key], b[key]))))


def _changes(a: Mapping[str, Any], b: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, tuple[Any, Any]]]:
    for column in dict.fromkeys((*a, *b)):
        one, other = a.get(column), b.get(column)
        if isinstance(one, dict) and isinstance(other, dict):
            yield from _changes(one, other, f"{above}{column}.")
        elif one != other:
            yield f"{above}{column}", (one, other)


def _by_meter(name: str, differences: list[Difference]) -> Iterator[str]:
    """Say how many lines differ at each meter (or whatever the key begins with)."""
    found: dict[str, Counter[str]] = {}
    for each in differences:
        sort = f"only in {each.only_in}" if each.change is None else "changed"
        found.setdefault(each.key[0] if each.key else "", Counter())[sort] += 1
    for first, sorts in found.items():
        yield f"{name} {first}: " + ", ".join(f"{count} {sort}" for sort, count in sorted(sorts.items()))


def _document(path: Path) -> Any:
    try:
        return json.loads(path.read_bytes())
    except ValueError as error:
        raise SettingsError(f"{path.name}: no JSON: {error}") from None


def _files(path: Path) -> dict[str, Path]:
    """Return the files of a run by the word that they begin with; one file alone stands for its folder."""
    if not path.is_dir():
        path.stat()  # OSError: there is none
        return {path.name.split(".")[0]: path}
    return {each.name.split(".")[0]: each for each in sorted(path.iterdir()) if _MEMBER & set(each.suffixes)}


def _rows(path: Path, sort: str) -> dict[Key, dict[str, Any]]:
    raw = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    rows: dict[Key, dict[str, Any]] = {}
    twice: Counter[Key] = Counter()
    for row in _parse(raw.decode("utf-8-sig"), path):
        key = tuple(str(row[column]) for column in KEYS[sort] if row.get(column) not in (None, ""))
        twice[key] += 1
        rows[(*key, f"({twice[key]})") if twice[key] > 1 else key] = row
    return rows


def _parse(text: str, path: Path) -> Iterator[dict[str, Any]]:
    if ".csv" in path.suffixes:
        yield from csv.DictReader(io.StringIO(text))
        return
    for number, line in enumerate(text.splitlines(), start=1):
        try:
            row = json.loads(line)
        except ValueError as error:
            raise SettingsError(f"{path.name}:{number}: no JSON line: {error}") from None
        if not isinstance(row, dict):
            raise SettingsError(f"{path.name}:{number}: a JSON object is needed")
        yield row


def _show(value: Any) -> str:
    """A value as a person reads it: [ms since 1970] of this century as a time."""
    text = "nothing" if value is None else str(value)
    return rfc3339(int(text)) if len(text) == _MS_DIGITS and text.isdecimal() else text
