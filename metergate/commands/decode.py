"""`metergate decode`: frames in hex become one JSON object each; `--golden` judges a file of frames."""

from __future__ import annotations

import difflib
import json
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from gateway.protocols import golden
from metergate.console import EXIT_FAILED, emit, errors_as_words, say
from metering.errors import ProtocolError, SettingsError

_SEPARATORS: Final = re.compile(r"0[xX]|[\s:,;-]+")


def decode(
    protocol: Annotated[
        str, typer.Argument(help="cjt188, dlt645-2007, modbus-rtu, mbus, ...; any other word lists them all.")
    ] = "",
    frames: Annotated[
        list[str] | None,
        typer.Argument(metavar="[HEX]...", help="Bytes in hex; without any, lines of standard input."),
    ] = None,
    golden_file: Annotated[
        Path | None, typer.Option("--golden", help="Judge every entry of this file of golden frames.")
    ] = None,
    context: Annotated[
        str,
        typer.Option("--context", help='What the decoder must be told, as JSON: {"key": "00..."}, {"f_port": 10}.'),
    ] = "{}",
    topic: Annotated[str, typer.Option("--topic", help="Topic of an MQTT message.")] = "",
    text: Annotated[bool, typer.Option("--text", help="The input is text (JSON payloads), not hex.")] = False,
) -> None:
    """Take frames apart: one JSON object per frame on standard output, exit code 1 when one was refused.

    Example: metergate decode cjt188 "FE FE 68 10 12 00 00 00 00 00 00 01 03 90 1F 00 3D 16"

    Example: metergate decode --golden frames.json
    """
    with errors_as_words():
        if golden_file is not None:
            fine = _judge_file(golden_file, protocol)
        else:
            _known(protocol)
            entry = {"context": _context(context), "topic": topic}
            fine = _decode_all(protocol, _inputs(frames or [], text=text), entry)
    if not fine:
        raise typer.Exit(EXIT_FAILED)


def _known(protocol: str) -> None:
    if protocol in golden.PROTOCOLS:
        return
    near = difflib.get_close_matches(protocol, golden.PROTOCOLS, 1)
    hint = f'; did you mean "{near[0]}"?' if near else ""
    raise SettingsError(f'PROTOCOL = "{protocol}": allowed: {", ".join(golden.PROTOCOLS)}{hint}')


def _context(given: str) -> dict[str, Any]:
    try:
        found = json.loads(given)
    except (ValueError, RecursionError) as error:
        raise SettingsError(f"--context: {error}") from None
    if not isinstance(found, dict):
        raise SettingsError('--context: a JSON object is needed, for example {"key": "0102..."}')
    return found


def _inputs(given: list[str], *, text: bool) -> Iterator[bytes]:
    """Yield the recordings: the arguments, or the lines of standard input; blank lines are left out.

    Raises: SettingsError, for a line that is not hex.
    """
    if given and all(len(word) <= 2 for word in given):
        given = [" ".join(given)]  # bytes that were typed without quotes
    lines: Iterable[str] = given or sys.stdin
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        if text:
            yield line.strip("\r\n").encode()
            continue
        try:
            yield bytes.fromhex(_SEPARATORS.sub("", line))
        except ValueError:
            raise SettingsError(f"input {number}: {line.strip()[:60]!r} is not hex; for text give --text") from None


def _decode_all(protocol: str, recordings: Iterable[bytes], entry: Mapping[str, Any]) -> bool:
    """Print every frame of every recording; False when one was refused."""
    fine = True
    for raw in recordings:
        for said in _decode_one(protocol, raw, entry):
            fine &= said["valid"]
            emit(json.dumps(said, default=_plain, ensure_ascii=False))
    return fine


def _decode_one(protocol: str, raw: bytes, entry: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return what the frames say that are among the bytes; when there are none, why the bytes as a whole are none."""
    pieces = golden.split_frames(protocol, raw)
    if len(pieces) < 2:
        return [_said(protocol, raw, entry)]
    found = [_said(protocol, piece, entry) for piece in pieces]
    if not any(said["valid"] for said in found):
        return [_said(protocol, raw, entry)]
    noise = sum(len(said["hex"]) // 2 for said in found if said.get("error") == "frame")
    if noise:
        say(f"{noise} bytes that belong to no frame were skipped")
    return [said for said in found if said.get("error") != "frame"]


def _said(protocol: str, raw: bytes, entry: Mapping[str, Any]) -> dict[str, Any]:
    head = {"protocol": protocol, "valid": True, "hex": raw.hex()}
    try:
        return head | golden.adapter_of(protocol)(protocol, raw, entry)
    except ProtocolError as error:
        return head | {"valid": False, "error": error.sort, **error.facts, "message": error.message}
    except golden.MALFORMED as error:
        raise SettingsError(f"--context or --topic does not fit {protocol}: {error}") from error


def _judge_file(path: Path, protocol: str) -> bool:
    """Print per entry whether it passed or what differs, then the sums; True when all passed."""
    entries = _read_entries(path)
    if protocol:
        _known(protocol)
        entries = [entry for entry in entries if isinstance(entry, dict) and entry.get("protocol") == protocol]
    failed = 0
    for number, entry in enumerate(entries, 1):
        lines = golden.judge(entry) if isinstance(entry, dict) else ["not an object"]
        name = entry.get("id", f"entry {number}") if isinstance(entry, dict) else f"entry {number}"
        failed += bool(lines)
        emit(f"{name}: {'; '.join(lines)}" if lines else f"{name} passed")
    emit(f"{len(entries) - failed} passed, {failed} failed")
    return not failed


def _read_entries(path: Path) -> list[Any]:
    try:
        found = json.loads(path.read_text("utf-8"))
    except (ValueError, RecursionError) as error:
        raise SettingsError(f"{path.name}: not a JSON file: {error}") from None
    if not isinstance(found, list):
        raise SettingsError(f"{path.name}: a list of entries is needed, this is a {type(found).__name__}")
    return found


def _plain(value: object) -> str:
    """Write a Decimal as the digits the meter sent: 0.00, not 0E-2."""
    return f"{value:f}" if isinstance(value, Decimal) else str(value)
