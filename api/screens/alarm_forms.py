"""Fields of the forms about alarms, checked: notes, times by the city's clock, numbers that were ticked."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Final, Literal

from starlette.responses import RedirectResponse, Response

from api.parameters import clean
from api.problems import ProblemError
from api.screens.frame import Times, own_address

LONGEST_NOTE: Final = 1000
MOST_PICKED: Final = 100
Refused = Literal["changed", "not_now", "unknown", "note", "until", "reason", "nothing", "some"]


def note_of(fields: dict[str, str]) -> str | None:
    """Return the note of a form, None when it cannot be kept as it is."""
    note = " ".join(fields.get("note", "").split())
    try:
        return clean(note) if len(note) <= LONGEST_NOTE else None
    except ValueError:
        return None


def version_of(fields: dict[str, str]) -> int | None:
    """Return the version that the form was made of. Raises: ProblemError 422."""
    text = fields.get("version", "")
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 16):
        raise ProblemError(422, "invalid-form", "version must be a whole number")
    return int(text)


def moment_of(text: str, zone: str, *, now_ms: int, longest_h: float) -> int | None:
    """Return [ms UTC] of "2026-03-01T08:00" by the city's clock; None when it is none, past or too far ahead."""
    try:
        local = datetime.strptime(text, "%Y-%m-%dT%H:%M").replace(tzinfo=Times(zone).zone)
    except ValueError:
        return None
    at = round(local.timestamp() * 1000)
    return at if 0 < at - now_ms <= longest_h * 3_600_000 else None


def picked(values: Sequence[str]) -> list[int]:
    """Return the numbers of the boxes that were ticked, each once. Raises: ProblemError 422."""
    if not all(text.isascii() and text.isdigit() and len(text) < 16 for text in values):
        raise ProblemError(422, "invalid-form", "pick must be the number of an alarm")
    return list(dict.fromkeys(map(int, values)))


def back(fields: dict[str, str], refused: Refused | None = None) -> Response:
    """Go back to where the form stood; what was refused is said there."""
    address = own_address(fields.get("back", "/alarms"))
    path, _, query = address.partition("?")
    kept = [pair for pair in query.split("&") if pair and not pair.startswith("refused=")]
    pairs = kept + ([f"refused={refused}"] if refused else [])
    address = path + ("?" + "&".join(pairs) if pairs else "")
    return RedirectResponse(address, 303, headers={"cache-control": "no-store"})
