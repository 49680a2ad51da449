"""Late data: what they fill is withdrawn, what they do not stays; and how long findings live."""

from __future__ import annotations

import numpy as np

from anomaly.engine import Engine
from anomaly.findings import Finding
from anomaly.meters import Meter, MeterTable
from anomaly.run import next_timer
from anomaly.thresholds import load_thresholds

HOUR = 3600
START = 1_772_294_400  # 2026-02-28T16:00:00Z, midnight in Shanghai; the festival is over


class House:
    """One meter (or several in one district), fed hour by hour."""

    def __init__(self, *meters: Meter) -> None:
        self.table = MeterTable(list(meters))
        self.engine = Engine(self.table, load_thresholds(), start_s=START)
        self.now = next_timer(START)

    def feed(
        self, readings: list[tuple[int, float]], *, arrived: int | None = None, row: int = 0, late_s: int = 20
    ) -> None:
        """readings: (hour after START, index [m³]). late_s: [s] after the hour at which they were read."""
        ts = np.array([START + hour * HOUR + late_s for hour, _ in readings], np.int64)
        received = ts + 60 if arrived is None else np.full(ts.size, START + arrived * HOUR, np.int64)
        micro = np.array([round(value * 1e6) for _, value in readings], np.int64)
        self.engine.push(np.full(ts.size, row, np.int32), ts, received, micro, np.zeros(ts.size, np.uint8))

    def run_to(self, hour: int) -> None:
        while self.now <= START + hour * HOUR:
            self.engine.tick(self.now)
            self.now += HOUR

    def of(self, kind: str) -> list[Finding]:
        return [finding for finding in self.engine.book.findings if finding.kind == kind]


def use(hour: int) -> float:
    """A household: 0.4 m³ a day, still at night."""
    day, clock = divmod(hour, 24)
    return 0.4 * day + 0.1 * sum(clock > at for at in (7, 12, 18, 19))


def life(house: House, first: int, last: int) -> None:
    for hour in range(first, last):
        house.feed([(hour, use(hour))])
        house.run_to(hour)


def test_outage_is_raised_after_two_days_and_withdrawn_when_the_readings_arrive_late():
    house = House(Meter("A"))
    life(house, 0, 240)
    house.run_to(320)
    (loss,) = house.of("comms_loss")
    assert loss.open
    assert 52 <= (loss.detected_s - loss.started_s) / HOUR <= 60
    house.feed([(hour, use(hour)) for hour in range(240, 321)], arrived=321)
    house.run_to(322)
    assert loss.withdrawn_s is not None
    assert house.of("comms_loss") == [loss]


def test_outage_that_ends_without_its_readings_is_cleared_not_withdrawn():
    house = House(Meter("A"))
    life(house, 0, 240)
    house.run_to(320)
    life(house, 320, 345)
    (loss,) = house.of("comms_loss")
    assert loss.cleared_s is not None
    assert loss.withdrawn_s is None


def test_zero_use_that_stood_on_an_outage_is_withdrawn_when_late_data_fill_it():
    house = House(Meter("A"))
    life(house, 0, 480)
    index = use(479)
    for hour in range(480, 720):  # the meter is out of reach; once a day its concentrator repeats the last index
        if hour % 24 == 0:
            house.feed([(hour, index)], late_s=900)
        house.run_to(hour)
    (rest,) = house.of("zero_use")
    assert rest.open
    house.feed([(hour, use(hour)) for hour in range(480, 721)], arrived=721)  # what it kept, read on the hour
    house.run_to(724)
    assert rest.withdrawn_s is not None


def test_silence_alone_is_never_zero_use():
    house = House(Meter("A"))
    life(house, 0, 480)
    house.run_to(800)
    assert not house.of("zero_use")
    assert house.of("comms_loss")


def test_leak_is_withdrawn_when_late_readings_show_still_hours():
    house = House(Meter("A", resolution=1000))
    life(house, 0, 480)
    base = use(479)
    kept = [hour for hour in range(480, 600) if hour % 2 == 0]
    for hour in range(480, 600):  # every second reading is missing, and the two-hour amounts never stop
        if hour in kept:
            house.feed([(hour, base + 0.02 * (hour - 479))])
        house.run_to(hour)
    assert not house.of("leak")  # no hour is known to the hour, so no hour is known to be restless
    house.feed([(hour, base + 0.02 * (hour - 479)) for hour in range(481, 601, 2)], arrived=600)
    house.run_to(604)
    (leak,) = house.of("leak")
    assert leak.open
    assert leak.evidence["rate_per_h"] == 0.02


def test_bad_value_is_one_event_and_withdrawn_when_a_late_reading_confirms_the_level():
    house = House(Meter("A"))
    life(house, 0, 240)
    high = use(239) + 500
    house.feed([(240, high)])
    house.feed([(242, use(242))])
    house.run_to(250)
    (spike,) = house.of("spike")
    assert spike.cleared_s is not None
    house.feed([(241, high + 0.1)], arrived=251)  # the level was real for a while
    house.run_to(252)
    assert spike.withdrawn_s is not None


def test_repeat_within_a_week_is_the_same_finding():
    house = House(Meter("A"))
    life(house, 0, 240)
    house.run_to(300)
    life(house, 300, 330)
    house.run_to(400)
    life(house, 400, 420)
    (loss,) = house.of("comms_loss")
    assert loss.repeats == 1


def test_district_that_is_silent_as_a_whole_is_one_cause():
    meters = [Meter(f"M{i}", district="D1") for i in range(8)] + [Meter(f"N{i}", district="D2") for i in range(8)]
    house = House(*meters)
    for hour in range(120):
        for row in range(16):
            house.feed([(hour, use(hour))], row=row)
        house.run_to(hour)
    for hour in range(120, 200):
        for row in range(8, 16):
            house.feed([(hour, use(hour))], row=row)
        house.run_to(hour)
    assert not house.of("comms_loss")
    (outage,) = house.of("info_outage")
    assert outage.meter_id == "D1"
    assert outage.evidence["meters"] == 8


def test_district_meter_that_passes_more_than_its_customers_is_out_of_balance():
    house = House(Meter("SUPPLY"), Meter("A", parent="SUPPLY"), Meter("B", parent="SUPPLY"))
    for hour in range(60):
        house.feed([(hour, 4 * use(hour))], row=0)  # its two customers explain half of it
        house.feed([(hour, use(hour))], row=1)
        house.feed([(hour, use(hour))], row=2)
        house.run_to(hour)
    (balance,) = house.of("info_supply_balance")
    assert balance.meter_id == "SUPPLY"
    assert balance.evidence["loss_share"] == 0.5
