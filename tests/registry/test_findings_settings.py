"""Settings of alarms: mistakes are answered in words."""

from __future__ import annotations

import pytest

from metering.errors import SettingsError
from metering.settings import parse
from registry.findings_settings import AlarmSettings


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('priorities_by_kind = ["leak"]', "write kind=priority, for example leak=urgent"),
        ('priorities_by_kind = ["leak=hihg"]', 'did you mean "high"?'),
        ('priority_minor = "lo"', 'did you mean "low"?'),
        ("shelve_max_h = 0.0", "greater than 0"),
        ("flood_begins = 4", "flood_ends must not be above flood_begins"),
    ],
)
def test_mistakes_are_named(text: str, message: str) -> None:
    with pytest.raises(SettingsError) as caught:
        parse(text, AlarmSettings, name="alarms.toml")
    assert message in str(caught.value)


def test_a_kind_has_its_own_priority_whatever_the_severity() -> None:
    settings = parse('priorities_by_kind = ["leak=medium"]', AlarmSettings, name="alarms.toml")
    assert [settings.priority("leak", "critical"), settings.priority("comms_loss", "major")] == ["medium", "high"]
