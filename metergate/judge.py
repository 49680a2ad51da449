"""The judge of "nothing lost, nothing twice": what the simulated meters said, held against what is stored.

It knows nothing of sequence numbers, acknowledgements or duplicates' rules: it counts, per meter and shown index, the
answers in the simulators' own log and the readings in the store.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from metering.quantities import Quantity
from metering.reading import Reading
from simulators.answer_log import Answer


@dataclass(slots=True)
class Verdict:
    """served: answers with an index. stored: readings with that index. waiting: answers that are still in an outbox.

    lost: answers that are nowhere. excused: answers whose gateway was killed before it could commit them.
    invented: readings that no meter said (stored twice, or made up). worst_ms: largest distance between the time of
    an answer and the `read_at` of its reading.
    """

    served: int = 0
    stored: int = 0
    waiting: int = 0
    excused: int = 0
    lost: list[Answer] = field(default_factory=list)
    invented: list[Reading] = field(default_factory=list)
    worst_ms: int = 0

    @property
    def clean(self) -> bool:
        """True when nothing is lost and nothing invented."""
        return not self.lost and not self.invented

    def __str__(self) -> str:
        parts = [f"served {self.served}", f"stored {self.stored}"]
        parts += [
            f"{name} {count}" for name, count in (("waiting", self.waiting), ("excused", self.excused)) if count
        ]
        return ", ".join([*parts, f"lost {len(self.lost)}", f"invented or twice {len(self.invented)}"])


def judge(
    answers: Iterable[Answer],
    readings: Iterable[Reading],
    billed: dict[str, Quantity],
    *,
    waiting: Iterable[Reading] = (),
    excuse: Callable[[Answer], bool] = lambda answer: False,
) -> Verdict:
    """Compare what was said with what is stored.

    billed: meter -> the quantity whose index the answer log holds. waiting: readings still in the outbox.
    excuse: True for an answer that a killed gateway may not have committed.
    """
    verdict = Verdict()
    said: dict[tuple[str, int], list[Answer]] = defaultdict(list)
    kept: dict[tuple[str, int], list[Reading]] = defaultdict(list)
    for answer in answers:
        if answer.index is not None and answer.outcome == "ok":
            verdict.served += 1
            said[answer.meter, answer.index].append(answer)
    for reading in readings:
        if (index := reading.values.get(billed[reading.meter])) is not None:
            verdict.stored += 1
            kept[reading.meter, index].append(reading)
    for reading in waiting:
        if (index := reading.values.get(billed[reading.meter])) is not None:
            verdict.waiting += _adopt(kept[reading.meter, index], reading)
    for key in said.keys() | kept.keys():
        _compare(said.get(key, []), kept.get(key, []), verdict, excuse)
    return verdict


def _adopt(group: list[Reading], reading: Reading) -> bool:
    """A row that is both in the store and in the outbox (not yet acknowledged) is one reading."""
    if any(other.read_at == reading.read_at for other in group):
        return False
    group.append(reading)
    return True


def _compare(said: list[Answer], kept: list[Reading], verdict: Verdict, excuse: Callable[[Answer], bool]) -> None:
    """Pair answers and readings of one meter and index in the order of time; a rest is lost or invented."""
    while len(said) > len(kept):
        times = [reading.read_at for reading in kept]
        odd = max(said, key=lambda answer: _distance(answer.at_ms, times))
        said.remove(odd)
        if excuse(odd):
            verdict.excused += 1
        else:
            verdict.lost.append(odd)
    while len(kept) > len(said):
        times = [answer.at_ms for answer in said]
        extra = max(kept, key=lambda reading: _distance(reading.read_at, times))
        kept.remove(extra)
        verdict.invented.append(extra)
    said.sort(key=lambda answer: answer.at_ms)
    kept.sort(key=lambda reading: reading.read_at)
    for answer, reading in zip(said, kept, strict=True):
        verdict.worst_ms = max(verdict.worst_ms, abs(answer.at_ms - reading.read_at))


def _distance(at_ms: int, times: list[int]) -> int:
    """Return how far [ms] the nearest of `times` is."""
    return min((abs(at_ms - other) for other in times), default=2**62)
