"""How long `metergate detect` takes for 2,000 meters and about 2.6 million rows on one core (goal: 120 s).

    python benchmarks/detect_speed.py [--meters 2000] [--seed 101]

Prints one JSON line: rows, seconds for reading and for judging, readings per second, peak memory.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
for name in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "ARROW_NUM_THREADS"):
    os.environ.setdefault(name, "1")

from anomaly.files import read_meters, read_readings  # noqa: E402  (after the path and thread settings)
from anomaly.run import run  # noqa: E402  (as above)
from anomaly.thresholds import load_thresholds  # noqa: E402  (as above)
from simulators.fleet import make_fleet, write_fleet  # noqa: E402  (as above)


def main() -> None:
    """Make a fleet, judge it once, print what it took."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--meters", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=101)
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_fleet(make_fleet(wanted.meters, wanted.seed), folder)
        if hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
        start, busy = time.perf_counter(), time.process_time()
        meters, _ = read_meters(folder / "meters.csv")
        rows = read_readings(folder / "readings.csv.gz", meters)
        read_s = time.perf_counter() - start
        engine = run(meters, rows, load_thresholds())
        total_s, cpu_s = time.perf_counter() - start, time.process_time() - busy
    print(
        json.dumps(
            {
                "meters": len(meters),
                "rows": len(rows),
                "findings": len(engine.book.findings),
                "read_s": round(read_s, 2),
                "total_s": round(total_s, 2),
                "cpu_s": round(cpu_s, 2),
                "rows_per_cpu_s": round(len(rows) / cpu_s),
                "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
            }
        )
    )


if __name__ == "__main__":
    main()
