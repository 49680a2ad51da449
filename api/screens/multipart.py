"""Forms with a file (RFC 7578): fields and files of a body that is already complete and bounded in size."""

from __future__ import annotations

import re
from typing import Final

from fastapi import Request

from api.access.gate import IDENTITY
from api.access.identify import Identity
from api.problems import ProblemError

_KIND: Final = re.compile(r'multipart/form-data\s*;\s*boundary=("?)([A-Za-z0-9\'()+_,./:=? -]{1,70})\1\s*', re.ASCII)
_NAME: Final = re.compile(rb'[;\s]name="([^"\r\n]{1,64})"')
_FILE: Final = re.compile(rb'[;\s]filename="([^"\r\n]{0,1000})"')
_MOST_PARTS: Final = 60
_LONGEST_HEAD: Final = 4096
_LONGEST_FIELD: Final = 16_384


def split(content_type: str, body: bytes) -> tuple[dict[str, str], dict[str, list[bytes]]]:
    """Return (fields, files by name); an empty file (none was chosen) is left out. Raises: ProblemError 415, 422."""
    found = _KIND.fullmatch(content_type.strip())
    if found is None:
        raise ProblemError(415, "unsupported-media-type", "send multipart/form-data")
    pieces = (b"\r\n" + body).split(b"\r\n--" + found[2].encode("ascii"))
    if len(pieces) < 2 or not pieces[-1].startswith(b"--") or len(pieces) > _MOST_PARTS + 2:
        raise _bad()
    fields: dict[str, str] = {}
    files: dict[str, list[bytes]] = {}
    for piece in pieces[1:-1]:
        name, is_file, content = _part(piece)
        if is_file:
            files.setdefault(name, []).extend([content] if content else [])
        else:
            fields.setdefault(name, _text(content))
    return fields, files


def _part(piece: bytes) -> tuple[str, bool, bytes]:
    """Return (name, whether it is a file, content)."""
    head, gap, content = piece.partition(b"\r\n\r\n")
    line = next((line for line in head.split(b"\r\n") if line.lower().startswith(b"content-disposition:")), b"")
    name = _NAME.search(line)
    if not gap or len(head) > _LONGEST_HEAD or name is None:
        raise _bad()
    return _text(name[1]), _FILE.search(line) is not None, content


def _text(raw: bytes) -> str:
    if len(raw) > _LONGEST_FIELD:
        raise _bad()
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        raise _bad() from None


def _bad() -> ProblemError:
    return ProblemError(422, "invalid-form", "this is not a form that a browser sends")


async def checked_form(request: Request) -> tuple[dict[str, str], dict[str, list[bytes]]]:
    """Return fields and files of a form that shows the login's own token. Raises: ProblemError 403, 422.

    A body that is no such form shows no token.
    """
    kind = request.headers.get("content-type", "")
    fields, files = split(kind, await request.body()) if _KIND.fullmatch(kind.strip()) else ({}, {})
    identity: Identity = request.scope[IDENTITY]
    if not identity.fits(fields.get("csrf_token", "")):
        raise ProblemError(403, "csrf-token", "this form does not belong to this login; go back and load it anew")
    return fields, files
