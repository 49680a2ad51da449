"""A city's day: N meters x 24 hourly readings with 60 days of state, through intervals and all rules, on 2 cores.

    python benchmarks/city_hour.py [--meters 10000 100000 1000000]

Goal for 1,000,000 meters: 60 s and 8 GB. Each of two processes holds half of the meters in shards of 25,000 (parts of
the city, as the services share it) and takes the day hour by hour: put the readings, run the column machine, ask the
hourly rules; at the end of the local day fold it and ask the daily rules. State: 5 days of indexes and cells, 60 days
folded to 14 numbers a day, float32. Beside it, bare: the time the memory needs to read those arrays once.

Prints one JSON line per size.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing as mp
import os
import resource
import sys
import time
from multiprocessing.queues import Queue
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"):
    os.environ.setdefault(name, "1")

import numpy as np  # noqa: E402  (after the thread settings)

from anomaly.engine import Engine, EngineShape  # noqa: E402  (as above)
from anomaly.meters import Meter, MeterTable  # noqa: E402  (as above)
from anomaly.thresholds import load_thresholds  # noqa: E402  (as above)

HOUR, DAY = 3600, 86_400
START = 1_772_294_400  # a midnight in Shanghai
WAIT = 4 * HOUR + 900
"""[s] tolerance for late data, and a quarter past."""
CHUNK = 25_000
STATE_DAYS = 60
GRID_DAYS = 5
PROCESSES = 2


def households(meters: int, rng: np.random.Generator) -> np.ndarray:
    """[hours of a day, meters] micro: still at night, some leak, some rest, as a city is."""
    shape = np.where(np.arange(24)[:, None] < 6, 0, rng.integers(0, 60_000, (24, meters)))
    shape[:, rng.random(meters) < 0.01] += 30_000
    shape[:, rng.random(meters) < 0.05] = 0
    return (shape // 10_000 * 10_000).astype(np.int64)


class Part:
    """25,000 meters with their state loaded, waiting for the day."""

    def __init__(self, number: int, meters: int) -> None:
        rng = np.random.default_rng(number)
        kinds = [
            ("gas", "residential"),
            ("water", "residential"),
            ("gas", "residential_heating"),
            ("water", "public"),
        ]
        table = MeterTable([Meter(f"{number}-{i}", *kinds[i % 4], qmax_per_h=4_000_000) for i in range(meters)])
        shape = EngineShape(GRID_DAYS, STATE_DAYS + 2, lead_days=0, dtype=np.float32)
        self.engine = Engine(table, load_thresholds(), start_s=START, shape=shape)
        self.shape, self.meters, self.rng = households(meters, rng), meters, rng
        self.index = rng.integers(10**9, 10**11, meters)
        self._load()

    def _load(self) -> None:
        """Two days through the door, then 58 more days of folded history behind them."""
        for hour in range(49):
            self.push(hour)
        self.engine.tick(START + 48 * HOUR + WAIT)
        shard = self.engine.shards[0]
        for values in shard.days.values():
            last = values[shard.day].copy()
            values[: STATE_DAYS - 2] = last * self.rng.uniform(0.8, 1.2, (STATE_DAYS - 2, 1)).astype(np.float32)
            values[STATE_DAYS - 2] = last
        shard.first_day, shard.day = shard.day - (STATE_DAYS - 2), shard.day

    def rows(self, hour: int) -> tuple[np.ndarray, ...]:
        """The readings of one hour; 1 % are missing."""
        self.index = self.index + self.shape[hour % 24]
        keep = np.flatnonzero(self.rng.random(self.meters) > 0.01).astype(np.int32)
        ts = np.full(keep.size, START + hour * HOUR, np.int64) + self.rng.integers(0, 60, keep.size)
        return keep, ts, ts + 40, self.index[keep], np.zeros(keep.size, np.uint8)

    def push(self, hour: int) -> None:
        self.engine.push(*self.rows(hour))


def work(number: int, meters: int, barrier: Barrier, out: Queue[dict[str, float]]) -> None:
    """One process: build its parts, wait for the other, take the day."""
    if hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[number % len(cores)]})
    sizes = [min(CHUNK, meters - first) for first in range(0, meters, CHUNK)]
    parts = [Part(number * 1000 + i, size) for i, size in enumerate(sizes)]
    barrier.wait()
    spent = feeding = 0.0
    for hour in range(49, 73):  # the boundary of hour 72 completes the local day
        for part in parts:
            made = time.perf_counter()
            rows = part.rows(hour)
            start = time.perf_counter()
            feeding += start - made
            part.engine.push(*rows)
            part.engine.tick(START + hour * HOUR + WAIT)
            spent += time.perf_counter() - start
    bare, size = bandwidth(parts)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    found = sum(len(part.engine.book.findings) for part in parts)
    out.put({"spent": spent, "bare": bare, "bytes": size, "peak_gb": peak, "findings": found})


def bandwidth(parts: list[Part]) -> tuple[float, float]:
    """Seconds to read every array of the state once, and their size [bytes]."""
    arrays: list[Any] = []
    for part in parts:
        shard = part.engine.shards[0]
        arrays += [shard.grid.raw, shard.grid.use, *shard.days.values()]
    start = time.perf_counter()
    for array in arrays:
        array.view(np.int32).max()
    return time.perf_counter() - start, float(sum(array.nbytes for array in arrays))


def city(meters: int) -> dict[str, float]:
    """Run one size and return its figures."""
    context = mp.get_context("spawn")
    barrier, out = context.Barrier(PROCESSES), context.Queue()
    share = [meters // PROCESSES + (i < meters % PROCESSES) for i in range(PROCESSES)]
    workers = [context.Process(target=work, args=(i, share[i], barrier, out)) for i in range(PROCESSES)]
    for worker in workers:
        worker.start()
    results = [out.get() for _ in workers]
    for worker in workers:
        worker.join()
    seconds = max(result["spent"] for result in results)
    return {
        "meters": meters,
        "readings": meters * 24,
        "seconds": round(seconds, 2),
        "us_per_meter_day": round(seconds * PROCESSES / meters * 1e6, 2),
        "state_gb": round(sum(result["bytes"] for result in results) / 2**30, 2),
        "peak_gb": round(sum(result["peak_gb"] for result in results), 2),
        "bare_read_s": round(max(result["bare"] for result in results), 3),
        "findings": sum(result["findings"] for result in results),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--meters", type=int, nargs="+", default=[10_000, 100_000, 1_000_000])
    for wanted in parser.parse_args().meters:
        print(json.dumps(city(wanted)), flush=True)
