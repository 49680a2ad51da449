"""The uplink's book: what is sent when, what leaves, what is sent again."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.send_ledger import Flight, SendLedger
from gateway.spans import Span, SpanSet
from metering.messages import MAX_ROWS, VERSION, Ack, Refused

EPOCH = "0123456789abcdef"


def _ledger(produced: int = 0, **options: float) -> SendLedger:
    ledger = SendLedger(random.Random(1), window=int(options.pop("window", 4)), gather_s=0.0, **options)
    ledger.reset(EPOCH, [(1, produced)] if produced else [], produced)
    return ledger


def _send(ledger: SendLedger, now: float, digest: str = "") -> Flight | None:
    wanted = ledger.next(now)
    return ledger.sent(wanted.low, wanted.high, digest, now) if wanted else None


def _spans(flight: Flight | None) -> Span | None:
    return (flight.low, flight.high) if flight else None


def _ack(upto: int, *missing: Span, epoch: str = EPOCH, refused: str = "") -> Ack:
    return Ack(VERSION, epoch, upto, list(missing), Refused(refused, "broken") if refused else None)


def test_nothing_is_sent_without_a_link() -> None:
    ledger = _ledger(10)
    assert ledger.next(0.0) is None
    ledger.connect(0.0)
    assert _spans(_send(ledger, 0.0)) == (1, 10)
    assert ledger.next(0.0) is None, "everything is in flight"


def test_a_puback_lets_nothing_go_only_an_acknowledgement_does() -> None:
    ledger = _ledger(10)
    ledger.connect(0.0)
    _send(ledger, 0.0)
    assert list(ledger.held) == [(1, 10)]
    assert ledger.acknowledged(_ack(10, (3, 4)), 1.0).done == [(1, 2), (5, 10)]
    assert list(ledger.held) == [(3, 4)]


def test_live_rows_overtake_a_paced_backlog() -> None:
    ledger = _ledger(2000, backlog_rows_s=1000.0)
    ledger.connect(0.0)
    assert _spans(_send(ledger, 0.0)) == (1, 500)
    assert ledger.next(0.4) is None, "500 rows at 1000 rows/s keep the backlog quiet for 0.5 s"
    ledger.add(2003)
    assert _spans(_send(ledger, 0.4)) == (2001, 2003)
    assert _spans(_send(ledger, 0.5)) == (501, 1000)


def test_after_an_outage_behind_a_broker_that_stayed_live_rows_overtake_what_waited() -> None:
    ledger = _ledger(backlog_rows_s=1000.0, ack_timeout_s=10.0)
    ledger.connect(0.0)
    ledger.add(100)
    _send(ledger, 0.0)
    ledger.tick(10.0)  # no answer: ingest is away, the link is not
    ledger.add(2000)
    assert _spans(_send(ledger, 11.0)) == (1, 500), "the probe"
    ledger.acknowledged(_ack(500), 12.0)
    assert _spans(_send(ledger, 12.0)) == (501, 1000), "the paced backlog"
    ledger.add(2003)
    assert _spans(_send(ledger, 12.1)) == (2001, 2003), "live rows do not queue behind it"
    assert ledger.next(12.1) is None
    ledger.acknowledged(_ack(2003, (1001, 2000)), 12.2)
    assert ledger.next(12.4) is None, "500 rows at 1000 rows/s keep the backlog quiet until 12.5"
    assert _spans(_send(ledger, 12.5)) == (1001, 1500)


def test_a_message_carries_at_most_500_rows_and_the_window_bounds_messages() -> None:
    ledger = _ledger(0, window=2)
    ledger.connect(0.0)
    ledger.add(1700)
    assert [_spans(_send(ledger, 0.0)) for _ in range(3)] == [(1, 500), (501, 1000), None]


def test_what_was_sent_before_an_acknowledged_message_and_is_missing_goes_again_at_once() -> None:
    ledger = _ledger()
    ledger.connect(0.0)
    for _ in range(3):
        ledger.add(ledger.produced + 10)
        _send(ledger, 0.0)
    answer = ledger.acknowledged(_ack(20, (1, 10)), 0.1)
    assert answer.done == [(11, 20)]
    assert ledger.counters["lost_messages"] == 1
    assert _spans(_send(ledger, 0.1)) == (1, 10), "at once"
    assert ledger.in_flight == 2, "21 … 30 was sent later and may still be on its way"


def test_silence_returns_everything_and_probes_with_one_message_until_an_answer_comes() -> None:
    ledger = _ledger(0, ack_timeout_s=5.0)
    ledger.connect(0.0)
    ledger.add(1500)
    for _ in range(3):
        assert _send(ledger, 0.0)
    ledger.tick(4.9)
    assert ledger.in_flight == 3
    now, pauses = 5.0, []
    for _ in range(7):
        ledger.tick(now)
        assert ledger.in_flight == 0
        assert ledger.next(now) is None
        woken = ledger.wake_at(now)
        pauses.append(woken - now)
        now = woken
        assert _send(ledger, now)
        assert ledger.next(now) is None, "one probing message"
        now += 5.0
    assert all(0.5 * 2**n <= pause <= 2.0**n for n, pause in enumerate(pauses[:5]))
    assert max(pauses) <= 30.0
    answer = ledger.acknowledged(_ack(500), now)
    assert answer.done == [(1, 500)]
    assert [_spans(_send(ledger, now + n)) for n in range(3)] == [(501, 1000), (1001, 1500), None]


def test_a_lost_link_returns_what_was_in_flight() -> None:
    ledger = _ledger(10)
    ledger.connect(0.0)
    _send(ledger, 0.0)
    ledger.disconnect()
    ledger.connect(1.0)
    assert _spans(_send(ledger, 1.0)) == (1, 10)
    assert ledger.counters["rows_resent"] == 10


def test_a_message_that_ingest_cannot_read_goes_again_row_by_row_and_a_single_row_is_let_go() -> None:
    ledger = _ledger(3)
    ledger.connect(0.0)
    _send(ledger, 0.0, "whole")
    assert ledger.acknowledged(_ack(0, epoch="", refused="whole"), 0.0).done == []
    singles = [_send(ledger, 1.0 + n, f"row{n}") for n in range(3)]
    assert [_spans(flight) for flight in singles] == [(1, 1), (2, 2), (3, 3)]
    assert ledger.acknowledged(_ack(0, epoch="", refused="row1"), 5.0).done == [(2, 2)], "it is in quarantine, raw"
    assert ledger.acknowledged(_ack(3), 5.0).done == [(1, 1), (3, 3)]
    assert ledger.acknowledged(_ack(0, epoch="", refused="nobody's"), 5.0).done == []


def test_an_acknowledgement_ahead_of_us_means_a_restored_disk() -> None:
    ledger = _ledger(10)
    ledger.connect(0.0)
    _send(ledger, 0.0)
    answer = ledger.acknowledged(_ack(11), 1.0)
    assert answer.needs_epoch
    assert answer.done == []
    assert list(ledger.held) == [(1, 10)]


def test_after_a_restored_disk_numbers_that_were_acknowledged_once_do_not_let_new_rows_go() -> None:
    ledger = _ledger(10)
    ledger.connect(0.0)
    _send(ledger, 0.0)
    ledger.add(20)
    assert ledger.acknowledged(_ack(20), 1.0).done == [(1, 10)], "11 … 20 were never sent by this process"
    assert list(ledger.held) == [(11, 20)]


def test_acknowledgements_for_another_epoch_are_ignored() -> None:
    ledger = _ledger(10)
    ledger.connect(0.0)
    _send(ledger, 0.0)
    answer = ledger.acknowledged(_ack(10, epoch="ffffffffffffffff"), 1.0)
    assert answer.foreign
    assert answer.done == []
    assert list(ledger.held) == [(1, 10)]


def test_ranges_that_nobody_holds_any_more_are_told_once() -> None:
    ledger = _ledger(10)
    ledger.connect(0.0)
    _send(ledger, 0.0)
    ledger.acknowledged(_ack(10), 0.0)
    ledger.add(20)
    _send(ledger, 0.0)
    ledger.acknowledged(_ack(20, (4, 6), (15, 16)), 0.0)
    assert ledger.take_gone() == [(4, 6)]
    assert ledger.take_gone() == []
    assert list(ledger.held) == [(15, 16)]


def test_small_live_messages_are_gathered_full_ones_go_at_once() -> None:
    ledger = SendLedger(random.Random(1), gather_s=0.2)
    ledger.reset(EPOCH, [], 0)
    ledger.connect(0.0)
    ledger.add(1)
    assert _spans(_send(ledger, 10.0)) == (1, 1)
    ledger.add(5)
    assert ledger.next(10.1) is None
    assert ledger.wake_at(10.1) == pytest.approx(10.2)
    assert _spans(_send(ledger, 10.2)) == (2, 5)
    ledger.add(5 + MAX_ROWS)
    assert ledger.next(10.21) is not None


class _Ingest:
    """Commits what arrives and answers as the design says."""

    def __init__(self) -> None:
        self.have = SpanSet()
        self.oldest = 1

    def take(self, low: int, high: int, oldest: int) -> Ack:
        self.have.add(low, high)
        self.oldest = max(self.oldest, oldest)
        upto = self.have.last or 0
        missing = self.have.gaps(self.oldest, upto)[:100]
        return Ack(VERSION, EPOCH, upto, missing)


@given(st.integers(0, 2**32), st.floats(0.0, 0.6))
@settings(max_examples=40, deadline=None)
def test_whatever_gets_lost_on_the_way_everything_arrives_and_nothing_leaves_before(seed: int, loss: float) -> None:
    rng = random.Random(seed)
    ledger = _ledger(rng.randrange(1500), ack_timeout_s=3.0, backlog_rows_s=5000.0)
    ingest, now, road = _Ingest(), 0.0, list[Ack]()
    ledger.connect(now)
    for step in range(4000):
        now += rng.uniform(0.0, 0.5)
        loss = loss if step < 1000 else 0.0
        if step < 200 and rng.random() < 0.5:
            ledger.add(ledger.produced + rng.randrange(1, 300))
        if rng.random() < 0.02:
            ledger.disconnect()
            ledger.connect(now)
        ledger.tick(now)
        while wanted := ledger.next(now):
            high = rng.randint(wanted.low, wanted.high)
            ledger.sent(wanted.low, high, str(now), now)
            if rng.random() > loss:
                ack = ingest.take(wanted.low, high, ledger.oldest)
                if rng.random() > loss:
                    road.append(ack)
        for ack in road:
            ledger.acknowledged(ack, now)
        road.clear()
        flying = SpanSet((f.low, f.high) for f in ledger._flights)
        assert not ingest.have.gaps(1, ledger.produced) or ledger.held, "nothing leaves before it has arrived"
        left = SpanSet(ledger.held.gaps(1, ledger.produced))
        assert not [gap for low, high in left for gap in ingest.have.gaps(low, high)]
        assert all(not [g for g in ledger.todo.gaps(a, b) if any(flying.gaps(*g))] for a, b in ledger.held)
        if step > 200 and not ledger.held:
            break
    assert not ledger.held, "everything arrived"
    assert list(ingest.have) == ([(1, ledger.produced)] if ledger.produced else [])
