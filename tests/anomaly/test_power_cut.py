"""Thousands of meters lose their power at once: an alarm for the district, none for a meter, and all comes back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from anomaly.settings import AnomalySettings
from tests.anomaly.power_cut import Cut, Plan


def rules(folder: Path, hours: int = 3) -> AnomalySettings:
    """A service that looks every ten minutes, and finds a loss after so many hours of silence."""
    path = folder / "thresholds.toml"
    path.write_text(f'version = "test"\n[defaults]\n"comms_loss.min_hours" = {hours}\n', "utf-8")
    return AnomalySettings(
        look_s=600.0,
        flood_s=600.0,
        thresholds=path,
        report_s=3600.0,
        reload_s=3600.0,
        heartbeat_s=3600.0,
        gateway_stale_s=86_400.0,
        lease_s=2400.0,
    )


@contextmanager
def played(plan: Plan, folder: Path) -> Iterator[Cut]:
    cut = Cut(plan, folder)
    cut.run()
    yield cut
    cut.database.close()


def everything_returned(cut: Cut) -> None:
    """Each meter was lost, nobody was shown one, and nothing is left."""
    assert cut.count("comms_loss", meter="M00000") == 1
    assert cut.count("comms_loss") == cut.plan.meters
    assert cut.shown("comms_loss") == 0
    assert cut.count("comms_loss", state="NORM", active=False) == cut.plan.meters
    assert cut.count("info_outage", active=True) == 0


def test_a_district_without_power_is_one_alarm(tmp_path: Path) -> None:
    with played(Plan(1000, 20, settings=rules(tmp_path)), tmp_path) as cut:
        everything_returned(cut)
        assert (cut.shown("info_outage"), cut.count("info_outage", rule="outage_district")) == (1, 1)


def test_two_services_that_share_a_district_raise_one_alarm(tmp_path: Path) -> None:
    plan = Plan(200, 20, settings=rules(tmp_path), services=2)
    assert min(len(parts) for parts in plan.shares()) >= 5
    with played(plan, tmp_path) as cut:
        everything_returned(cut)
        assert (cut.shown("info_outage"), cut.count("info_outage", rule="outage_district")) == (1, 1)


@pytest.mark.long
@pytest.mark.timeout(7200)
@pytest.mark.parametrize(("districts", "services"), [(1, 1), (20, 1), (4, 2)])
def test_ten_thousand_meters_behind_twenty_gateways(tmp_path: Path, districts: int, services: int) -> None:
    plan = Plan(10_000, 20, districts, (3, 57, 9), services, rules(tmp_path, 52))
    with played(plan, tmp_path) as cut:
        if districts == 1:  # of several, the rules say "the district" and of no meter that it is lost
            everything_returned(cut)
        assert cut.shown("comms_loss") == 0
        assert cut.count("info_outage", active=True) == 0
        assert cut.shown("info_outage") == (20 if districts == 20 else districts)
