"""The answer log: what every simulated meter said, and when. The judge of "nothing lost".

Text, one answer a line, tab between the columns, appended in the order of sending:

    number  at_ms  meter  unit  function  start  count  index  outcome

number: rises by one, also over restarts of the farm. at_ms: [ms UTC] when the answer left. start, count: registers
asked for. index: [10⁻⁶ house units] exactly as the registers said it, "-" when the answer did not hold the billed
quantity or no true value of it. outcome: "ok", or the name of the fault that spoiled the answer.
A line without its newline is an answer that was cut by a crash; it is left out by the reader and removed by the
next writer.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec

HEADER: Final = "# metergate answer log 1\tnumber\tat_ms\tmeter\tunit\tfunction\tstart\tcount\tindex\toutcome\n"
_TAIL_BYTES: Final = 65_536  # more than the longest line by far
_FLUSH_AT: Final = 4_096  # lines; bounds memory while the event loop is too busy for the timer


class Answer(msgspec.Struct, frozen=True, gc=False):
    """One answer; columns as in the module's text, index None for "-"."""

    number: int
    at_ms: int
    meter: str
    unit: int
    function: int
    start: int
    count: int
    index: int | None
    outcome: str


class AnswerLog:
    """Appends answers to a file; lines reach the file at `flush`, which the farm calls every 0.1 s and at its end."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        self._lines: list[str] = []
        self._number = _repair(self._file)

    def add(self, at_ms: int, asked: str, index: int | None, outcome: str = "ok") -> None:
        """Note one answer. asked: the columns from meter to count, see `asked_columns`."""
        self._number += 1
        shown = "-" if index is None else index
        self._lines.append(f"{self._number}\t{at_ms}\t{asked}\t{shown}\t{outcome}\n")
        if len(self._lines) >= _FLUSH_AT:
            self.flush()

    def flush(self) -> None:
        """Hand all lines to the operating system: they survive the death of this process."""
        if self._lines:
            block, self._lines = memoryview("".join(self._lines).encode()), []
            while block:
                block = block[os.write(self._file, block) :]

    def close(self) -> None:
        """Flush and close; calling twice is harmless."""
        if self._file >= 0:
            self.flush()
            os.close(self._file)
            self._file = -1


class NoAnswerLog:
    """Takes answers and keeps none: for benchmarks of the wire alone."""

    def add(self, at_ms: int, asked: str, index: int | None, outcome: str = "ok") -> None:
        """Forget this answer."""

    def flush(self) -> None:
        """Nothing to hand over."""

    def close(self) -> None:
        """Nothing to close."""


def asked_columns(meter: str, unit: int, function: int, start: int, count: int) -> str:
    """Return the columns that are the same for every answer to one request."""
    return f"{meter}\t{unit}\t{function}\t{start}\t{count}"


def read_answers(path: Path) -> Iterator[Answer]:
    """Yield all whole answers, also while a farm is writing. Raises: ValueError naming a line that is not one."""
    with path.open("rb") as file:
        for place, line in enumerate(file, start=1):
            if line.endswith(b"\n") and not line.startswith(b"#"):
                yield _parse(line, f"{path.name} line {place}")


def _parse(line: bytes, where: str) -> Answer:
    try:
        number, at_ms, meter, unit, function, start, count, index, outcome = line.decode().rstrip("\n").split("\t")
        return Answer(
            int(number),
            int(at_ms),
            meter,
            int(unit),
            int(function),
            int(start),
            int(count),
            None if index == "-" else int(index),
            outcome,
        )
    except ValueError:
        raise ValueError(f"{where} is not an answer: {line[:80]!r}") from None


def _repair(file: int) -> int:
    """Cut a half line off the end, give an empty file its header, and return the last number used."""
    size = os.lseek(file, 0, os.SEEK_END)
    tail = os.pread(file, _TAIL_BYTES, max(0, size - _TAIL_BYTES))
    whole = tail.rfind(b"\n") + 1
    if whole < len(tail):
        os.ftruncate(file, size - (len(tail) - whole))
    if size == 0 or (whole == 0 and size <= _TAIL_BYTES):
        os.write(file, HEADER.encode())
        return 0
    last = tail[:whole].splitlines()[-1]
    return 0 if last.startswith(b"#") else _parse(last, "the last line of the answer log").number
