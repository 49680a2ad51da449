"""A seeded fleet of meters with known anomalies, as files in the form of a city utility's readings.

`make_fleet` draws meters, their customers' use, ordinary situations, anomalies and the imperfections of telemetry;
`write_fleet` writes meters.csv, readings.csv.gz, labels.csv, hard_negatives.csv and weather.csv. It knows nothing of
the rules that are judged with it.
"""

from simulators.fleet.fleet import Fleet, make_fleet
from simulators.fleet.model import Label, Meter, Situation
from simulators.fleet.writing import write_fleet

__all__ = ["Fleet", "Label", "Meter", "Situation", "make_fleet", "write_fleet"]
