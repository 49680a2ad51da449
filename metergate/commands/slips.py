"""`metergate slips`: the day's dispatch slips as files for print, one per district and worker."""

from __future__ import annotations

import hashlib
import json
import re
from datetime import date
from pathlib import Path
from typing import Annotated, Final

import typer

from api.orders import slips as sheets_of
from api.orders.slips import Sheet, TooManyError
from api.orders.slips_print import to_html, to_pdf
from metergate.console import emit, errors_as_words, say
from metergate.running import ConfigOption, registry
from metergate.settings import load_settings
from metering.errors import SettingsError

_PLAIN: Final = re.compile(r"[^\w.-]+")


def slips(
    day: Annotated[str, typer.Option("--date", help="Local day, such as 2026-03-20.")],
    district: Annotated[str | None, typer.Option(help="Only this district.")] = None,
    worker: Annotated[str | None, typer.Option(help="Only this worker or team.")] = None,
    html: Annotated[Path | None, typer.Option("--html", help="Folder for pages that a browser prints.")] = None,
    pdf: Annotated[Path | None, typer.Option("--pdf", help="Folder for PDF files.")] = None,
    config: ConfigOption = None,
) -> None:
    """Print the dispatch slips of a day: one file per district and worker.

    Example: metergate slips --date 2026-03-20 --district north --pdf slips
    """
    with errors_as_words():
        wanted = _day(day)
        if html is None and pdf is None:
            raise SettingsError("say where to put the slips: --pdf DIR, --html DIR, or both")
        with registry(load_settings(config)) as database, database.read() as connection:
            try:
                found = sheets_of.sheets(connection, wanted, district=district, worker=worker)
            except TooManyError as error:
                raise SettingsError(str(error)) from error
        for sheet in found:
            if html is not None:
                _write(html, sheet, ".html", to_html([sheet], wanted).encode())
            if pdf is not None:
                _write(pdf, sheet, ".pdf", to_pdf([sheet], wanted))
        if not found:
            say(f"there is nothing to print for {wanted.isoformat()}")


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        raise SettingsError(f"--date {text}: write a day such as 2026-03-20") from error


def _write(folder: Path, sheet: Sheet, ending: str, content: bytes) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / (file_name(sheet) + ending)
    path.write_bytes(content)
    said = {"file": str(path), "district": sheet.district, "worker": sheet.worker, "slips": len(sheet.slips)}
    emit(json.dumps(said, ensure_ascii=False))


def file_name(sheet: Sheet) -> str:
    """Return a name that is one plain file wherever it is written, and another one for each sheet."""
    words = (sheet.district or "none", sheet.worker or "nobody")
    plain = [_PLAIN.sub("_", word).strip(".")[:40] or "_" for word in words]
    changed = tuple(plain) != words
    mark = "-" + hashlib.sha256("\0".join(words).encode()).hexdigest()[:6] if changed else ""
    return f"slips-{sheet.day}-{plain[0]}-{plain[1]}{mark}"
