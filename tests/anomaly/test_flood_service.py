"""Flood control inside the service: children under their parent, also over a restart."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa

from anomaly.meters import Meter
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
