"""What the registry answers to a change that it must refuse, by what the caller has to do about it."""

from __future__ import annotations

from typing import Literal

from metering.errors import RegistryError

Sort = Literal["invalid", "unknown", "conflict", "forbidden"]


class RefusedError(RegistryError):
    """A change that is not made.

    sort: invalid (give something else), unknown (there is no such object), conflict (somebody was faster, or the
    state does not allow it; look again), forbidden (not with these roles).
    """

    def __init__(self, sort: Sort, message: str) -> None:
        super().__init__(message)
        self.sort: Sort = sort
