"""The interval matrix: cells worked by hand, and incremental equal to batch whatever the order of arrival."""

from __future__ import annotations

import numpy as np
import pytest

from anomaly.intervals import Grid, GridShape
from metering.steps import Step, limit_arrays, limits_of

M = 1_000_000
HOUR = 3600
LIMITS = limits_of(digits=5, resolution=10_000, qmax=4 * M)


def grid(meters: int = 1, slots: int = 48, *, slot_s: int = HOUR, replaced: int = 0) -> Grid:
    shape = GridShape(slot_s, 0, slots, slot_s // 2 if slot_s < 86_400 else 8 * HOUR)
    return Grid(shape, limit_arrays([LIMITS] * meters), replaced_s=np.full(meters, replaced, np.int64))


def put(g: Grid, readings: dict[int, float], meter: int = 0, jitter_s: int = 20) -> None:
    """readings: slot -> index [m³]."""
    slots = np.array(list(readings), np.int64)
    micro = np.array([round(v * M) for v in readings.values()], np.int64)
    rows = np.full(slots.size, meter, np.int64)
    g.put(rows, slots * g.shape.slot_s + jitter_s, micro, np.zeros(slots.size, np.uint8))


def cells(g: Grid, gap: int = 1) -> list[float | None]:
    return [None if np.isnan(v) else round(float(v), 6) for v in g.consumption(longest_gap=gap)[0]]


def test_hourly_indexes_become_hourly_cells():
    g = grid()
    put(g, {0: 10.0, 1: 10.25, 2: 10.25, 3: 11.0})
    g.advance(3)
    assert cells(g) == [None, 0.25, 0.0, 0.75]


def test_gap_is_unknown_and_its_mean_is_marked():
    g = grid()
    put(g, {0: 10.0, 3: 10.6})
    g.advance(3)
    assert cells(g) == [None] * 4
    assert cells(g, gap=3) == [None, 0.2, 0.2, 0.2]


def test_late_reading_fills_its_own_cells():
    g = grid()
    put(g, {0: 10.0, 2: 10.6})
    g.advance(2)
    put(g, {1: 10.5})
    late, since = g.advance(2)
    assert (late.tolist(), since.tolist()) == ([0], [1])
    assert cells(g) == [None, 0.5, 0.1]


def test_bad_value_costs_two_cells_and_is_named():
    g = grid()
    put(g, {0: 10.0, 1: 99999.9, 2: 10.2, 3: 10.3})
    g.advance(1)
    assert g.code[1, 0] == Step.PENDING
    g.advance(3)
    assert g.code[1, 0] == Step.TRANSIENT
    assert cells(g) == [None, None, None, 0.1]
    assert cells(g, gap=2) == [None, 0.1, 0.1, 0.1]


def test_rollover_is_ordinary_consumption():
    g = grid()
    put(g, {0: 99999.9, 1: 0.2, 2: 0.3})
    g.advance(1)
    assert cells(g) == [None, None]  # held: it may be one bad value
    g.advance(2)
    assert cells(g) == [None, 0.3, 0.1]


def test_unrecorded_exchange_leaves_one_unknown_cell():
    g = grid()
    put(g, {0: 1000.0, 1: 5.0, 2: 5.5})
    g.advance(2)
    assert g.code[1, 0] == Step.EXCHANGE
    assert cells(g) == [None, None, 0.5]


def test_recorded_exchange_needs_no_confirmation():
    g = grid(replaced=HOUR // 2)
    put(g, {0: 10.0, 1: 10.5})  # looks like consumption, but the record says: another meter
    g.advance(1)
    assert g.code[1, 0] == Step.EXCHANGE
    assert cells(g) == [None, None]


def test_reverse_step_is_negative_consumption():
    g = grid()
    put(g, {0: 10.0, 1: 9.5})
    g.advance(1)
    assert cells(g) == [None, -0.5]


def test_unit_change_is_scaled_back():
    g = grid()
    put(g, {0: 1000.0, 1: 1.0005, 2: 1.0009, 3: 1.0019})
    g.advance(3)
    assert g.code[1, 0] == Step.UNIT_CHANGE
    assert cells(g) == [None, None, 0.4, 1.0]


def test_daily_reading_closes_the_midnight_before_it():
    g = grid(slot_s=86_400)
    rows = np.zeros(2, np.int64)
    g.put(rows, np.array([3 * HOUR, 86_400 - 2 * HOUR]), np.array([1 * M, 2 * M]), np.zeros(2, np.uint8))
    g.advance(1)
    assert cells(g) == [None, 1.0]  # read at 03:00 and at 22:00: boundaries 0 and 1


def test_two_values_for_one_time_are_a_conflict():
    g = grid()
    put(g, {0: 10.0})
    put(g, {0: 10.5})
    assert g.conflicts == 1
    assert g.raw[0, 0] == 10 * M


def wild(seed: int, meters: int, slots: int) -> tuple[np.ndarray, ...]:
    """Readings with every fault: gaps, bad values, exchanges, unit changes, reverse runs, two in a slot."""
    rng = np.random.default_rng(seed)
    flow = rng.choice([0, 0, 10_000, 230_000, -60_000], size=(meters, slots), p=[0.4, 0.1, 0.2, 0.28, 0.02])
    index = 99_998_000_000 * (rng.random((meters, 1)) < 0.3).astype(np.int64) + 50_000_000 + flow.cumsum(axis=1)
    index %= 100_000_000_000
    for m in range(meters):
        for at in rng.integers(1, slots, 3):
            kind = rng.integers(4)
            if kind == 0:
                index[m, at] = rng.choice([0, 99_999_990_000, 77_000_000])
            elif kind == 1:
                index[m, at:] += rng.integers(-40_000_000, 9_000_000_000)
            elif kind == 2:
                index[m, at:] = index[m, at:] // 1000
    index = np.maximum(index, 0)
    rows, slot = (part.ravel() for part in np.indices((meters, slots)))
    times = slot * HOUR + rng.integers(-90, 90, rows.size)
    keep = np.flatnonzero(rng.random(rows.size) > 0.15)
    return rows[keep], times[keep], index.ravel()[keep]


@pytest.mark.parametrize("seed", range(6))
def test_any_order_of_arrival_gives_the_batch_matrix_cell_for_cell(seed: int):
    meters, slots = 12, 120
    rows, times, micro = wild(seed, meters, slots)
    none = np.zeros(rows.size, np.uint8)
    batch = grid(meters, slots)
    batch.put(rows, times, micro, none)
    batch.advance(slots - 1)
    rng = np.random.default_rng(100 + seed)
    order = np.argsort(times + rng.exponential(8 * HOUR, rows.size))
    order = np.concatenate([order, rng.choice(order, 50)])  # and some once more
    step = grid(meters, slots)
    for part in np.array_split(order, 60):
        step.put(rows[part], times[part], micro[part], none[part])
        step.advance(int(times[part].max()) // HOUR)
    step.advance(slots - 1)
    assert np.array_equal(step.code, batch.code)
    assert np.array_equal(step.span, batch.span)
    assert np.array_equal(step.use, batch.use, equal_nan=True)
    assert {Step.TRANSIENT, Step.REVERSE, Step.FORWARD} <= set(batch.code.ravel().tolist())


@pytest.mark.parametrize("seed", range(3))
def test_dropping_old_slots_changes_no_cell_that_stays(seed: int):
    meters, slots = 12, 120
    rows, times, micro = wild(seed, meters, slots)
    none = np.zeros(rows.size, np.uint8)
    whole, ring = grid(meters, slots), grid(meters, 72)
    whole.put(rows, times, micro, none)
    whole.advance(slots - 1)
    for end in range(24, slots + 1, 24):
        part = np.flatnonzero((times >= (end - 24) * HOUR - 1800) & (times < end * HOUR - 1800))
        if end > 72:
            ring.drop(24)
        ring.put(rows[part], times[part], micro[part], none[part])
        ring.advance(end - 1)
    assert ring.first == 48
    assert np.array_equal(ring.use, whole.use[48:], equal_nan=True)
    assert np.array_equal(ring.code, whole.code[48:])
