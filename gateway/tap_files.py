"""The files of a recording: bounded, rotating, each with a header of its own so that it can be replayed alone."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

from gateway.tap_settings import TapSettings

_GLOB = "tap-*.jsonl"


class TapFiles:
    """Writes `NAME-0001.jsonl`, … into the settings' folder. header: returns the first line of a part."""

    def __init__(self, settings: TapSettings, name: str, header: Callable[[int], bytes]) -> None:
        self.part = 0
        self._settings = settings
        self._name = name
        self._header = header
        self._file = -1
        self._size = 0

    @property
    def name(self) -> str:
        """The file that is written now, or will be."""
        return f"{self._name}-{max(1, self.part):04}.jsonl"

    def write(self, lines: Sequence[bytes]) -> None:
        """Append whole lines; a full file is closed before. Raises: OSError."""
        for line in lines:
            if self._file < 0 or self._size + len(line) > self._settings.file_mb * 1e6:
                self._next()
            self._put(line)

    def close(self) -> None:
        """Harmless twice."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _next(self) -> None:
        """Begin the next file, and remove the oldest of the folder beyond the bound."""
        self.close()
        folder = self._settings.folder
        folder.mkdir(parents=True, exist_ok=True)
        self.part += 1
        self._file = os.open(folder / self.name, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o640)
        self._size = 0
        self._put(self._header(self.part))
        kept = sorted(folder.glob(_GLOB), key=lambda path: (path.stat().st_mtime_ns, path.name))
        for old in kept[: -self._settings.files]:
            old.unlink(missing_ok=True)

    def _put(self, line: bytes) -> None:
        view = memoryview(line)
        while view:
            view = view[os.write(self._file, view) :]
        self._size += len(line)
