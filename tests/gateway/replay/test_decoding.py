"""A recording fed into the drivers gives what the live poll gave; what is unsound in it costs only itself."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest

from gateway.plan import parse_plan
from gateway.replay.decoding import decode_recording
from gateway.requests import Request
from metering.reading import Event, Reading
from metering.recording import Frame, Header, RecordedBus, Recording, read_recording
from simulators.comparing import compare
from simulators.outcomes import write_outcome
from tests.cases.make import CASES, Case, plan_text, record
from tests.gateway.drivers.buses import PROFILES


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_sick_bus_comes_to_the_same_readings_and_fault_counts(case: Case, tmp_path: Path) -> None:
    """With a seed that is not the shipped cases'."""
    live = record(replace(case, seconds=120.0), tmp_path, seed=2026)
    write_outcome(tmp_path / "live", live.rows, live.counts)
    outcome = decode_recording(read_recording(*live.recordings), live.plan)
    write_outcome(tmp_path / "replayed", outcome.rows, outcome.counts)
    assert (outcome.skipped, outcome.notes) == (0, [])
    found = compare(tmp_path / "live", tmp_path / "replayed")
    assert found.same, "\n".join(map(str, found.differences))
    assert found.lines["readings"][0] > 10


def test_twice_the_same_recording_gives_the_same_bytes(tmp_path: Path) -> None:
    live = record(replace(CASES[0], seconds=60.0), tmp_path)
    for name in ("a", "b"):
        outcome = decode_recording(read_recording(*live.recordings), live.plan)
        write_outcome(tmp_path / name, outcome.rows, outcome.counts)
    for file in ("readings.jsonl", "events.jsonl", "counts.jsonl"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_of_a_recording_that_was_cut_the_sound_part_is_replayed_and_the_line_named(tmp_path: Path) -> None:
    live = record(replace(CASES[2], seconds=60.0), tmp_path)
    raw = live.recordings[0].read_bytes()
    lines = raw.splitlines(keepends=True)
    half = len(lines) // 2
    cut = tmp_path / "cut.jsonl"
    cut.write_bytes(b"".join(lines[:half]) + b"something else\n" + lines[half][:20])
    outcome = decode_recording(read_recording(cut), live.plan)
    assert [note.split(": ")[0] for note in outcome.notes] == [f"cut.jsonl:{half + 1}", f"cut.jsonl:{half + 2}"]
    kept = [row for row in outcome.rows if isinstance(row, Reading)]
    assert kept
    assert kept == [row for row in live.rows if isinstance(row, Reading)][: len(kept)]


def test_a_recording_that_begins_in_the_middle_of_a_poll_leaves_that_poll_out(tmp_path: Path) -> None:
    """M-Bus asks twice a poll: reset (answered E5), then data."""
    live = record(replace(CASES[3], seconds=60.0), tmp_path)
    whole = read_recording(*live.recordings)
    asked = [place for place, frame in enumerate(whole.frames) if frame.dir == "tx"]
    tail = Recording(whole.header, whole.frames[asked[1] :])
    outcome = decode_recording(tail, live.plan)
    readings = [row for row in live.rows if isinstance(row, Reading)]
    assert outcome.skipped == 1
    assert [row for row in outcome.rows if isinstance(row, Reading)] == readings[1:]


def test_modbus_tcp_is_replayed_with_its_own_transaction_numbers() -> None:
    """Unit 1 answers its 3 polls: well, with exception 06, and with another transaction number (nobody's answer)."""
    plan = parse_plan(
        'gateway = "g"\n[[bus]]\nname = "t"\nhost = "h"\ntimeout_s = 0.5\n[[meter]]\nmeter = "W-1"\nbus = "t"\n'
        'profile = "usw-ultrasonic"\nunit = 1\ninterval_s = 10\n',
        PROFILES, name="plan",
    )  # fmt: skip
    request = cast(Request, plan.meters[0].requests[0])
    size = 2 * request.count
    tail = bytes((0, 0, 0, 6, 1, request.function)) + request.start.to_bytes(2, "big") + bytes((0, size // 2))
    good = bytes((0, 0)) + (3 + size).to_bytes(2, "big") + bytes((1, request.function, size)) + bytes(size)
    refusal = bytes((0, 0, 0, 3, 1, request.function | 0x80, 6))
    frames = []
    for number, answer in enumerate((b"\x10\x00" + good, b"\x10\x01" + refusal, b"\x77\x77" + good)):
        t = 100.0 + 10 * number
        at = 1_772_323_200_000 + 10_000 * number
        frames.append(Frame(t, at, "tx", (bytes((0x10, number)) + tail).hex(), "t", "W-1"))
        frames.append(Frame(t + 0.02, at + 20, "rx", answer.hex(), "t", "W-1"))
    header = Header(1, "g", frames[0].at, 100.0, buses=[RecordedBus("t", "modbus-tcp", timeout_s=0.5)])
    outcome = decode_recording(Recording(header, frames), plan)
    reading, refused, unanswered = outcome.rows
    assert isinstance(reading, Reading)
    assert reading.read_at == 1_772_323_200_020
    assert isinstance(refused, Event)
    assert (refused.cause, refused.at) == ("exception_06", 1_772_323_210_020)
    assert isinstance(unanswered, Event)
    assert (unanswered.cause, unanswered.at) == ("timeout", 1_772_323_220_500)
    counts = {line["kind"]: line["count"] for line in outcome.counts}
    assert counts == {"connects": 1, "frame_foreign": 1, "timeout": 1}


def test_a_bus_that_the_plan_does_not_know_is_named(tmp_path: Path) -> None:
    live = record(replace(CASES[0], seconds=30.0), tmp_path)
    text = plan_text(CASES[0]).replace('"b"', '"c"')
    outcome = decode_recording(read_recording(*live.recordings), parse_plan(text, PROFILES, name="plan"))
    assert outcome.rows == []
    assert outcome.notes == ['bus "b" was recorded and is not in the plan']


def test_mqtt_messages_come_to_rows_at_their_recorded_time() -> None:
    plan = parse_plan(
        'gateway = "g"\n[[mqtt_bus]]\nname = "m"\ntopics = ["pulse/+/state"]\n'
        '[[mqtt_meter]]\nmeter = "W-9"\nbus = "m"\ndevice = "w9"\n'
        'profile = "json-meter-no-clock"\ninterval_s = 3600\n',
        PROFILES, name="plan",
    )  # fmt: skip
    said = Frame(0.5, 1_772_323_100_000, "rx", b'{"total_m3":12.5}'.hex(), "mqtt", topic="pulse/w9/state", qos=1)
    broken = Frame(1.0, 1_772_323_200_000, "rx", b"{".hex(), "mqtt", topic="pulse/w9/state", qos=1)
    outcome = decode_recording(Recording(Header(1), [said, broken]), plan)
    reading, event = outcome.rows
    assert isinstance(reading, Reading)
    assert (reading.meter, reading.read_at, reading.values) == ("W-9", 1_772_323_100_000, {"volume": 12_500_000})
    assert isinstance(event, Event)
    assert event.at == 1_772_323_200_000
    assert {line["kind"]: line["count"] for line in outcome.counts} == {
        "messages": 2, "readings": 1, "broken": 1, "arrival_times": 1
    }  # fmt: skip
