"""Plain HTML forms: their fields, and the token that shows that one of our pages sent them."""

from __future__ import annotations

from typing import Final
from urllib.parse import parse_qs

from fastapi import Request

from api.access.gate import IDENTITY
from api.access.identify import Identity
from api.problems import ProblemError

_FORM: Final = "application/x-www-form-urlencoded"
_MOST_FIELDS: Final = 10
_MOST_CHECKED: Final = 60
"""A form with a box for each role and rank has many small fields."""


async def form_fields(request: Request) -> dict[str, str]:
    """Return the fields of a plain form, the first of each name. Raises: ProblemError 415, 422."""
    return {name: values[0] for name, values in (await _lists(request, _MOST_FIELDS)).items()}


async def _lists(request: Request, most: int) -> dict[str, list[str]]:
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != _FORM:
        raise ProblemError(415, "unsupported-media-type", f"send {_FORM}")
    try:
        text = (await request.body()).decode("ascii")
        found = parse_qs(text, keep_blank_values=True, errors="strict", max_num_fields=most)
    except ValueError:
        raise ProblemError(422, "invalid-form", "this is not a form that a browser sends") from None
    return found


async def checked_fields(request: Request) -> dict[str, str]:
    """Return the fields of a form that shows the login's own token. Raises: ProblemError 403."""
    fields = await form_fields(request)
    _require_token(request, fields.get("csrf_token", ""))
    return fields


async def checked_lists(request: Request, most: int = _MOST_CHECKED) -> dict[str, list[str]]:
    """Return all values of each field, for forms with boxes to tick. Raises: ProblemError 403, 415, 422.

    most: fields that the form may have.
    """
    lists = await _lists(request, most)
    _require_token(request, lists.get("csrf_token", [""])[0])
    return lists


def _require_token(request: Request, token: str) -> None:
    identity: Identity = request.scope[IDENTITY]
    if not identity.fits(token):
        raise ProblemError(403, "csrf-token", "this form does not belong to this login; go back and load it anew")
