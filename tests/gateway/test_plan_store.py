"""Which plan a gateway starts with: the newest of file and broker, never one that was touched or is too dense."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.plan_store import keep, starting_plan, stored_path
from gateway.profiles import load_profiles
from gateway.settings import GatewaySettings
from metering.errors import SettingsError
from metering.messages import SignedPlan, encode, pack_plan
from metering.signing import OfficeKey, make_key

PROFILES = load_profiles()


def _text(version: int, *, interval_s: float = 3600, gateway: str = "gw") -> str:
    meters = "".join(
        f'[[meter]]\nmeter = "W-{i}"\nbus = "b"\nprofile = "water-cjt188"\naddress = "{i:014d}"\n'
        f"interval_s = {interval_s}\n"
        for i in range(1, 4)
    )
    head = (
        f'version = {version}\ngateway = "{gateway}"\n[[bus]]\nname = "b"\nkind = "serial"\ndevice = "/dev/ttyS9"\n'
    )
    return f"{head}baud = 2400\n{meters}"


def _signed(key: OfficeKey, version: int, text: str) -> bytes:
    return key.seal("plan", encode(SignedPlan(1, "gw", version, 0, pack_plan(text))))


@pytest.fixture
def key(tmp_path: Path) -> OfficeKey:
    return make_key(tmp_path / "office.key")


def _settings(folder: Path, **more: object) -> GatewaySettings:
    facts = {"outbox": folder / "gw" / "outbox.db", "office_keys": [folder / "office.pub"], **more}
    return GatewaySettings.model_validate(facts, strict=False)


def _file(folder: Path, text: str) -> Path:
    path = folder / "plan.toml"
    path.write_text(text)
    return path


@pytest.mark.parametrize(("file", "stored", "wanted"), [(1, 3, 3), (4, 3, 4), (3, 3, 3)])
def test_the_newest_of_file_and_broker_wins(
    tmp_path: Path, key: OfficeKey, file: int, stored: int, wanted: int
) -> None:
    settings = _settings(tmp_path)
    keep(stored_path(settings), _signed(key, stored, _text(stored)))
    assert starting_plan(settings, _file(tmp_path, _text(file)), PROFILES).version == wanted


def test_without_a_file_the_plan_of_the_broker_is_enough_and_without_both_it_says_so(
    tmp_path: Path, key: OfficeKey
) -> None:
    settings = _settings(tmp_path)
    with pytest.raises(SettingsError, match=r"plan\.toml"):
        starting_plan(settings, tmp_path / "plan.toml", PROFILES)
    keep(stored_path(settings), _signed(key, 2, _text(2)))
    assert starting_plan(settings, tmp_path / "plan.toml", PROFILES).version == 2


def test_a_stored_plan_that_was_touched_or_whose_key_is_gone_is_not_used(tmp_path: Path, key: OfficeKey) -> None:
    settings, file = _settings(tmp_path), _file(tmp_path, _text(1))
    sealed = _signed(key, 5, _text(5))
    for touched in (sealed[:-1], sealed.replace(b'"key"', b'"kex"'), sealed[:60] + b"A" + sealed[61:], b""):
        keep(stored_path(settings), touched)
        assert starting_plan(settings, file, PROFILES).version == 1
    keep(stored_path(settings), sealed)
    assert starting_plan(settings, file, PROFILES).version == 5
    make_key(tmp_path / "next.key")
    assert starting_plan(_settings(tmp_path, office_keys=[tmp_path / "next.pub"]), file, PROFILES).version == 1
    assert starting_plan(_settings(tmp_path, office_keys=[]), file, PROFILES).version == 1


def test_a_plan_that_is_too_dense_is_refused_with_the_words_of_check_unless_it_shall_run(
    tmp_path: Path, key: OfficeKey
) -> None:
    """Three CJ/T 188 meters at 2400 baud take about a second; every half second cannot be."""
    file = _file(tmp_path, _text(1, interval_s=0.5))
    with pytest.raises(SettingsError, match=r"plan\.toml: bus \"b\" at 2400.*90% is allowed"):
        starting_plan(_settings(tmp_path), file, PROFILES)
    assert starting_plan(_settings(tmp_path, over_dense="run"), file, PROFILES).version == 1
    keep(stored_path(_settings(tmp_path)), _signed(key, 9, _text(9, interval_s=0.5)))
    _file(tmp_path, _text(1))
    assert starting_plan(_settings(tmp_path), file, PROFILES).version == 1
