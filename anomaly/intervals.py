"""Indexes in any order -> consumption per interval, gaps NaN.

A `Grid` holds meters of one reading interval and one time zone. A reading belongs to the slot whose boundary it is
read at; the cell of slot s is what passed between boundary s-1 and boundary s. Late readings, duplicates, rollover,
exchanges, reverse steps and bad values are treated here once, by `metering.steps`; rules only see consumption.

Incremental and batch are one implementation: `advance` runs the same column machine from the first slot that changed
(per meter: from its last reading before the change whose meaning no later reading can alter). So the matrix after
any order of arrival equals the matrix of a single pass, cell for cell.

Arrays are time-major, [slots, meters]: a column step touches contiguous memory (1 M meters: 8 MB instead of 64 MB of
cache lines). `consumption` returns the other view, [meters, slots].
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from metering.quantities import MICRO
from metering.steps import LimitArrays, Step, goes_on, is_plain, large_many, level_change_many, relate_many

MISSING: Final = np.iinfo(np.int64).min
"""Raw slot without a reading."""
NO_CODE: Final = -1
"""Code of a slot without a reading; the other codes are `Step`."""
LARGEST: Final = 4 * 10**15
"""[micro] larger indexes are held as this: no counter shows them, and their products would leave int64."""
HELD_BIT: Final = 128
"""Bit in `flags` of a slot that was accepted only because of a later reading, so it is no anchor."""
FILL_LIMIT_S: Final = 86_400
"""[s] across a longer silence the mean consumption is not spread over the cells: they stay NaN."""

Floats = NDArray[Any]
Rows = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class GridShape:
    """slot_s: [s] reading interval. origin_s: [s since 1970] boundary of slot 0, a local midnight. slots: columns.

    lead_s: [s] how long before its boundary a reading may lie and still belong to it (half an interval; daily
    meters: 8 h, so that nightly reads between 16:00 and 16:00 fall on the midnight they close).
    """

    slot_s: int
    origin_s: int
    slots: int
    lead_s: int

    def slot_of(self, times_s: NDArray[np.int64]) -> Rows:
        """Slot number of each time; may lie outside the grid."""
        slots: Rows = (times_s - self.origin_s + self.lead_s) // self.slot_s
        return slots


@dataclass(slots=True)
class Machine:
    """What the column machine knows of each meter after the frontier. value, held: [micro]; slots -1: none."""

    value: NDArray[np.int64]
    slot: NDArray[np.int32]
    time: NDArray[np.int64]
    held: NDArray[np.int64]
    held_slot: NDArray[np.int32]
    held_time: NDArray[np.int64]
    scale: NDArray[np.int8]
    held_code: NDArray[np.int8]

    @classmethod
    def fresh(cls, meters: int) -> Machine:
        """State of meters that were never read."""
        values = [np.zeros(meters, np.int64) for _ in range(4)]
        slots = [np.full(meters, -1, np.int32) for _ in range(2)]
        codes = [np.zeros(meters, np.int8) for _ in range(2)]
        return cls(values[0], slots[0], values[1], values[2], slots[1], values[3], codes[0], codes[1])

    def take(self, rows: Rows) -> Machine:
        """Copy of the state of some meters."""
        return Machine(*(getattr(self, name)[rows] for name in self.__slots__))

    def put(self, rows: Rows, part: Machine) -> None:
        """Write the state of some meters back."""
        for name in self.__slots__:
            getattr(self, name)[rows] = getattr(part, name)


class Grid:
    """Raw indexes, step codes and consumption of meters that share interval and time zone."""

    def __init__(
        self,
        shape: GridShape,
        limits: LimitArrays,
        *,
        replaced_s: NDArray[np.int64] | None = None,
        dtype: Any = np.float64,
    ) -> None:
        """limits: one per meter. replaced_s: [s since 1970] recorded exchange, 0 when none. dtype: of the cells."""
        meters = limits.capacity.size
        self.shape, self.limits, self.meters = shape, limits, meters
        self.replaced = np.zeros(meters, np.int64) if replaced_s is None else replaced_s
        self.raw = np.full((shape.slots, meters), MISSING, np.int64)
        self.offset = np.zeros((shape.slots, meters), np.int32 if shape.slot_s > 40_000 else np.int16)
        self.flags = np.zeros((shape.slots, meters), np.uint8)
        self.code = np.full((shape.slots, meters), NO_CODE, np.int8)
        self.use = np.full((shape.slots, meters), np.nan, dtype)
        self.span = np.zeros((shape.slots, meters), np.uint8)
        self.first = 0
        """Slot number of row 0 of the arrays; grows when old slots are dropped."""
        self.frontier = -1
        """Last slot that the machine has passed."""
        self.conflicts = 0
        self.too_old = 0
        self.filled: list[tuple[Rows, Rows]] = []
        """(meters, first slots) of cells written behind the slot that was passed; the reader empties it."""
        self._machine = Machine.fresh(meters)
        self._base = Machine.fresh(meters)
        self._scales: dict[int, list[tuple[int, int]]] = {}
        self._dirty = np.full(meters, np.iinfo(np.int32).max, np.int32)
        self._fill = max(2, FILL_LIMIT_S // shape.slot_s) if shape.slot_s < 86_400 else 2
        self.seen = np.full(meters, -1, np.int64)
        """Newest slot with a reading that the machine has passed."""
        self.marks: list[tuple[Rows, Rows, NDArray[np.int8]]] = []
        """(meters, slots, codes) of every step but plain forward flow, as it was decided; the reader empties it."""

    # --- readings in ---------------------------------------------------------------------------------------------

    def put(self, rows: Rows, times_s: NDArray[np.int64], micro: NDArray[np.int64], flags: NDArray[np.uint8]) -> None:
        """Take readings in any order. rows: meter numbers. Two in one slot: the one nearer to the boundary stays."""
        slots = self.shape.slot_of(times_s)
        self.too_old += int(np.count_nonzero(slots < self.first))
        good = np.flatnonzero((slots >= self.first) & (slots < self.first + self.shape.slots))
        if not good.size:
            return
        rows, slots, micro = rows[good], slots[good], np.clip(micro[good], -LARGEST, LARGEST)
        away = times_s[good] - self.shape.origin_s - slots * self.shape.slot_s
        order = np.lexsort((micro, np.abs(away), slots, rows))
        rows, slots, micro, away, flags = rows[order], slots[order], micro[order], away[order], flags[good][order]
        fresh = np.ones(rows.size, bool)
        fresh[1:] = (rows[1:] != rows[:-1]) | (slots[1:] != slots[:-1])
        same_time = ~fresh[1:] & (away[1:] == away[:-1]) & (micro[1:] != micro[:-1])
        self.conflicts += int(np.count_nonzero(same_time))
        self._store(rows[fresh], slots[fresh], micro[fresh], away[fresh], flags[fresh])

    def _store(self, rows: Rows, slots: Rows, micro: Rows, away: Rows, flags: NDArray[np.uint8]) -> None:
        at = slots - self.first
        old, old_away = self.raw[at, rows], self.offset[at, rows]
        empty = old == MISSING
        nearer = np.abs(away) < np.abs(old_away)
        tie = away == old_away
        self.conflicts += int(np.count_nonzero(~empty & tie & (old != micro)))
        wins = empty | nearer | (~empty & (np.abs(away) == np.abs(old_away)) & (micro < old))
        self.flags[at, rows] = np.where(wins, flags, self.flags[at, rows])
        rows, slots, at = rows[wins], slots[wins], at[wins]
        self.raw[at, rows], self.offset[at, rows] = micro[wins], away[wins]
        late = slots <= self.frontier
        np.minimum.at(self._dirty, rows[late], slots[late].astype(np.int32))

    # --- the column machine ----------------------------------------------------------------------------------------

    def advance(self, upto: int) -> tuple[Rows, Rows]:
        """Pass the slots up to `upto`. Return late meters and the first slot of each whose cell may have changed."""
        last = self.first + self.shape.slots - 1
        upto = min(upto, last)
        late = np.flatnonzero(self._dirty <= self.frontier)
        since = self._rerun(late) if late.size else late.astype(np.int64)
        self._dirty[late] = np.iinfo(np.int32).max
        if upto > self.frontier:
            self._run(slice(None), self._machine, np.int64(self.frontier + 1), upto)
            self.frontier = upto
        return late, since

    def _rerun(self, rows: Rows) -> Rows:
        """Run late meters again from their last anchor before the change, up to the frontier."""
        machine, start = self._anchor(rows)
        for row, slot in zip(rows.tolist(), start.tolist(), strict=True):
            if row in self._scales:
                self._scales[row] = [entry for entry in self._scales[row] if entry[0] < slot]
        self._run(rows, machine, start, self.frontier)
        self._machine.put(rows, machine)
        return start

    def _anchor(self, rows: Rows) -> tuple[Machine, Rows]:
        """State after the last slot before the change that no later reading can reinterpret."""
        depth = int(self.frontier - self.first) + 1
        code = self.code[:depth, rows]
        slots = np.arange(self.first, self.first + depth, dtype=np.int64)
        strong = np.asarray((code >= Step.NONE) & (code <= Step.REVERSE), np.bool_)
        strong &= slots.reshape(-1, 1) < self._dirty[rows].astype(np.int64)
        strong &= (self.flags[:depth, rows] & HELD_BIT) == 0
        found = np.asarray(strong.any(axis=0), np.bool_)
        at = depth - 1 - np.argmax(strong[::-1], axis=0)
        machine = self._base.take(rows)
        machine.value = np.where(found, self.raw[at, rows], machine.value)
        machine.slot = np.where(found, at + self.first, machine.slot).astype(np.int32)
        times = self.shape.origin_s + (at + self.first) * self.shape.slot_s + self.offset[at, rows]
        machine.time = np.where(found, times, machine.time)
        start = np.where(found, at + self.first + 1, self.first).astype(np.int64)
        for i, row in enumerate(rows.tolist()):
            before = [scale for slot, scale in self._scales.get(row, []) if slot < start[i]]
            if found[i] and before:
                machine.scale[i] = before[-1]
        return machine, start

    def _run(self, rows: Any, machine: Machine, start: Any, upto: int) -> None:
        """Run the machine over slots [start, upto]; start is one number, or one per row."""
        one = isinstance(rows, slice)
        limits = self.limits if one else self.limits.take(rows)
        names = np.arange(self.meters) if one else rows
        for slot in range(int(np.min(start)), upto + 1):
            at = slot - self.first
            value = self.raw[at, rows]
            active = np.ones(value.size, bool) if one else np.asarray(start <= slot)
            has = active & (value != MISSING)
            self._clear(at, rows, active)
            if has.any():
                times = self.shape.origin_s + slot * self.shape.slot_s + self.offset[at, rows].astype(np.int64)
                self._column(names, machine, limits, slot, value, times, has)

    def _clear(self, at: int, rows: Any, active: NDArray[np.bool_]) -> None:
        """Forget what an earlier pass said about this slot."""
        if isinstance(rows, slice):
            return  # never passed before: already empty
        cells = rows[active]
        self.code[at, cells], self.use[at, cells], self.span[at, cells] = NO_CODE, np.nan, 0
        self.flags[at, cells] &= ~np.uint8(HELD_BIT)

    def _column(
        self,
        names: Rows,
        machine: Machine,
        limits: LimitArrays,
        slot: int,
        value: Rows,
        times: Rows,
        has: NDArray[np.bool_],
    ) -> None:
        """One slot of all rows: settle what is held, accept plain steps, hold large ones and jumps."""
        at = slot - self.first
        known = has & (machine.slot >= 0)
        codes, moved = relate_many(machine.value, value, times - machine.time, limits, machine.scale)
        exchanged = known & (machine.time < self.replaced[names]) & (times >= self.replaced[names])
        held = np.flatnonzero(known & (machine.held_slot >= 0) & ~exchanged)
        if held.size:
            self._settle(names, machine, limits, held, value, times, codes, moved)
        plain = known & is_plain(codes) & ~exchanged
        large = plain & (machine.scale == 0)
        large &= large_many(machine.value, value, times - machine.time, limits, codes)
        plain &= ~large
        rest = has & ~plain
        out = np.where(plain, codes, NO_CODE).astype(np.int8)
        if rest.any():
            self._jumps(names, machine, limits, slot, value, times, rest, exchanged, codes, out, plain, moved)
        self._accept(names, machine, slot, plain, moved)
        self._move(machine, plain, slot, value, times, out)
        self.seen[names] = np.where(has, np.maximum(self.seen[names], slot), self.seen[names])
        if names.size == self.meters:
            self.code[at] = np.where(has, out, self.code[at])
        else:
            self.code[at, names[has]] = out[has]
        odd = np.flatnonzero(has & (out > Step.FORWARD) & (out != Step.PENDING))
        if odd.size:
            self.marks.append((names[odd], np.full(odd.size, slot, np.int64), out[odd]))

    def _move(
        self, machine: Machine, plain: NDArray[np.bool_], slot: int, value: Rows, times: Rows, out: NDArray[np.int8]
    ) -> None:
        """Accepted readings become the level that the next one is held against; jitter keeps the higher one."""
        machine.value = np.where(plain & (out != Step.JITTER), value, machine.value)
        machine.slot = np.where(plain, np.int32(slot), machine.slot)
        machine.time = np.where(plain, times, machine.time)

    def _settle(
        self,
        names: Rows,
        machine: Machine,
        limits: LimitArrays,
        held: Rows,
        value: Rows,
        times: Rows,
        codes: NDArray[np.int8],
        moved: Rows,
    ) -> None:
        """Decide what this reading makes of the held one: one bad value, or believed after all."""
        old, mid, new, kind = machine.value[held], machine.held[held], value[held], machine.held_code[held]
        plain = is_plain(codes[held])
        part, scale = limits.take(held), machine.scale[held]
        onward, _ = relate_many(mid, new, times[held] - machine.held_time[held], part, scale)
        up, down, jump = goes_on(kind), kind == Step.REVERSE, kind == Step.PENDING
        believed = up & (goes_on(onward) | ~plain)
        believed |= down & ~(plain & (new >= old))
        believed |= jump & plain & (old <= mid) & (mid <= new)
        bad = plain & ~believed
        self._drop_held(names, machine, _mask(value.size, held[bad]))
        rows = held[believed]
        if rows.size:
            self._believe(names, machine, rows)
            codes[rows], moved[rows] = relate_many(
                machine.value[rows],
                value[rows],
                times[rows] - machine.time[rows],
                limits.take(rows),
                machine.scale[rows],
            )

    def _believe(self, names: Rows, machine: Machine, rows: Rows) -> None:
        """Accept held readings with their own consumption."""
        kind = machine.held_code[rows]
        code = np.where(kind == Step.PENDING, Step.OVER_RANGE, kind).astype(np.int8)
        self._mark(names[rows], machine.held_slot[rows], code)
        moved = machine.held[rows] - machine.value[rows]
        moved = np.where(code == Step.ROLLOVER, moved + self.limits.capacity[names[rows]], moved)
        amount = moved / MICRO / 10.0 ** machine.scale[rows]
        self._write(names[rows], machine.held_slot[rows], machine.slot[rows], amount)
        at = machine.held_slot[rows] - self.first
        inside = at >= 0
        self.flags[at[inside], names[rows][inside]] |= HELD_BIT
        machine.value[rows], machine.time[rows] = machine.held[rows], machine.held_time[rows]
        machine.slot[rows], machine.held_slot[rows] = machine.held_slot[rows], -1

    def _write(self, names: Rows, slots: NDArray[Any], since: NDArray[Any], amount: Floats) -> None:
        """Write one amount into the cells behind each slot, meter by meter number."""
        gap = slots - since
        ok = np.flatnonzero((gap >= 1) & (gap <= self._fill))
        if ok.size:
            self.filled.append((names[ok], np.asarray(since[ok] + 1, np.int64)))
        for back in range(int(gap[ok].max(initial=0))):
            part = ok[(gap[ok] > back) & (slots[ok] - back >= self.first)]
            at = slots[part] - back - self.first
            self.use[at, names[part]] = amount[part] / gap[part]
            self.span[at, names[part]] = np.minimum(gap[part], 255)

    def _drop_held(self, names: Rows, machine: Machine, mask: NDArray[np.bool_]) -> None:
        """What was held is disproved by a reading that fits the old level: one bad value."""
        hit = np.flatnonzero(mask & (machine.held_slot >= 0))
        if hit.size:
            self._mark(names[hit], machine.held_slot[hit], Step.TRANSIENT)
            machine.held_slot[hit] = -1

    def _mark(self, names: Rows, slots: NDArray[np.int32], code: Any) -> None:
        """Write a code to earlier slots, where they are still in the grid."""
        at = slots - self.first
        inside = at >= 0
        codes = np.broadcast_to(np.asarray(code, np.int8), names.shape)[inside]
        self.code[at[inside], names[inside]] = codes
        self.marks.append((names[inside], slots[inside].astype(np.int64), codes))

    def _jumps(
        self,
        names: Rows,
        machine: Machine,
        limits: LimitArrays,
        slot: int,
        value: Rows,
        times: Rows,
        rest: NDArray[np.bool_],
        exchanged: NDArray[np.bool_],
        codes: NDArray[np.int8],
        out: NDArray[np.int8],
        plain: NDArray[np.bool_],
        moved: Rows,
    ) -> None:
        """First readings, recorded exchanges, large steps and jumps: few rows, so they are handled by number."""
        hit = np.flatnonzero(rest)
        first = hit[machine.slot[hit] < 0]
        self._restart(machine, first, value, times, slot)
        out[first] = Step.NONE
        swap = hit[exchanged[hit] & (machine.slot[hit] >= 0) & ~np.isin(hit, first)]
        self._drop_held(names, machine, _mask(rest.size, swap))
        self._restart(machine, swap, value, times, slot)
        for row in names[swap[machine.scale[swap] != 0]].tolist():
            self._scales.setdefault(row, []).append((slot, 0))
        machine.scale[swap] = 0
        out[swap] = Step.EXCHANGE
        jump = hit[~np.isin(hit, first) & ~np.isin(hit, swap)]
        jump = jump[times[jump] > machine.time[jump]]
        held = jump[machine.held_slot[jump] >= 0]
        confirmed = self._confirm(names, machine, limits, held, value, times, out, moved)
        plain[confirmed] = True
        pending = jump[~np.isin(jump, confirmed)]
        self._drop_held(names, machine, _mask(rest.size, pending))
        machine.held[pending], machine.held_time[pending] = value[pending], times[pending]
        machine.held_slot[pending] = slot
        machine.held_code[pending] = np.where(is_plain(codes[pending]), codes[pending], Step.PENDING)
        out[pending] = Step.PENDING
        odd = hit[out[hit] == NO_CODE]
        out[odd] = Step.CONFLICT

    def _confirm(
        self,
        names: Rows,
        machine: Machine,
        limits: LimitArrays,
        held: Rows,
        value: Rows,
        times: Rows,
        out: NDArray[np.int8],
        moved: Rows,
    ) -> Rows:
        """Held jumps that this reading continues become changes of level. Return their rows."""
        if not held.size:
            return held
        part = limits.take(held)
        change, scale = level_change_many(
            machine.value[held], machine.held[held], machine.held_time[held] - machine.time[held], part
        )
        total = (machine.scale[held] + scale).astype(np.int8)
        total[np.isin(change, (Step.RESET, Step.EXCHANGE, Step.OVER_RANGE))] = 0
        codes, more = relate_many(machine.held[held], value[held], times[held] - machine.held_time[held], part, total)
        good = is_plain(codes)
        sure = held[good]
        self._mark(names[sure], machine.held_slot[sure], change[good])
        for row, was, now, slot in zip(
            names[sure].tolist(),
            machine.scale[sure].tolist(),
            total[good].tolist(),
            machine.held_slot[sure].tolist(),
            strict=True,
        ):
            if was != now:
                self._scales.setdefault(row, []).append((slot, now))
        machine.scale[sure] = total[good]
        machine.value[sure], machine.time[sure] = machine.held[sure], machine.held_time[sure]
        machine.slot[sure], machine.held_slot[sure] = machine.held_slot[sure], -1
        out[sure], moved[sure] = codes[good], more[good]
        return sure

    def _restart(self, machine: Machine, rows: Rows, value: Rows, times: Rows, slot: int) -> None:
        """A new level begins here without a known step."""
        machine.value[rows], machine.time[rows], machine.slot[rows] = value[rows], times[rows], slot
        machine.held_slot[rows] = -1

    def _accept(self, names: Rows, machine: Machine, slot: int, plain: NDArray[np.bool_], moved: Rows) -> None:
        """Write consumption into the cells that the accepted steps cover."""
        at = slot - self.first
        gap = slot - machine.slot
        amount = moved / MICRO
        if machine.scale.any():
            amount = amount / 10.0**machine.scale
        near = plain & (gap == 1)
        if names.size == self.meters:
            self.use[at] = np.where(near, amount, self.use[at])
            self.span[at] = np.where(near, 1, self.span[at])
        else:
            self.use[at, names[near]], self.span[at, names[near]] = amount[near], 1
        wide = np.flatnonzero(plain & (gap > 1))
        if wide.size:
            slots = np.full(wide.size, slot, np.int64)
            self._write(names[wide], slots, machine.slot[wide].astype(np.int64), amount[wide])

    # --- what rules read -------------------------------------------------------------------------------------------

    def consumption(self, *, longest_gap: int = 1) -> Floats:
        """[meters, slots] consumption up to the frontier; NaN where it is not known to the slot.

        longest_gap: cells that share one known amount over up to this many slots carry its mean; 1: only exact ones.
        """
        depth = self.frontier - self.first + 1
        shown = (self.span[:depth] >= 1) & (self.span[:depth] <= longest_gap)
        return np.where(shown, self.use[:depth], np.nan).T

    def time_of(self, slots: Any) -> Any:
        """[s since 1970] of slot boundaries."""
        return self.shape.origin_s + slots * self.shape.slot_s

    def excerpt(self, rows: Rows, first: int, slots: int) -> Grid:
        """Copy some meters from slot `first` on, with `slots` columns; advancing the copy leaves no trace here."""
        shape = replace(self.shape, slots=slots)
        part = Grid(shape, self.limits.take(rows), replaced_s=self.replaced[rows], dtype=self.use.dtype)
        at = first - self.first
        for name in ("raw", "offset", "flags", "code", "use", "span"):
            known = getattr(self, name)[at : at + slots][:, rows]
            getattr(part, name)[: known.shape[0]] = known
        part.first, part.frontier, part._machine = first, self.frontier, self._machine.take(rows)
        return part

    def drop(self, slots: int) -> None:
        """Forget the oldest `slots` slots and make room at the end; the machine keeps what came before."""
        keep_from = self.first + slots
        rows = np.arange(self.meters)
        before = self._dirty.copy()
        self._dirty[:] = keep_from
        machine, start = self._anchor(rows)
        fresh = start > self.first
        self._base.put(rows[fresh], machine.take(np.flatnonzero(fresh)))
        self._dirty = before
        for array, empty in ((self.raw, MISSING), (self.code, NO_CODE), (self.use, np.nan), (self.span, 0)):
            array[:-slots] = array[slots:]
            array[-slots:] = empty
        for array in (self.offset, self.flags):
            array[:-slots] = array[slots:]
            array[-slots:] = 0
        self.first = keep_from


def _mask(size: int, rows: Rows) -> NDArray[np.bool_]:
    mask = np.zeros(size, bool)
    mask[rows] = True
    return mask
