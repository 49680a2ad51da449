"""One simulated meter: what it answers, what it logs, and how it misbehaves."""

from __future__ import annotations

import pytest

from simulators.farm_settings import FaultKind, FaultSettings, FlowSettings
from simulators.simulated_meter import HANGUP, Late, SimulatedMeter
from tests.simulators.meters import NOW, READ_INDEX, ListLog, make_meter

HOUR_MS = 3_600_000
GOOD = "0001 0000 0009 01 03 06 0000 0001 2345"


def _hex(text: str) -> bytes:
    return bytes.fromhex(text)


def _sick(kind: FaultKind, **numbers: float) -> tuple[SimulatedMeter, ListLog]:
    log = ListLog()
    return make_meter(log, fault={"kind": kind, **numbers}), log


def _index(meter: SimulatedMeter, at_ms: int) -> str:
    answer = meter.answer(READ_INDEX, at_ms)
    assert isinstance(answer, bytes)
    return answer[9:].hex().lstrip("0") or "0"


def test_a_healthy_meter_answers_and_logs_the_exact_index() -> None:
    log = ListLog()
    assert make_meter(log).answer(READ_INDEX, NOW) == _hex(GOOD)
    assert log.lines == [(NOW, "G1\t1\t3\t100\t3", 12_345_000, "ok")]


def test_an_answer_without_the_index_logs_none() -> None:
    log = ListLog()
    make_meter(log).answer(_hex("0001 0000 0006 01 03 0067 0002"), NOW)
    assert log.lines == [(NOW, "G1\t1\t3\t103\t2", None, "ok")]


def test_pressure_is_there_with_the_first_answer() -> None:
    answer = make_meter(ListLog()).answer(_hex("0001 0000 0006 01 03 0067 0002"), NOW)
    assert isinstance(answer, bytes)
    assert answer[9:] != bytes(4)


def test_a_counting_meter_gives_each_answer_its_own_index() -> None:
    log = ListLog()
    meter = make_meter(log, curve="counting")
    for _ in range(3):
        meter.answer(READ_INDEX, NOW)
    meter.answer(_hex("0001 0000 0006 01 03 0067 0002"), NOW + 5_000)  # refresh without the index: no step
    meter.answer(READ_INDEX, NOW + 5_000)
    assert [line[2] for line in log.lines] == [12_345_000, 12_346_000, 12_347_000, None, 12_348_000]


def test_a_bad_request_is_refused_and_logged() -> None:
    log = ListLog()
    assert make_meter(log).answer(_hex("0001 0000 0006 01 06 0064 0003"), NOW) == _hex("0001 0000 0003 01 86 01")
    assert log.lines == [(NOW, "G1\t1\t6\t100\t3", None, "exception_01")]


@pytest.mark.parametrize(
    ("kind", "numbers", "answer"),
    [
        ("exception", {"code": 6}, "0001 0000 0003 01 83 06"),
        ("cut", {"keep": 10}, "0001 0000 0009 01 03 06 00"),
        ("wrong_transaction", {}, "5501 0000 0009 01 03 06 0000 0001 2345"),
        ("wrong_unit", {}, "0001 0000 0009 54 03 06 0000 0001 2345"),
        ("wrong_byte_count", {}, "0001 0000 0009 01 03 08 0000 0001 2345"),
        ("bad_content", {}, "0001 0000 0009 01 03 06 abab abab abab"),
        ("not_available", {}, "0001 0000 0009 01 03 06 ffff ffff ffff"),
    ],
)
def test_a_sick_meter_answers_as_its_fault_says_and_logs_no_index(
    kind: FaultKind, numbers: dict[str, float], answer: str
) -> None:
    meter, log = _sick(kind, **numbers)
    assert meter.answer(READ_INDEX, NOW) == _hex(answer)
    assert log.lines == [(NOW, "G1\t1\t3\t100\t3", None, kind)]
    meter.set_fault(None)
    assert meter.answer(READ_INDEX, NOW) == _hex(GOOD)


def test_a_silent_meter_says_nothing_and_logs_nothing() -> None:
    meter, log = _sick("silent")
    assert meter.answer(READ_INDEX, NOW) == b""
    assert meter.answer(_hex("0001 0000 0006 01 06 0064 0003"), NOW) == b""
    assert log.lines == []


def test_close_hangs_up() -> None:
    meter, log = _sick("close")
    assert meter.answer(READ_INDEX, NOW) is HANGUP
    assert log.lines == []


def test_garbage_is_not_the_answer_and_comes_from_the_seed() -> None:
    first, second = (_sick("garbage")[0].answer(READ_INDEX, NOW) for _ in range(2))
    assert isinstance(first, bytes)
    assert first == second
    assert len(first) == 15
    assert first != _hex(GOOD)


def test_a_late_answer_carries_the_value_and_the_time_of_its_sending() -> None:
    log = ListLog()
    meter = make_meter(log, curve="steady", start_index=0, fault={"kind": "late", "seconds": 3600})
    late = meter.answer(READ_INDEX, NOW)
    assert isinstance(late, Late)
    assert late.seconds == 3600
    assert log.lines == []
    late.answer_now(NOW + HOUR_MS)
    hours = (NOW + HOUR_MS - 1_704_038_400_000) // HOUR_MS
    assert log.lines == [(NOW + HOUR_MS, "G1\t1\t3\t100\t3", hours * 1_000_000, "late")]


def test_a_transient_zero_index_is_logged_as_what_was_said() -> None:
    meter, log = _sick("zero_index", times=1)
    assert _index(meter, NOW) == "0"
    assert _index(meter, NOW) == "12345"
    assert [(line[2], line[3]) for line in log.lines] == [(0, "zero_index"), (12_345_000, "ok")]
    assert not meter.is_sick


def test_a_frozen_meter_stands_and_then_goes_on() -> None:
    log = ListLog()
    meter = make_meter(log, curve="steady", start_index=0)
    before = _index(meter, NOW)
    meter.set_fault(FaultSettings(kind="freeze"))
    assert _index(meter, NOW + HOUR_MS) == before
    assert _index(meter, NOW + 2 * HOUR_MS) == before
    meter.set_fault(None)
    assert int(_index(meter, NOW + 3 * HOUR_MS)) == int(before) + 3_000
    assert [line[3] for line in log.lines] == ["ok", "freeze", "freeze", "ok"]


def test_share_hits_about_that_share_of_the_answers() -> None:
    meter, log = _sick("exception", share=0.25)
    for _ in range(1000):
        meter.answer(READ_INDEX, NOW)
    assert 200 <= sum(line[3] == "exception" for line in log.lines) <= 300


def test_a_leak_adds_its_rate_to_the_curve() -> None:
    meter = make_meter(ListLog(), curve="steady", start_index=0)
    start = int(_index(meter, NOW))
    meter.set_flow(FlowSettings(kind="leak", rate=0.5), NOW)
    assert int(_index(meter, NOW + 4 * HOUR_MS)) == start + 4_000 + 2_000


def test_zero_flow_stops_the_index_and_normal_lets_it_go_on_from_there() -> None:
    meter = make_meter(ListLog(), curve="steady", start_index=0)
    start = int(_index(meter, NOW))
    meter.set_flow(FlowSettings(kind="zero"), NOW)
    assert int(_index(meter, NOW + HOUR_MS)) == start
    meter.set_flow(FlowSettings(kind="normal"), NOW + HOUR_MS)
    assert int(_index(meter, NOW + 2 * HOUR_MS)) == start + 1_000


def test_reverse_flow_runs_the_curve_or_a_given_rate_backwards() -> None:
    meter = make_meter(ListLog(), curve="steady", start_index=0)
    start = int(_index(meter, NOW))
    meter.set_flow(FlowSettings(kind="reverse"), NOW)
    assert int(_index(meter, NOW + HOUR_MS)) == start - 1_000
    meter.set_flow(FlowSettings(kind="reverse", rate=3.0), NOW + HOUR_MS)
    assert int(_index(meter, NOW + 2 * HOUR_MS)) == start - 4_000


def test_an_index_can_jump_and_counts_on() -> None:
    meter = make_meter(ListLog(), curve="steady", start_index=0)
    meter.set_index(5_000_000, NOW)
    assert _index(meter, NOW) == "5000"
    assert _index(meter, NOW + HOUR_MS) == "6000"


def test_flags_reach_the_status_register_at_once() -> None:
    meter = make_meter(ListLog(), flags=("MAGNET",))
    status = _hex("0001 0000 0006 01 03 006e 0001")
    assert meter.answer(status, NOW) == _hex("0001 0000 0005 01 03 02 0004")
    meter.set_flags(["LOW_BATTERY"])
    assert meter.answer(status, NOW) == _hex("0001 0000 0005 01 03 02 0100")


def test_a_scan_of_all_addresses_does_not_fill_the_memory() -> None:
    meter = make_meter(ListLog())
    for start in range(68, 143):
        for count in range(1, 143 - start + 1):
            meter.answer(_hex("0001 0000 0006 01 03") + start.to_bytes(2, "big") + count.to_bytes(2, "big"), NOW)
    assert len(meter._blocks) == 1_000
