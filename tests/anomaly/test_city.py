"""The live service gives the findings of the files, to the second, through crashes, lost notices and late data."""

from __future__ import annotations

import random
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa

from anomaly import memory
from anomaly.city import City
from anomaly.files import Readings
from anomaly.findings import Finding
from anomaly.meters import Meter, MeterTable
from anomaly.run import run
from anomaly.thresholds import load_thresholds
from metering.errors import RegistryError
from metering.reading import Reading
from registry import models, watch
from registry.alarm_states import AlarmEvent
from registry.findings_actions import act
from registry.findings_cleared import clear_by_order
from registry.ledger import StatusRow, save_gateway_status
from registry.models import Gateway
from registry.roles import console
from tests.anomaly.fleet import sample_autumn
from tests.anomaly.site import BILLED, HOUR, Site, WallClock

CHOSEN = ("SM10001", "SM10043")
STEP_S = HOUR
Line = tuple[str, str, int, int, int | None, int | None]


class CrashError(Exception):
    """The process ends here."""


def chosen(days: int) -> tuple[MeterTable, Readings]:
    """Two meters of the sample: a change of unit, a bad value, later a leak; what a store can hold of them.

    They arrive on whole hours, so that a test has fewer steps than the fleet has rows.
    """
    table, rows = sample_autumn()
    numbers = np.array([table.rows[name] for name in CHOSEN], np.int64)
    rows = rows.take(np.isin(rows.meter, numbers) & (rows.ts <= rows.received + 300))
    rows = rows.take(rows.ts >= rows.received - 45 * 86_400)
    rows = rows.take(rows.received < rows.received[0] + days * 86_400)
    place = np.full(len(table), -1, np.int32)
    place[numbers] = np.arange(numbers.size)
    rows.meter = place[rows.meter]
    _, first = np.unique(np.stack([rows.meter, rows.ts]), axis=1, return_index=True)
    rows = rows.take(np.sort(first))
    rows.received = -(-rows.received // STEP_S) * STEP_S
    return table.part(numbers), rows


def ten_days() -> tuple[MeterTable, Readings]:
    """Ten days in which a meter changes its unit and another shows one bad value."""
    table, rows = chosen(17)
    return table, rows.take(rows.received >= rows.received[-1] - 10 * 86_400)


def expected(table: MeterTable, rows: Readings) -> list[Line]:
    """What `metergate detect --quick` finds in the same rows as files."""
    engine = run(table, rows, load_thresholds(), quick=True)
    return sorted(
        (f.meter_id, f.kind, f.started_s, f.detected_s, f.cleared_s, f.withdrawn_s) for f in engine.book.findings
    )


def found(site: Site) -> list[Line]:
    return sorted(
        (
            row["meter"],
            row["kind"],
            row["started_at"] // 1000,
            row["detected_at"] // 1000,
            None if row["cleared_at"] is None else row["cleared_at"] // 1000,
            None if row["withdrawn_at"] is None else row["withdrawn_at"] // 1000,
        )
        for row in site.findings()
    )


def arrive(site: Site, table: MeterTable, rows: Readings, second: int) -> None:
    """Everything that arrives in one second is stored."""
    site.clock.now_s = second + 0.2
    readings = []
    for i in np.flatnonzero(rows.received == second).tolist():
        meter = table.meters[int(rows.meter[i])]
        values = {BILLED[meter.medium]: int(rows.micro[i])}
        at, flags = int(rows.ts[i]) * 1000, int(rows.flags[i])
        readings.append(Reading(meter.meter_id, at, values, received_at=second * 1000, flags=flags))
    site.take(readings)


def site_of(folder: Path, table: MeterTable, rows: Readings) -> Site:
    site = Site(folder, WallClock(int(rows.received[0]) - 10))
    site.add(table.meters)
    return site


def test_rows_that_arrive_one_by_one_give_the_findings_of_the_files(tmp_path: Path) -> None:
    table, rows = ten_days()
    site = site_of(tmp_path, table, rows)
    city = site.city()
    for second in np.unique(rows.received).tolist():
        arrive(site, table, rows, second)
        city.look()
    lines = found(site)
    assert lines == expected(table, rows)
    assert {kind for _, kind, *_ in lines} >= {"unit_error", "spike"}
    site.close()


def test_a_service_that_stood_still_for_hours_misses_nothing(tmp_path: Path) -> None:
    table, rows = chosen(12)
    site = site_of(tmp_path, table, rows)
    city = site.city()
    for number, second in enumerate(np.unique(rows.received).tolist()):
        arrive(site, table, rows, second)
        if number % 24 == 0:  # ingest forgets after an hour whom it has told
            city.look()
    city.look()
    assert found(site) == expected(table, rows)
    assert {kind for _, kind, *_ in found(site)} >= {"unit_error"}
    site.close()


def _killed_at_random(
    site: Site, table: MeterTable, rows: Readings, *, seed: int, kills: int, patch: pytest.MonkeyPatch
) -> None:
    """Play the rows; the service dies before, in and after transactions, and is started again each time."""
    chance = random.Random(seed)
    seconds = np.unique(rows.received).tolist()
    deaths = {chance.randrange(1, len(seconds)): chance.choice(("before", "inside", "after")) for _ in range(kills)}
    city = site.city()
    for step, second in enumerate(seconds):
        arrive(site, table, rows, second)
        how = deaths.get(step)
        if how is None:
            city.look()
            continue
        with patch.context() as here:
            _die(here, how)
            with suppress(CrashError):
                city.look()
        city = site.city()  # it was down for a while, or not
        if chance.random() < 0.5:
            city.look()


def _die(patch: pytest.MonkeyPatch, how: str) -> None:
    def crash(*_: object, **__: object) -> None:
        raise CrashError

    if how == "before":
        patch.setattr(City, "_record", crash)
    elif how == "inside":
        patch.setattr(watch, "save_memory", crash)  # the findings are written, and nothing is committed
    else:
        patch.setattr(memory.Saved, "saved", crash)


def test_killed_at_random_points_no_finding_comes_twice_and_none_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table, rows = ten_days()
    site = site_of(tmp_path, table, rows)
    _killed_at_random(site, table, rows, seed=1, kills=8, patch=monkeypatch)
    site.city()
    assert found(site) == expected(table, rows)
    site.close()


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("seed", range(5))
def test_killed_two_hundred_times(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    table, rows = chosen(62)
    site = site_of(tmp_path, table, rows)
    _killed_at_random(site, table, rows, seed=seed, kills=200, patch=monkeypatch)
    site.city()
    assert found(site) == expected(table, rows)
    site.close()


# --- one meter, hour by hour --------------------------------------------------------------------------------------

START = 1_772_294_400  # 2026-02-28T16:00:00Z, midnight in Shanghai


def use(hour: int) -> int:
    """[10⁻⁶ m³] A household: 0.4 m³ a day, still at night."""
    day, clock = divmod(hour, 24)
    return 400_000 * day + 100_000 * sum(clock > at for at in (7, 12, 18, 19))


def reading(hour: float, micro: int, *, meter: str = "A", arrived: float | None = None) -> Reading:
    at = round((START + hour * HOUR) * 1000)
    received = at if arrived is None else round((START + arrived * HOUR) * 1000)
    return Reading(meter, at, {"volume": micro}, received_at=received)


def house(folder: Path, *meters: Meter) -> Site:
    site = Site(folder, WallClock(START))
    site.add(meters or [Meter("A")])
    return site


def live(site: Site, first: int, last: int, index: int = 0) -> None:
    """An ordinary life that nobody judges yet: it lies in the store when the service starts."""
    site.clock.now_s = START + last * HOUR
    site.take([reading(hour, use(hour) + index) for hour in range(first, last)])


def test_reverse_flow_is_found_with_the_reading_that_proves_it(tmp_path: Path) -> None:
    site = house(tmp_path)
    live(site, 0, 240)
    city = site.city()
    site.clock.now_s = START + 240 * HOUR + 1
    site.take([reading(240, use(239) - 200_000)])  # 20 counts back
    city.look()
    (fall,) = site.of("reverse_flow")
    assert fall["detected_at"] == (START + 240 * HOUR) * 1000
    assert fall["state"] == "UNACK"
    site.close()


def test_a_burst_does_not_wait_for_late_data(tmp_path: Path) -> None:
    site = house(tmp_path)
    live(site, 0, 240)
    city = site.city()
    for hour in range(240, 248):
        site.clock.now_s = START + hour * HOUR + 1
        site.take([reading(hour, use(239) + 2_000_000 * (hour - 239))])  # 2 m³/h of a meter for 6 m³/h
        city.look()
    (burst,) = site.of("leak")
    assert burst["rule"] == "burst"
    assert burst["detected_at"] == (START + 245 * HOUR) * 1000  # six hours after it began
    site.close()


def test_a_meter_polled_every_ten_seconds_is_seen_to_run_backwards_within_a_minute(tmp_path: Path) -> None:
    site = house(tmp_path, Meter("A", interval_s=900))
    live(site, 0, 240)
    site.clock.now_s = START + 240 * HOUR + 61
    site.take([reading(240 + 60 / HOUR, use(239) + 10_000)])
    city = site.city()
    for step in range(1, 6):
        site.clock.now_s += 10
        at = (site.clock.now_s - START) / HOUR
        site.take([reading(at, use(239) + 10_000 - 20_000 * step)])  # 7.2 m³/h backwards through a meter for 6
        city.look()
    (fall,) = site.of("reverse_flow")
    assert fall["detected_at"] < round(site.clock.now_s) * 1000
    site.close()


@pytest.mark.parametrize(
    ("rule", "rate", "mended"),
    [("burst", 2_000_000, False), ("leak_continuous", 30_000, False), ("leak_continuous", 30_000, True)],
)
def test_a_leak_that_goes_on_after_its_repair_is_an_alarm_again_and_one_that_was_mended_is_not(
    tmp_path: Path, rule: str, rate: int, mended: bool
) -> None:
    site = house(tmp_path)
    began, repaired = 240, 240 + 3 * 24 + 22  # in the evening of a day
    live(site, 0, began)
    city = site.city()
    for hour in range(began, repaired + 57):
        site.clock.now_s = START + hour * HOUR + 1200  # behind the timer of the hour
        leaked = rate * (min(hour, repaired if mended else hour) - began + 1)
        site.take([reading(hour, use(hour) + leaked)])
        city.look()
        if hour == repaired:
            (leak,) = site.of("leak")
            assert (leak["rule"], leak["state"]) == (rule, "UNACK")
            with site.database.begin() as connection:
                clear_by_order(connection, console("Zhao"), leak["id"], order_id=1, now_ms=site.clock.now_ms())
        if hour == repaired + 30:
            city = site.city()  # what people did is known to a service that starts, too
    (leak,) = site.of("leak")
    assert (leak["active"], leak["repeats"]) == (not mended, int(not mended))
    assert site.history(leak["id"]) == ["raise", "acknowledge", "clear", *(["raise"] * (not mended))]
    site.close()


def test_what_was_judged_at_a_start_is_remembered_by_the_next_one(tmp_path: Path) -> None:
    site = house(tmp_path)
    live(site, 0, 240)
    for first, last in ((240, 320), (320, 350)):  # two days are judged at the second start
        site.take([reading(hour, use(hour) + 30_000 * (hour - 239)) for hour in range(first, last)])
        site.clock.now_s = START + last * HOUR
        city = site.city()
        city.look()
    (leak,) = _open_leaks(city)
    assert leak.held_s == START + 336 * HOUR
    (again,) = _open_leaks(site.city())  # before the next timer
    assert again.state() == leak.state()
    site.close()


def _open_leaks(city: City) -> list[Finding]:
    assert city._now is not None
    return list(city._now.engine.book.open_of("leak_continuous"))


def test_late_readings_withdraw_what_they_disprove_and_the_history_says_why(tmp_path: Path) -> None:
    site = house(tmp_path, Meter("A", resolution=1000))
    live(site, 0, 480)
    city = site.city()
    base = use(479)
    for hour in range(480, 640):
        site.clock.now_s = START + hour * HOUR + 1
        if hour < 560 or hour >= 638:
            site.take([reading(hour, base if hour < 560 else base + 1_000_000)])
        city.look()
        site.clock.now_s = START + hour * HOUR + 1200
        city.look()
    (loss,) = site.of("comms_loss")
    with site.database.begin() as connection:
        act(connection, console("night"), loss["id"], AlarmEvent.ACKNOWLEDGE, now_ms=site.clock.now_ms())
    site.take([reading(hour, base + 12_820 * (hour - 559), arrived=640) for hour in range(560, 638)])
    city = site.city()  # and the service comes back from a restart just then
    site.clock.now_s = START + 642 * HOUR
    city.look()
    (loss,) = site.of("comms_loss")
    assert loss["withdrawn_at"] is not None
    assert loss["withdrawn_why"] == "late readings disproved it"
    assert site.history(loss["id"]) == ["raise", "acknowledge", "withdraw"]
    assert "withdrawn" in [change.sort for change in city.changes]
    site.close()


def test_a_new_meter_an_exchange_and_thresholds_are_taken_up_without_a_restart(tmp_path: Path) -> None:
    site = house(tmp_path)
    live(site, 0, 240)
    city = site.city()
    site.add([Meter("B")])
    site.take([reading(hour, use(hour), meter="B") for hour in range(240)])
    city.reload()
    assert city.figures()["metergate_anomaly_meters"] == 2
    for hour, micro in ((240, use(239) - 200_000), (241, use(239) - 300_000)):
        site.clock.now_s = START + hour * HOUR + 1
        site.take([reading(hour, micro, meter="B")])
        city.look()
    assert [row["meter"] for row in site.of("reverse_flow")] == ["B"]
    site.close()


def test_a_meter_that_was_moved_to_another_gateway_is_taken_up_too(tmp_path: Path) -> None:
    site = house(tmp_path)
    live(site, 0, 240)
    city = site.city()
    with site.database.begin() as connection:
        connection.execute(sa.insert(Gateway), [{"id": "gw-2"}])
        connection.execute(sa.update(models.Meter).values(gateway_id="gw-2", bus_id=None))
    city.reload()
    site.clock.now_s = START + 240 * HOUR + 1
    site.take([reading(240, use(239) - 200_000)])
    city.look()
    (fall,) = site.of("reverse_flow")
    assert (fall["gateway"], fall["bus"]) == ("gw-2", "")
    site.close()


def test_losses_that_wait_for_the_flood_control_are_found_once_though_a_new_meter_is_taken_up(tmp_path: Path) -> None:
    names = ("A", "B", "C")
    site = house(tmp_path, *(Meter(name, resolution=1000) for name in names))
    site.settings = site.settings.model_copy(update={"flood_s": 0.0})
    site.clock.now_s = START + 480 * HOUR
    site.take([reading(hour, use(hour), meter=name) for hour in range(480) for name in names])
    site.clock.now_s = START + 580 * HOUR + 1200
    city = site.city()  # the gateway has been silent for days, and the very first look sees it
    city.look()
    site.add([Meter("0")])  # a row before all others
    site.clock.now_s += 20
    city.reload()
    for _ in range(4):
        site.clock.now_s += 1800
        city.look()
    losses = {(row["meter"], row["usage_point"], row["state"]) for row in site.of("comms_loss")}
    assert losses == {(name, f"U-{name}", "DSUPR") for name in names}
    assert len(site.of("comms_loss")) == len(names)
    site.close()


@pytest.mark.parametrize("away", ["read", "write"])
def test_a_registry_that_is_away_for_hours_makes_no_finding_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, away: str
) -> None:
    site = house(tmp_path)
    live(site, 0, 240)
    city = site.city()
    city.look()
    for hour in range(240, 256):
        site.clock.now_s = START + hour * HOUR + 1
        site.take([reading(hour, use(239) + 2_000_000 * (hour - 239))])
        with monkeypatch.context() as patch:
            if 245 <= hour < 252:  # the burst is there with the first of these hours
                patch.setattr(City, "_record", _away)
            if 246 <= hour < 252 and away == "read":
                patch.setattr(watch, "changes_since", _away)
            with suppress(RegistryError):
                city.look()
    (burst,) = site.of("leak")
    assert (burst["detected_at"], burst["active"]) == ((START + 245 * HOUR) * 1000, True)
    site.close()


def _away(*_: object, **__: object) -> None:
    raise RegistryError("no room on the disk")


def test_a_gateway_that_died_is_one_alarm_and_comes_back_by_itself(tmp_path: Path) -> None:
    site = house(tmp_path, *(Meter(f"M{number}") for number in range(12)))
    site.clock.now_s = START + 100 * HOUR
    site.take([reading(hour, use(hour), meter=f"M{number}") for hour in range(100) for number in range(12)])
    site.settings = site.settings.model_copy(update={"flood_s": 0.5})
    _state(site, online=False)
    for _ in range(3):
        city = site.city()  # each look of a fresh service: its memory of what looks bad is the registry's
        city.look()
        site.clock.now_s += 100
        city._flood_at = 0.0
        city.look()
    (outage,) = site.of("info_outage")
    assert (outage["gateway"], outage["rule"], outage["cleared_at"]) == ("gw-1", "outage_gateway", None)
    _state(site, online=True)
    site.take([reading(100, use(100), meter=f"M{number}") for number in range(12)])
    city.look()
    city._flood_at = 0.0
    city.look()
    (outage,) = site.of("info_outage")
    assert outage["cleared_at"] is not None
    assert not site.of("comms_loss")
    site.close()


def _state(site: Site, *, online: bool) -> None:
    with site.database.begin() as connection:
        row = StatusRow("gw-1", online=online, state_at=site.clock.now_ms(), health_at=site.clock.now_ms())
        save_gateway_status(connection, [row])


def test_a_second_service_does_not_touch_parts_that_are_judged(tmp_path: Path) -> None:
    site = house(tmp_path)
    live(site, 0, 48)
    first = site.city()
    site.settings = site.settings.model_copy(update={"instance": "anomaly-2"})
    with pytest.raises(watch.PartTakenError, match="anomaly-1"):
        site.city()
    site.clock.now_s += 31  # the first one was frozen for longer than its lease
    site.city()
    site.clock.now_s += HOUR
    with pytest.raises(watch.PartTakenError):
        first.look()
    site.close()
