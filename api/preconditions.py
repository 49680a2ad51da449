"""If-Match: a change that names the version it was made from, so that nobody's work is lost unseen."""

from __future__ import annotations

import re
from typing import Annotated, Final

from fastapi import Header
from starlette.responses import Response

from api.problems import invalid

IfMatch = Annotated[
    str | None,
    Header(
        max_length=100, description='ETag that the change was made from, such as "v3"; left out: whatever it is now.'
    ),
]
_ETAG: Final = re.compile(r'(?:W/)?"v(\d{1,18})"', re.ASCII)


def wanted_version(if_match: str | None) -> int | None:
    """Return the version in If-Match, None without one or for `*`. Raises: ProblemError 422."""
    if if_match is None or if_match.strip() == "*":
        return None
    found = _ETAG.fullmatch(if_match.strip())
    if found is None:
        raise invalid("if-match", if_match, 'is not an ETag of such an object, for example "v3"', place="header")
    return int(found[1])


def with_etag(answer: Response, version: int) -> Response:
    """Give an answer the ETag of its version."""
    answer.headers["etag"] = f'"v{version}"'
    return answer
