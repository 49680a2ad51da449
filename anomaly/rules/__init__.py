"""One file per rule: pure functions, arrays in and flags out, thresholds as arguments.

Arrays of history are [days, meters] with the newest day last and NaN where nothing is known; every other array is
[meters]. A rule sees no file, clock, id or finding. `anomaly.judge` feeds the rules, `anomaly.engine` turns flags
into findings.
"""
