"""Read a TOML file into a frozen, typed model; answer every mistake at once, in words.

A mistake is answered like this (one line each, all of them in one `SettingsError`):

    metergate.toml:7: gateway.poll_interval_s = -5: must be greater than 0
    metergate.toml:9: broker.prot: unknown setting; did you mean "port"?

Used for settings, plans and meter profiles. Settings may also come from the environment, where only the double
underscore is a setting: `METERGATE__BROKER__PORT=1884`; with `_FILE` at the end the value is read from that file, so
that a secret never stands in the environment (`METERGATE__BROKER__PASSWORD_FILE=/run/credentials/mqtt`).
"""

from __future__ import annotations

import difflib
import inspect
import re
import tomllib
import typing
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

from pydantic import BaseModel, ConfigDict, SecretStr, ValidationError
from pydantic_core import to_json

from metering.errors import SettingsError

ENV_PREFIX: Final = "METERGATE__"
MAX_FILE_BYTES: Final = 64 * 1024 * 1024


class SettingsModel(BaseModel):
    """Base of every settings section, plan and profile: frozen, strict types, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


M = TypeVar("M", bound=SettingsModel)
Path_ = tuple[str | int, ...]


def load(path: Path, model: type[M], env: Mapping[str, str] | None = None) -> M:
    """Read and check one file; `env` (usually `os.environ`) may override scalar values.

    Raises: SettingsError with one line per problem.
    """
    return parse(read_text(path), model, name=path.name, env=env)


def read_text(path: Path) -> str:
    """Return the text of a settings file. Raises: SettingsError when it cannot be read."""
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise SettingsError(f"{path}: larger than {MAX_FILE_BYTES >> 20} MiB")
        return path.read_text("utf-8")
    except OSError as error:
        raise SettingsError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise SettingsError(f"{path}: not UTF-8 at byte {error.start}") from error


def parse(text: str, model: type[M], *, name: str, env: Mapping[str, str] | None = None) -> M:
    """Check one TOML text. name: what the messages call the file."""
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{name}: not TOML: {error}") from error
    lines = locate(text)
    problems: list[str] = []
    if env:
        problems += _merge_environment(data, model, env)
    try:
        # JSON mode: strict about types, yet an array may fill a tuple and a string a path or a secret
        checked = model.model_validate_json(to_json(data))
    except ValidationError as error:
        problems += _explain(error, data, model, lines, name)
    if problems:
        raise SettingsError(problems)
    return checked


def locate(text: str) -> dict[Path_, int]:
    """Return the line [1…] on which each table and key of a TOML text stands.

    Good for the layout people write (one key a line, tables and arrays of tables); inside inline tables and arrays
    the line of the key that holds them answers.
    """
    lines: dict[Path_, int] = {}
    table: Path_ = ()
    seen: dict[Path_, int] = {}
    inside = ""  # closing mark of a multi-line string
    for number, line in enumerate(text.splitlines(), 1):
        if inside:
            inside = "" if inside in line else inside
            continue
        stripped = line.strip()
        if header := re.match(r"^\[(\[)?\s*([^\[\]]+?)\s*\]", stripped):
            table = _table_path(_split_key(header[2]), bool(header[1]), seen)
            lines.setdefault(table, number)
        elif key := re.match(r"""^((?:[A-Za-z0-9_.-]+|"[^"]*"|'[^']*'|\s*\.\s*)+?)\s*=""", stripped):
            lines.setdefault(table + _split_key(key[1]), number)
            for mark in ('"""', "'''"):
                if stripped.count(mark) % 2:
                    inside = mark
    return lines


def _table_path(keys: Path_, is_array: bool, seen: dict[Path_, int]) -> Path_:
    """Put the running numbers of arrays of tables into a header's path: [[bus.meter]] -> ("bus", 2, "meter", 0)."""
    path: Path_ = ()
    for depth, key in enumerate(keys):
        path += (key,)
        if is_array and depth == len(keys) - 1:
            seen[path] = seen.get(path, -1) + 1
        if path in seen:
            path += (seen[path],)
    return path


def _split_key(dotted: str) -> Path_:
    parts = re.findall(r""""[^"]*"|'[^']*'|[A-Za-z0-9_-]+""", dotted)
    return tuple(part.strip("\"'") for part in parts)


def line_of(path: Path_, lines: Mapping[Path_, int]) -> int | None:
    """Return the line of `path`, else of the nearest thing around it."""
    while path:
        if path in lines:
            return lines[path]
        path = path[:-1]
    return None


def spell(path: Path_) -> str:
    """("bus", 0, "port") -> "bus[0].port"."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def nearest(word: str, words: Sequence[str]) -> str:
    """Return ' did you mean "x"?' with the nearest of `words`, or what is allowed when nothing is near."""
    near = difflib.get_close_matches(word, words, n=1, cutoff=0.5)
    if near:
        return f'did you mean "{near[0]}"?'
    return "allowed: " + ", ".join(sorted(words)) if words else "nothing is allowed here"


def explain_row(error: ValidationError, row: Mapping[str, Any], model: type[BaseModel]) -> str:
    """Put all that is wrong with one row of a table into one line, column by column."""
    texts = []
    for fault in error.errors():
        path = _real_path(fault["loc"], dict(row))
        value = _at(dict(row), path)
        shown = "" if value is _NOTHING or value in ("", None) else f" = {_show(value, path, model)}"
        texts.append(f"{spell(path)}{shown}: {_allowed(fault, path, model)}")
    return "; ".join(texts)


def _explain(
    error: ValidationError, data: Any, model: type[BaseModel], lines: Mapping[Path_, int], name: str
) -> Iterator[str]:
    placed = [(line_of(path := _real_path(fault["loc"], data), lines), path, fault) for fault in error.errors()]
    for line, path, fault in sorted(placed, key=lambda found: found[0] or 0):
        where = f"{name}:{line}" if line else name
        value = _at(data, path)
        shown = "" if value is _NOTHING or isinstance(value, dict | list) else f" = {_show(value, path, model)}"
        yield f"{where}: {spell(path) or 'file'}{shown}: {_allowed(fault, path, model)}"


def _real_path(loc: tuple[int | str, ...], data: Any) -> Path_:
    """Drop the parts of a pydantic location that are not in the data (names of union members)."""
    path: Path_ = ()
    here = data
    for position, part in enumerate(loc):
        step = _at(here, (part,))
        if step is not _NOTHING:
            path, here = (*path, part), step
        elif position == len(loc) - 1 and isinstance(here, dict):
            path = (*path, part)
    return path


_NOTHING: Final = object()


def _at(data: Any, path: Path_) -> Any:
    for part in path:
        if isinstance(data, dict) and part in data:  # noqa: SIM114 (two kinds of containers)
            data = data[part]
        elif isinstance(data, list) and isinstance(part, int) and part < len(data):
            data = data[part]
        else:
            return _NOTHING
    return data


def _show(value: Any, path: Path_, model: type[BaseModel]) -> str:
    if _annotation(model, path) is SecretStr or (path and re.search(r"password|secret|token", str(path[-1]))):
        return "(hidden)"
    text = without_password(repr(value) if not isinstance(value, str) else f'"{value}"')
    return text if len(text) <= 80 else text[:77] + "…"


def without_password(text: str) -> str:
    """Return a text in which no URL shows its password; everything up to the last @ of a URL's host may be one."""
    return re.sub(r"(://[^:@/\s]*):[^\s]*@", r"\1:(hidden)@", text)


def _allowed(fault: Any, path: Path_, model: type[BaseModel]) -> str:
    kind, context = fault["type"], fault.get("ctx", {})
    if kind == "extra_forbidden":
        return f"unknown setting; {nearest(str(path[-1]), _keys(model, path[:-1]))}"
    if kind == "missing":
        return "is missing and has no default"
    if kind == "literal_error":
        words = re.findall(r"'([^']*)'", str(context.get("expected", "")))
        return "allowed: " + ", ".join(words) + "; " + nearest(str(fault["input"]), words)
    texts = {
        "greater_than": "must be greater than {gt}",
        "greater_than_equal": "must be {ge} or more",
        "less_than": "must be less than {lt}",
        "less_than_equal": "must be {le} or less",
        "int_type": "must be a whole number without quotes",
        "float_type": "must be a number without quotes",
        "bool_type": "must be true or false",
        "string_type": 'must be a text in "quotes"',
        "list_type": "must be a list [ … ]",
        "tuple_type": "must be a list [ … ]",
        "model_type": "must be a table",
        "dict_type": "must be a table",
        "string_pattern_mismatch": "must match {pattern}",
        "string_too_short": "must have {min_length} characters or more",
        "string_too_long": "must have {max_length} characters or fewer",
        "value_error": "{error}",
        "int_parsing": "must be a whole number",
        "float_parsing": "must be a number",
    }
    text: str = texts.get(kind, fault["msg"]).format(**context)
    bounds = _bounds(model, path)
    return f"{text} (allowed: {bounds})" if bounds and bounds not in text else text


def _bounds(model: type[BaseModel], path: Path_) -> str:
    """Spell the numeric limits of a field: "1 … 65535"."""
    owner = _model_at(model, path[:-1])
    field = owner.model_fields.get(str(path[-1])) if owner and path else None
    if field is None:
        return ""
    limit = {k: getattr(m, k) for m in field.metadata for k in ("gt", "ge", "lt", "le") if hasattr(m, k)}
    low = limit.get("ge", f"over {limit['gt']}" if "gt" in limit else None)
    high = limit.get("le", f"under {limit['lt']}" if "lt" in limit else None)
    if low is None and high is None:
        return ""
    if low is None:
        return f"{high} or less"
    return f"{low} … {high}" if high is not None else str(low) + ("" if "gt" in limit else " or more")


def _keys(model: type[BaseModel], path: Path_) -> list[str]:
    owner = _model_at(model, path)
    return list(owner.model_fields) if owner else []


def _annotation(model: type[BaseModel], path: Path_) -> Any:
    owner = _model_at(model, path[:-1])
    field = owner.model_fields.get(str(path[-1])) if owner and path else None
    return field.annotation if field else None


def _model_at(model: type[BaseModel], path: Path_) -> type[BaseModel] | None:
    """Follow field names to the model that owns the keys at `path`; list numbers are skipped."""
    here: type[BaseModel] | None = model
    for part in path:
        if here is None:
            return None
        if isinstance(part, str):
            field = here.model_fields.get(part)
            here = _first_model(field.annotation) if field else None
    return here


def _first_model(annotation: Any) -> type[BaseModel] | None:
    if inspect.isclass(annotation) and issubclass(annotation, BaseModel):
        return annotation
    for inner in typing.get_args(annotation):
        if found := _first_model(inner):
            return found
    return None


def _merge_environment(data: dict[str, Any], model: type[BaseModel], env: Mapping[str, str]) -> Iterator[str]:
    """Lay variables over `data`; yields a problem for each that fits no setting."""
    for variable, raw in sorted(env.items()):
        if not variable.startswith(ENV_PREFIX):
            continue
        *tables, key = variable.removeprefix(ENV_PREFIX).lower().split("__")
        owner = _model_at(model, tuple(tables))
        value = raw
        if owner is not None and key not in owner.model_fields and key.endswith("_file"):
            key = key.removesuffix("_file")
            try:
                value = Path(raw).read_text("utf-8").rstrip("\r\n")
            except (OSError, UnicodeDecodeError) as error:
                yield f"environment: {variable}: {raw} cannot be read: {error}"
                continue
        if owner is None or key not in owner.model_fields:
            known = _keys(model, tuple(tables)) if owner else list(model.model_fields)
            yield f"environment: {variable}: unknown setting; {nearest(key if owner else tables[0], known)}"
            continue
        table = data
        for part in tables:
            table = table.setdefault(part, {})
        table[key] = _typed(value, owner.model_fields[key].annotation)


def _typed(text: str, annotation: Any) -> Any:
    """Turn a variable's text into the TOML type its field wants; a text that does not fit is left to the check."""
    kinds = typing.get_args(annotation) or (annotation,)
    lowered = text.strip().lower()
    if bool in kinds and lowered in ("true", "false"):
        return lowered == "true"
    for kind in (int, float):
        if kind in kinds:
            try:
                return kind(text)
            except ValueError:
                continue
    if typing.get_origin(annotation) in (list, tuple):
        return [part.strip() for part in text.split(",") if part.strip()]
    return text
