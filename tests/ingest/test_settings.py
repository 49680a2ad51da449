"""Ingest's settings: defaults lose no data, mistakes are told all at once."""

from __future__ import annotations

import pytest

from ingest.settings import IngestSettings
from metering.admission import TimeLimits
from metering.errors import SettingsError
from metering.settings import parse


def test_defaults_are_those_of_admission() -> None:
    assert IngestSettings().limits() == TimeLimits()
    assert IngestSettings(max_ahead_s=10).limits().doubt_ahead_ms == 10_000


def test_mistakes_are_told_with_line_and_what_is_allowed() -> None:
    with pytest.raises(SettingsError) as refusal:
        parse('parts = [1, 64]\nbatch_messages = 0\ninstanze = "x"\n', IngestSettings, name="ingest.toml")
    first, second, third = refusal.value.problems
    assert first.startswith("ingest.toml:1: parts[1] = 64")
    assert second.startswith("ingest.toml:2: batch_messages = 0")
    assert third.endswith('did you mean "instance"?')


def test_parts_may_be_named() -> None:
    assert parse("parts = [3, 63]", IngestSettings, name="x").parts == (3, 63)
