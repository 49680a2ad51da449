"""The one state of every usage point due, and how it is found.

excluded: the books say that nothing is billed (sealed, removed, not in service, not installed yet).
missing: there is no total, with the cause. doubtful: there is one, and a person must look. billed: the rest.

Precedence: what the books exclude; then an index change that stops billing; then what is missing, with the delivery
ledger's cause; then doubts of the total itself (`totals`), then its size. A clerk's word comes last: "accept" makes
a doubtful total billed as long as it is the one that was accepted; "reread" keeps it doubtful until it changes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from api.billing.totals import Outcome
from metering.quantities import from_micro

BILLED: Final = "billed"
DOUBTFUL: Final = "doubtful"
MISSING: Final = "missing"
EXCLUDED: Final = "excluded"
STATES: Final = (BILLED, DOUBTFUL, MISSING, EXCLUDED)
_NOT_YET: Final = ("registered", "installed", "unused")


class Hanging(NamedTuple):
    """A meter at the usage point as far as states go. start, end, sealed_at, commissioned_at: [ms UTC] or None."""

    state: str
    start: int
    end: int | None
    sealed_at: int | None = None
    commissioned_at: int | None = None


@dataclass(frozen=True, slots=True)
class Word:
    """A clerk's decision. kind: accept, reread. consumption: of the total that it was about."""

    kind: str
    consumption: int | None
    actor: str
    cause: str = ""


def excluded(meters: Sequence[Hanging], start: int, end: int) -> str:
    """Return why the books exclude a usage point from a period, "" when they do not.

    meters: every meter that ever hung there, oldest first; none at all is missing, not excluded.
    """
    if not meters:
        return ""
    here = [meter for meter in meters if meter.start < end and (meter.end is None or meter.end > start)]
    if not here:
        return "not_installed_yet" if all(meter.start >= end for meter in meters) else "removed"
    last = here[-1]
    if last.end is not None:
        return ""
    if last.state == "sealed" and (last.sealed_at or 0) <= start:
        return "sealed"
    if last.state in _NOT_YET or (last.commissioned_at or 0) >= end:
        return "not_in_service"
    return ""


def without_bill(outcome: Outcome, why: str) -> Outcome:
    """Exclude, unless the meter counted all the same: use behind a seal or before service is for a person."""
    if outcome.consumption:
        cause = "used_while_sealed" if why == "sealed" else "used_out_of_service"
        return outcome._replace(state=DOUBTFUL, cause=cause, detail=f"the books say {why}, and the meter counted")
    return Outcome(EXCLUDED, why, "")


def by_size(outcome: Outcome, limit: tuple[int, int] | None, months: int) -> tuple[Outcome, str]:
    """Return the outcome, doubtful when its size must be read again, and a mark to show beside it ("" for none).

    limit: [micro] a month: shown above the first, read again above the second.
    """
    used = outcome.consumption
    if limit is None or used is None:
        return outcome, ""
    show, again = (months * each for each in limit)
    if used > again and outcome.state == BILLED:
        text = f"{from_micro(used)} is more than the {from_micro(again)} above which a period must be read again"
        return outcome._replace(state=DOUBTFUL, cause="large_use", detail=text), "large_use"
    return outcome, "large_use" if used > show else ""


def after_word(outcome: Outcome, word: Word | None) -> Outcome:
    """Lay a clerk's last word over the outcome. A word about another total, or another doubt, counts no more."""
    if word is None or word.consumption != outcome.consumption or outcome.state not in (BILLED, DOUBTFUL):
        return outcome
    if word.kind == "reread":
        return outcome._replace(state=DOUBTFUL, cause="reread", detail=f"sent back to be read again by {word.actor}")
    if outcome.state == DOUBTFUL and word.cause == outcome.cause:
        return outcome._replace(state=BILLED, detail=f"{outcome.cause} accepted by {word.actor}")
    return outcome


def count(states: Sequence[str]) -> Mapping[str, int]:
    """Return how many are in each state."""
    return {state: states.count(state) for state in STATES}
