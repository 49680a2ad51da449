"""Flood control inside the service: children under their parent, also over a restart."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa

from anomaly.books import gateways_away
from anomaly.meters import Meter
from anomaly.settings import FloodSettings
from registry.ledger import StatusRow, save_gateway_status
from registry.models_findings import FindingHistory
from tests.anomaly.site import HOUR, Site
from tests.anomaly.test_city import START, house, reading, use

NAMES = ("A", "B", "C", "D")


def notes(site: Site, number: int) -> list[str]:
    table = FindingHistory.__table__
    with site.database.read() as connection:
        statement = sa.select(table.c.note).where(table.c.finding_id == number).order_by(table.c.number)
        return list(connection.execute(statement).scalars())


def test_a_silent_gateway_is_one_alarm_and_a_restart_forgets_no_child(tmp_path: Path) -> None:
    site = house(tmp_path, *(Meter(name, resolution=1000) for name in NAMES))
    site.settings = site.settings.model_copy(update={"flood_s": 0.0})  # the clock of the city moves in leaps
    site.clock.now_s = START + 480 * HOUR
    site.take([reading(hour, use(hour), meter=name) for hour in range(480) for name in NAMES])
    city = site.city()
    for hour in range(480, 580):
        if hour == 560:
            city = site.city()
        for minute in (1, 20):
            site.clock.now_s = START + hour * HOUR + minute * 60
            if hour >= 562 and minute == 1:  # all but A are read again
                site.take([reading(hour, use(479), meter=name) for name in NAMES[1:]])
            city.look()
            shown = [row for row in site.of("comms_loss") if row["state"] == "UNACK"]
            assert not shown or hour >= 564, (hour, shown)
    (parent,) = site.of("info_outage")
    assert (parent["rule"], parent["active"]) == ("outage_gateway", False)
    states = {row["meter"]: row["state"] for row in site.of("comms_loss")}
    assert states == {"A": "UNACK", "B": "NORM", "C": "NORM", "D": "NORM"}
    (alone,) = [row for row in site.of("comms_loss") if row["meter"] == "A"]
    assert site.history(alone["id"]) == ["suppress", "raise", "release"]
    assert notes(site, alone["id"])[-1] == "its own cause: the parent no longer explains it"
    site.close()


def _silent_gateway(folder: Path, settings: dict[str, object], *names: Meter) -> Site:
    """All meters were read for 20 days; then their gateway says nothing for hours."""
    site = house(folder, *names)
    site.settings = site.settings.model_copy(update={"flood_s": 0.0, **settings})
    site.clock.now_s = START + 480 * HOUR
    site.take([reading(hour, use(hour), meter=meter.meter_id) for hour in range(480) for meter in names])
    city = site.city()
    for minute in (1, 300, 320, 340):
        site.clock.now_s = START + 480 * HOUR + minute * 60
        city.look()
    return site


def test_meters_that_were_taken_away_make_no_gateway_silent(tmp_path: Path) -> None:
    gone = START + 481 * HOUR
    site = _silent_gateway(tmp_path, {}, *(Meter(name, until_s=gone) for name in NAMES))
    assert not site.of("info_outage")
    site.close()


def test_the_limits_of_the_settings_count(tmp_path: Path) -> None:
    meters = [Meter(name) for name in NAMES]
    many = {"flood": FloodSettings(fewest_meters=5)}
    for number, (settings, outages) in enumerate([({}, 1), (many, 0), ({"flood": FloodSettings(settle_s=3600)}, 0)]):
        folder = tmp_path / str(number)
        folder.mkdir()
        site = _silent_gateway(folder, dict(settings), *meters)
        assert len(site.of("info_outage")) == outages, settings
        site.close()


def test_a_last_will_is_as_old_as_the_connection_and_says_nothing_of_when_it_was_lost(tmp_path: Path) -> None:
    site = house(tmp_path)
    joined, heard = START * 1000, (START + 90 * HOUR) * 1000
    with site.database.begin() as connection:
        save_gateway_status(connection, [StatusRow("gw-1", online=True, state_at=joined, health_at=heard)])
        save_gateway_status(connection, [StatusRow("gw-1", online=False, state_at=joined)])
        assert gateways_away(connection, heard + 5000, 180) == {"gw-1": heard}
    site.close()
