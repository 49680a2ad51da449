"""Token buckets: when there is one, when there will be, and that they never grow without bounds."""

from __future__ import annotations

from api.access.limits import Buckets
from metering.clock import ManualClock


def test_a_full_bucket_gives_its_burst_and_then_says_how_long_to_wait() -> None:
    clock = ManualClock()
    buckets = Buckets(per_s=0.5, burst=3, clock=clock)
    assert [buckets.take("a") for _ in range(4)] == [0, 0, 0, 2]
    clock.pause(1.0)
    assert buckets.take("a") == 1  # half a token is there, the other half takes a second
    clock.pause(1.0)
    assert buckets.take("a") == 0
    assert buckets.take("a") == 2


def test_buckets_of_others_are_full() -> None:
    buckets = Buckets(per_s=1, burst=1, clock=ManualClock())
    assert (buckets.take("a"), buckets.take("a"), buckets.take("b")) == (0, 1, 0)


def test_looking_takes_nothing_and_what_is_given_back_is_there_again() -> None:
    buckets = Buckets(per_s=1, burst=1, clock=ManualClock())
    assert (buckets.wait("a"), buckets.wait("a")) == (0, 0)
    assert buckets.take("a") == 0
    buckets.give_back("a")
    buckets.give_back("a")  # never more than the burst
    assert (buckets.take("a"), buckets.take("a")) == (0, 1)


def test_the_bucket_that_nobody_used_for_the_longest_time_makes_room() -> None:
    buckets = Buckets(per_s=1, burst=1, clock=ManualClock(), most=100)
    for number in range(100_000):
        buckets.take(f"address {number}")
    assert len(buckets) == 100
    assert buckets.take("address 99999") == 1
