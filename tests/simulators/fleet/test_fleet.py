"""Generated fleets: the sample's form, repeatable, and true to their labels."""

from __future__ import annotations

import ast
import csv
import gzip
import hashlib
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from simulators.fleet import Meter, make_fleet, write_fleet
from simulators.fleet.model import DAY, HOUR, Trace
from simulators.fleet.telemetry import FLAGS, Rows

ROOT = Path(__file__).parents[3]
One = tuple[Meter, Trace, Rows]
KINDS = {
    *("leak", "leak_intermittent", "zero_use", "reverse_flow", "stuck", "high_use", "comms_loss", "tamper"),
    *("unauthorised", "drift", "spike", "unit_error", "ignore"),
}


@pytest.fixture(scope="module")
def fleet() -> list[One]:
    return list(make_fleet(500, 11).each())


def _with(fleet: list[One], kind: str, severity: str = "") -> list[One]:
    found = [o for o in fleet if any(x.kind == kind and severity in ("", x.severity) for x in o[1].labels)]
    assert found, f"no {kind} {severity} among {len(fleet)} meters"
    return found


def _ordinary(fleet: list[One]) -> list[One]:
    return [o for o in fleet if not o[1].labels and o[0].replaced is None and not o[1].during("rollover")]


def _once(rows: Rows) -> Rows:
    """Rows by time of reading, each once, without those whose clock forgot the date."""
    _, first = np.unique(rows.ts, return_index=True)
    return rows.take(first[rows.ts[first] > 1_000_000_000])


def test_files_have_the_columns_of_the_sample(tmp_path: Path) -> None:
    counts = write_fleet(make_fleet(25, 3), tmp_path)
    heads = {}
    for path in tmp_path.iterdir():
        text = gzip.decompress(path.read_bytes()).decode() if path.suffix == ".gz" else path.read_text()
        heads[path.name] = text.split("\n", 1)[0]
        if path.name == "readings.csv.gz":
            assert text.count("\n") - 1 == counts["readings"]
    assert heads == {
        "meters.csv": "meter_id,medium,unit,customer_class,install_date,commission_date,replaced_at,index_digits,"
        "resolution,interval_s,qmax_per_h,tz,district,first_ts,last_ts",
        "readings.csv.gz": "meter_id,ts,received_at,index,flags",
        "labels.csv": "meter_id,kind,start,end,severity,note",
        "hard_negatives.csv": "meter_id,kind,start,end",
        "weather.csv": "date,temp_avg_c",
    }


def test_rows_come_in_order_of_arrival_with_the_meters_decimals(tmp_path: Path) -> None:
    write_fleet(make_fleet(25, 3), tmp_path)
    with (tmp_path / "meters.csv").open() as file:
        decimals = {r["meter_id"]: len(r["resolution"]) - 2 for r in csv.DictReader(file)}
    with (tmp_path / "labels.csv").open() as file:
        rescaled = {r["meter_id"] for r in csv.DictReader(file) if r["kind"] == "unit_error"}
    with gzip.open(tmp_path / "readings.csv.gz", "rt") as file:
        rows = list(csv.DictReader(file))
    arrived = [r["received_at"] for r in rows]
    assert arrived == sorted(arrived)
    assert {r["meter_id"] for r in rows} == set(decimals)
    assert all(
        len(r["index"].split(".")[1]) == decimals[r["meter_id"]] for r in rows if r["meter_id"] not in rescaled
    )


def test_same_seed_gives_the_same_files_byte_for_byte_and_another_seed_others(tmp_path: Path) -> None:
    prints = []
    for name, seed in (("a", 5), ("b", 5), ("c", 6)):
        write_fleet(make_fleet(8, seed), tmp_path / name)
        prints.append({p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in (tmp_path / name).iterdir()})
    assert prints[0] == prints[1]
    assert all(prints[0][name] != prints[2][name] for name in ("meters.csv", "readings.csv.gz", "weather.csv"))


def test_a_meter_does_not_depend_on_how_many_there_are() -> None:
    few, many = list(make_fleet(3, 9).each()), list(make_fleet(6, 9).each())
    assert [m.id for m, _, _ in many[:3]] == [m.id for m, _, _ in few]
    assert all(np.array_equal(a[2].raw, b[2].raw) for a, b in zip(few, many[:3], strict=True))


def test_labels_lie_in_the_observation_and_use_the_scorers_words(fleet: list[One]) -> None:
    for meter, trace, _ in fleet:
        for label in trace.labels:
            assert label.kind in KINDS
            assert meter.start <= label.start < label.end <= meter.end + HOUR, (meter.id, label)


def test_every_kind_of_anomaly_and_of_ordinary_situation_occurs(fleet: list[One]) -> None:
    assert {x.kind for _, t, _ in fleet for x in t.labels} == KINDS
    situations = Counter(x.kind for _, t, _ in fleet for x in t.situations)
    for kind in (
        *("boiler", "boiler_unregistered", "heating_start", "holiday_trip", "spring_festival_away", "vacant"),
        *("spring_festival_guests", "spring_festival_closed", "night_restaurant", "party_weekend", "move_in"),
        *("continuous_industry", "continuous_flush", "factory_restart", "valve_closed", "uncommissioned_idle"),
        *("late_upload", "concentrator_outage", "bad_clock", "rollover", "replacement", "pilot_flame"),
    ):
        assert situations[kind] > 0, kind
    anomalous = sum(any(x.kind not in ("ignore", "spike") for x in t.labels) for _, t, _ in fleet)
    assert 0.2 < anomalous / len(fleet) < 0.3


def test_missing_late_and_duplicate_rows_have_the_shares_of_the_sample(fleet: list[One]) -> None:
    plain = [o for o in _ordinary(fleet) if o[0].interval_s == 3600 and not o[1].bursts and not o[1].bad_clock_rows]
    rows = [o[2] for o in plain]
    unique = sum(np.unique(r.ts).size for r in rows)
    assert unique / (len(plain) * 1440) == pytest.approx(1 - 0.017, abs=0.003)
    assert sum(r.ts.size for r in rows) / unique - 1 == pytest.approx(0.0048, abs=0.0015)
    late = sum(int((r.received - r.ts > 3_500).sum()) for r in rows)
    assert 0.008 < late / unique < 0.016  # 1 % late, and those duplicates that come an hour or more after


def test_index_of_an_ordinary_meter_never_falls(fleet: list[One]) -> None:
    for meter, _, rows in _ordinary(fleet):
        assert (np.diff(_once(rows).raw) >= 0).all(), meter.id


def test_rollover_passes_from_the_last_number_to_the_first(fleet: list[One]) -> None:
    rolled = [o for o in fleet if o[1].during("rollover") and not o[1].labels]
    assert rolled
    for meter, _, rows in rolled:
        steps = np.diff(_once(rows).raw)
        assert (steps < 0).sum() == 1, meter.id
        assert steps.min() < -0.9 * 10 ** (meter.digits + meter.decimals)


def test_silent_meter_sends_nothing_during_its_communication_loss(fleet: list[One]) -> None:
    for _, trace, rows in _with(fleet, "comms_loss"):
        label = next(x for x in trace.labels if x.kind == "comms_loss")
        inside = (rows.ts > label.start + 400) & (rows.ts < label.end - 400)  # 400 s: clocks are wrong
        assert not inside.any()


def test_stuck_register_stands_from_its_start_on(fleet: list[One]) -> None:
    for meter, trace, rows in _with(fleet, "stuck"):
        if not trace.spikes:
            start = next(x.start for x in trace.labels if x.kind == "stuck")
            after = _once(rows).ts > start + 1_800
            assert np.unique(_once(rows).raw[after]).size == 1, meter.id


def test_leaking_meter_has_no_still_day_and_the_rate_of_its_note(fleet: list[One]) -> None:
    for meter, trace, _ in _with(fleet, "leak"):
        label = next(x for x in trace.labels if x.kind == "leak")
        rate = float(label.note.split()[0]) / 1000 / 4
        assert trace.use[trace.part(meter, label.start, label.end)].min() >= 0.92 * rate


def test_reversed_meter_runs_backwards(fleet: list[One]) -> None:
    for meter, trace, _ in _with(fleet, "reverse_flow", "reversed"):
        start = next(x.start for x in trace.labels if x.kind == "reverse_flow")
        assert trace.use[trace.part(meter, start, meter.end)].max() <= 0


def test_high_use_of_a_household_exceeds_its_threshold(fleet: list[One]) -> None:
    for meter, trace, _ in _with(fleet, "high_use"):
        label = next(x for x in trace.labels if x.kind == "high_use")
        per_month = trace.use[trace.part(meter, label.start, label.end)].sum() / (label.end - label.start) * 30 * DAY
        if label.severity in ("over50", "over100"):
            assert per_month > float(label.severity[4:])


def test_zero_use_is_longer_than_its_name_says_and_complete(fleet: list[One]) -> None:
    for meter, trace, _ in _with(fleet, "zero_use"):
        label = next(x for x in trace.labels if x.kind == "zero_use")
        assert (label.end - label.start) / DAY >= int(label.severity[1:])
        inside = trace.use[trace.part(meter, label.start + HOUR, label.end - HOUR)]
        assert inside.sum() == 0


def test_unit_error_moves_the_point_and_nothing_else(fleet: list[One]) -> None:
    factors = {"x10": 10, "x100": 100, "x1000": 1000, "/10": 0.1, "/1000": 0.001}
    for _, trace, rows in _with(fleet, "unit_error"):
        if trace.spikes or trace.during("rollover"):
            continue
        label = next(x for x in trace.labels if x.kind == "unit_error")
        value = _once(rows).raw / 10.0 ** _once(rows).decimals
        at = int(np.searchsorted(_once(rows).ts, label.start + 500))
        assert value[at] / value[at - 3] == pytest.approx(factors[label.severity], rel=0.25)


def test_bad_value_stands_out_and_is_gone_with_the_next_reading(fleet: list[One]) -> None:
    for meter, trace, rows in _with(fleet, "spike"):
        if any(x.kind not in ("spike",) for x in trace.labels) or trace.during("rollover"):
            continue
        once = _once(rows)
        for label in (x for x in trace.labels if x.kind == "spike"):
            at = int(np.argmin(np.abs(once.ts - (label.start + 60))))
            usual = abs(int(once.raw[at + 1]) - int(once.raw[at - 1]))
            if label.severity != "zero" or once.raw[at - 1] > 1_000:
                assert abs(int(once.raw[at]) - int(once.raw[at - 1])) > 2 * usual, (meter.id, label)


def test_unauthorised_use_begins_at_a_closed_valve_or_an_uncommissioned_meter(fleet: list[One]) -> None:
    for meter, trace, rows in _with(fleet, "unauthorised"):
        label = next(x for x in trace.labels if x.kind == "unauthorised")
        assert trace.use[: trace.quarter(meter, label.start)].sum() == 0
        assert trace.use[trace.quarter(meter, label.start) :].sum() > 0
        if label.severity == "uncommissioned":
            assert not meter.commissioned
        else:
            assert (rows.flag == FLAGS.index("VALVE_CLOSED")).mean() > 0.95


def test_rows_of_a_concentrator_that_was_away_arrive_together(fleet: list[One]) -> None:
    city = make_fleet(1, 11).city
    hit = [o for o in fleet if o[1].during("concentrator_outage") and not o[1].silences]
    assert hit
    for _, _, rows in hit:
        outage = next(o for o in city.outages if (np.abs(rows.ts - o.start) < DAY).any())
        inside = (rows.ts > outage.start + 400) & (rows.ts < outage.end - 400)
        assert inside.any()
        assert (rows.received[inside] >= int(outage.end)).all()


def test_boilers_rest_in_october_and_heat_in_december(fleet: list[One]) -> None:
    autumn = [o for o in _ordinary(fleet) if o[0].habit == "boiler" and o[1].during("heating_start")]
    assert autumn
    before = sum(t.use[: 10 * 96].sum() for _, t, _ in autumn)
    after = sum(t.use[50 * 96 : 60 * 96].sum() for _, t, _ in autumn)
    assert after > 3 * before


def test_the_generator_knows_nothing_of_the_rules() -> None:
    for path in (ROOT / "simulators").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not any(name.split(".")[0] in ("anomaly", "ingest", "registry", "api") for name in names), path


def test_bad_numbers_are_refused() -> None:
    with pytest.raises(ValueError, match="at least one meter"):
        make_fleet(0, 1)
    with pytest.raises(ValueError, match="seed"):
        make_fleet(1, -1)


def test_command_writes_a_fleet_and_says_what(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "simulators.fleet", "--meters", "4", "--seed", "7", "--out", str(tmp_path / "f")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True, cwd=ROOT)
    assert json.loads(done.stdout)["meters"] == 4
    assert len(list((tmp_path / "f").iterdir())) == 5
