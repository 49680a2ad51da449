"""MQTT meter models: every file of the folder holds its golden messages, and mistakes are answered in place."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.profile_mqtt import FOLDER, load_mqtt_profile, load_mqtt_profiles
from metering.errors import SettingsError

GOOD = """\
id = "example-json"
name = "Example"
medium = "water"
protocol = "mqtt-json"
source = "worked by hand"
index = "volume"
topics = ["meters/+/data"]
device_level = 1
time = { path = "t", form = "unix_s" }
[[field]]
quantity = "volume"
path = "total"
unit = "l"
[[golden]]
topic = "meters/7/data"
payload = '{"t": 1767225600, "total": 1234}'
device = "7"
expect = { volume = "1.234" }
read_at = "2026-01-01T00:00:00.000Z"
source = "worked by hand"
"""


def _load(folder: Path, text: str) -> None:
    path = folder / "example-json.toml"
    path.write_text(text, "utf-8")
    load_mqtt_profile(path)


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.toml")), ids=lambda path: path.stem)
def test_every_profile_of_the_folder_holds_its_own_golden_messages(path: Path) -> None:
    profile = load_mqtt_profile(path)
    assert any(golden.expect for golden in profile.golden), "load_mqtt_profile has read them and compared"


def test_there_is_a_profile_for_every_dialect() -> None:
    assert {profile.protocol for profile in load_mqtt_profiles().values()} == {
        "mqtt-chirpstack-v4",
        "mqtt-ttn-v3",
        "mqtt-wmbusmeters",
        "mqtt-huawei-iotda",
        "mqtt-json",
        "sparkplug-b",
    }


@pytest.mark.parametrize(
    ("old", "new", "answer"),
    [
        ('unit = "l"', 'unit = "bar"', "field[0].unit = \"bar\": volume: unit 'bar'; allowed: m3, dm3, l, cm3"),
        ('expect = { volume = "1.234" }', 'expect = { volume = "1.235" }', "the message says {'volume': '1.234'}"),
        ('read_at = "2026-01-01T', 'read_at = "2026-01-02T', 'the message says "2026-01-01T00:00:00.000Z"'),
        ('device = "7"', 'device = "8"', 'golden[0].device = "8": the message says "7"'),
        ('index = "volume"', 'index = "flow"', "only a quantity that accumulates can be billed"),
        ('"meters/+/data"]', '"$SYS/broker"]', "all topics of a broker, or its own, are no meters"),
        ("device_level = 1\n", "", "mqtt-json needs either device or device_level"),
        ('{"t": 1767225600, "total": 1234}', '{"t": 1767225600, "total": "12"}', "is no number"),
        ('{"t": 1767225600, "total": 1234}', '{"t": NaN}', "NaN is not JSON"),
    ],
)
def test_each_mistake_is_answered_where_it_stands(tmp_path: Path, old: str, new: str, answer: str) -> None:
    _load(tmp_path, GOOD)
    with pytest.raises(SettingsError) as caught:
        _load(tmp_path, GOOD.replace(old, new, 1))
    assert any(answer in problem for problem in caught.value.problems), caught.value.problems
