"""What the forms of thresholds say, as the values of a proposal or a decision."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from typing import Any, Final

from api.screens.admin import first
from registry.refusals import RefusedError

PAIRS: Final = 3
"""Thresholds that one form changes at most."""
_LONGEST_REASON: Final = 500


@dataclass(frozen=True, slots=True)
class Proposal:
    """A proposal as it was typed; pairs: (threshold, value) as text."""

    pairs: tuple[tuple[str, str], ...] = (("", ""),) * PAIRS
    medium: str = ""
    customer_class: str = ""
    meter: str = ""
    effective: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Checked:
    """The same in the house's types."""

    effective: date
    reason: str
    scope: dict[str, str] = field(default_factory=dict)
    values: dict[str, float] = field(default_factory=dict)


def typed(lists: Mapping[str, list[str]]) -> Proposal:
    """Return what stood in the form."""
    names, values = lists.get("threshold", []), lists.get("value", [])
    pairs = [(name[:64].strip(), value[:32].strip()) for name, value in zip(names, values, strict=False)][:PAIRS]
    pairs += [("", "")] * (PAIRS - len(pairs))
    one = {name: lists.get(name, [""])[0][:_LONGEST_REASON].strip() for name in ("medium", "class", "meter")}
    return Proposal(
        tuple(pairs), one["medium"], one["class"], one["meter"],
        lists.get("effective", [""])[0][:10], lists.get("reason", [""])[0][:_LONGEST_REASON],
    )  # fmt: skip


def checked(lists: Mapping[str, list[str]]) -> Checked:
    """Return what the form asks for. Raises: RefusedError for what is no number, no day, or has no reason."""
    form = typed(lists)
    values = {name: _number(name, text) for name, text in form.pairs if name or text}
    try:
        effective = date.fromisoformat(form.effective)
    except ValueError:
        raise RefusedError("invalid", "effective: name the local day from which on it counts") from None
    reason = first(lists, "reason", _LONGEST_REASON)
    if not reason:
        raise RefusedError("invalid", "reason: say why, for whoever decides and whoever looks back")
    scope = {"medium": form.medium, "class": form.customer_class, "meter": form.meter}
    return Checked(effective, reason, {name: word for name, word in scope.items() if word}, values)


def _number(name: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise RefusedError("invalid", f"{name or 'values'}: {text!r} is not a number")
    return value


def accepted(lists: Mapping[str, list[str]]) -> int | None:
    """Return the number of meters that whoever confirms says he accepts. Raises: RefusedError."""
    text = first(lists, "accept", 12)
    if text and not (text.isascii() and text.isdigit()):
        raise RefusedError("invalid", "accept: type the number of meters as it stands above")
    return int(text) if text else None


def version_of(lists: Mapping[str, list[str]]) -> int | None:
    """Return the version that the form was made from, None when it does not say."""
    text = lists.get("version", [""])[0]
    return int(text) if text.isascii() and text.isdigit() and len(text) < 16 else None


def scope_words(change: Any) -> list[tuple[str, str]]:
    """Return what a change is for as (sort, word); empty for all meters."""
    return [(name, change.scope[name]) for name in ("medium", "class", "meter") if change.scope.get(name)]
