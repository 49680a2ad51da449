"""Stuck: a meter that was never still stands still (frozen register, dead pulse input).

Source: utility manuals (meter slow, fast or dead 表慢、快、失灵: report at once). Zero use of a home can be a
journey; zero use of a standing load, a flushing line or a 24/7 works cannot, so a day or two is enough.
"""

from __future__ import annotations

from anomaly.rules.zero_use import zero_run
from anomaly.statistics import Flags, Floats
from anomaly.verdict import Verdict


def stuck(total: Floats, *, still_below: Floats, always_on: Flags, min_days: Floats, excluded: Flags) -> Verdict:
    """total: [unit/d], [days, meters]. always_on: had no still hours in the weeks before the run. min_days: [d]."""
    run = zero_run(total, still_below=still_below)
    on = always_on & (run >= min_days) & ~excluded
    return Verdict(on, (run > 0) & ~excluded, run * 24.0, {"days_at_rest": run})
