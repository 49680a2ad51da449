"""Recordings: raw frames with their times as JSON lines, one frame a line. `docs/recordings.md` is their manual.

    {"line":"header","v":1,"gateway":"gw-east","at":1772323200000,"t":8123.4,"buses":[{"name":"stair-3",…}]}
    {"line":"frame","t":8123.512034,"at":1772323200112,"bus":"stair-3","meter":"W-1","dir":"tx","hex":"fefefe68…"}
    {"line":"frame","t":8123.604,"at":1772323200204,"bus":"stair-3","meter":"W-1","dir":"rx","hex":"68…"}
    {"line":"note","t":8124.0,"at":1772323200600,"note":"dropped","count":17}

A reader takes what is sound and names every other line: the end of a file that was cut, a line of something else.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Final, Literal

import msgspec

from metering.errors import SettingsError
from metering.reading import TimeMs

VERSION: Final = 1
MAX_LINE: Final = 4 * 1024 * 1024
"""[bytes] longest line: one MQTT message of a megabyte in hex, and its topic."""
Seconds = Annotated[float, msgspec.Meta(ge=-1e12, le=1e12)]
"""[s] of the recording host's monotonic clock; finite."""
Direction = Literal["tx", "rx"]
_After = Annotated[float, msgspec.Meta(ge=0, le=1e6)]
_Size = Annotated[int, msgspec.Meta(ge=1, le=MAX_LINE)]


class RecordedBus(msgspec.Struct, omit_defaults=True, frozen=True):
    """What replay must know of a bus. kind: as in a plan, or mqtt. timeout_s: [s] its master waits for an answer."""

    name: Annotated[str, msgspec.Meta(min_length=1, max_length=64)]
    kind: Literal["modbus-tcp", "serial", "serial-tcp", "mqtt"] = "serial"
    baud: int = 9600
    timeout_s: float = 2.0


class Header(msgspec.Struct, tag_field="line", tag="header", omit_defaults=True):
    """The first line of a file. at, t: one moment on both clocks. part: of a recording in several files."""

    v: int
    gateway: str = ""
    at: TimeMs = 0
    t: Seconds = 0.0
    part: int = 1
    program: str = ""
    buses: list[RecordedBus] = []


class Frame(msgspec.Struct, tag_field="line", tag="frame", omit_defaults=True):
    """Bytes that went over a line, or one message of a broker.

    t: [s] monotonic, of the first byte. dir: tx leaves us, rx comes in. pieces: where it came in several, [s] after t
    and [bytes] of each. meter: who was being asked, "" when nobody was (or when a message does not tell).
    topic, qos, retain: of MQTT.
    """

    t: Seconds
    at: TimeMs
    dir: Direction
    hex: str
    bus: str = ""
    meter: str = ""
    pieces: list[tuple[_After, _Size]] = []
    topic: str = ""
    qos: int = 0
    retain: bool = False

    @property
    def data(self) -> bytes:
        """The bytes."""
        return bytes.fromhex(self.hex)


class Note(msgspec.Struct, tag_field="line", tag="note", omit_defaults=True):
    """Something about the recording itself. note: dropped (count lines that had no room), ended, or a later word."""

    t: Seconds
    at: TimeMs
    note: str
    bus: str = ""
    count: int = 0
    text: str = ""


Line = Header | Frame | Note
_ENCODER: Final = msgspec.json.Encoder()
_DECODER: Final = msgspec.json.Decoder(Line)


@dataclass(slots=True)
class Recording:
    """What of a recording is sound. faults: one sentence for every line that is not, with its file and number."""

    header: Header
    frames: list[Frame] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    @property
    def buses(self) -> dict[str, RecordedBus]:
        """The buses of the header, and those that only frames name."""
        found = {bus.name: bus for bus in self.header.buses}
        for frame in self.frames:
            if frame.bus not in found:
                found[frame.bus] = RecordedBus(frame.bus, "mqtt" if frame.topic else "serial")
        return found

    @property
    def dropped(self) -> int:
        """Lines for which there was no room when it was made."""
        return sum(note.count for note in self.notes if note.note == "dropped")


def encode_line(line: Line) -> bytes:
    """Return the line with its newline."""
    return _ENCODER.encode(line) + b"\n"


def decode_line(raw: bytes) -> Line:
    """Raises: ValueError that says what is wrong with it."""
    if len(raw) > MAX_LINE:
        raise ValueError(f"{len(raw)} bytes; {MAX_LINE} are allowed")
    try:
        line: Line = _DECODER.decode(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(str(error)) from None
    if isinstance(line, Frame):
        bytes.fromhex(line.hex)  # ValueError: not hex
        if not line.hex and not line.topic:
            raise ValueError("a frame without bytes")
        if line.pieces and sum(size for _, size in line.pieces) * 2 != len(line.hex):
            raise ValueError("its pieces are not as long as the frame")
    if isinstance(line, Header) and line.v != VERSION:
        raise ValueError(f"version {line.v}; this program reads {VERSION}")
    return line


def read_recording(*paths: Path) -> Recording:
    """Read the files of one recording in their order; what is not sound is named and left out.

    Raises: OSError; SettingsError when nothing in them is a line of a recording.
    """
    found = Recording(Header(VERSION))
    headed = False
    for path in paths:
        for name, line in _lines(path, found.faults):
            if isinstance(line, Frame):
                found.frames.append(line)
            elif isinstance(line, Note):
                found.notes.append(line)
            elif not headed:
                found.header, headed = line, True
            else:
                known = {bus.name for bus in found.header.buses}
                found.header.buses += [bus for bus in line.buses if bus.name not in known]
                if line.gateway and found.header.gateway not in ("", line.gateway):
                    found.faults.append(f"{name}: a header of gateway {line.gateway!r} in one of another")
    if not headed and not found.frames:
        names = ", ".join(path.name for path in paths)
        raise SettingsError([f"{names}: no recording: not one line of it is sound", *found.faults[:3]])
    if not headed:
        found.faults.insert(0, f"{paths[0].name}: no sound header: buses are taken for serial ones")
        found.header.at, found.header.t = found.frames[0].at, found.frames[0].t
    return found


def select(recording: Recording, *, buses: Iterable[str] = (), meters: Iterable[str] = ()) -> Recording:
    """Return only these buses and meters; all where none are named."""
    wanted, whom = frozenset(buses), frozenset(meters)
    frames = [f for f in recording.frames if f.bus in (wanted or (f.bus,)) and f.meter in (whom or (f.meter,))]
    return Recording(recording.header, frames, recording.notes, recording.faults)


def _lines(path: Path, faults: list[str]) -> Iterator[tuple[str, Line]]:
    with path.open("rb") as file:
        number = 0
        while raw := file.readline(MAX_LINE + 1):
            number += 1
            name = f"{path.name}:{number}"
            if len(raw) > MAX_LINE:
                faults.append(f"{name}: longer than {MAX_LINE} bytes; left out")
                while raw and not raw.endswith(b"\n"):
                    raw = file.readline(MAX_LINE)
                continue
            if not raw.strip():
                continue
            try:
                yield name, decode_line(raw)
            except ValueError as error:
                cut = "" if raw.endswith(b"\n") else " (the file was cut here)"
                faults.append(f"{name}: {error}{cut}: {raw[:60]!r}")
