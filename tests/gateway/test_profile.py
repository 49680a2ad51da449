"""Meter models: every file of the folder holds, and every mistake is answered where it stands."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.profile import decode_field, flag_names, flags_of, show
from gateway.profiles import FOLDER, load_profile, load_profiles
from metering.errors import FrameError, SettingsError
from metering.reading import Flag

GOOD = """\
id = "example-g4"
name = "Example G4"
medium = "gas"
protocol = "modbus"
source = "Example G4 register map v1.3, table 4"
index = "total"
[[field]]
name = "total"
quantity = "volume_actual"
unit = "m3"
register = 0x0010
encoding = "uint32"
order = "ABCD"
scale = "0.001"
not_available = ["all_ff"]
[[field]]
name = "state"
register = 0x0012
encoding = "uint16"
[[field.flag]]
flag = "LOW_BATTERY"
mask = 0x0001
[[field.flag]]
flag = "ALARM"
mask = 0x00FF
equals = 0x55
[[caveat]]
text = "Before firmware 2.1 answers FFFFFFFF while the valve moves."
[[golden]]
request = "01 03 00 10 00 02 C5 CE"
response = "01 03 04 00 01 E2 40 E2 A3"
expect = { total = "123.456" }
source = "worked by hand"
"""


def _file(folder: Path, text: str) -> Path:
    path = folder / "example-g4.toml"
    path.write_text(text, "utf-8")
    return path


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.toml")), ids=lambda path: path.stem)
def test_every_profile_of_the_folder_holds_its_own_golden_frames(path: Path) -> None:
    profile = load_profile(path)
    assert profile.golden, "load_profile has decoded them and compared"
    assert profile.caveats, "a profile says what is not known about the meter"
    told = {name for golden in profile.golden for name in golden.expect}
    assert profile.index.name in told, "the billed index is proven by a golden frame"


def test_the_folder_has_gas_water_and_electricity() -> None:
    profiles = load_profiles()
    assert {profile.medium for profile in profiles.values()} >= {"gas", "water", "electricity"}
    assert profiles["fuxin-corrector"].index.quantity == "volume_standard"
    assert profiles["fuxin-corrector"].index.parts[0].form.encoding == "bcd", "the float moves in steps of 1 m³"


def test_a_good_file_means_what_it_says(tmp_path: Path) -> None:
    profile = load_profile(_file(tmp_path, GOOD))
    total, state = profile.fields
    assert decode_field(total, bytes.fromhex("0001E240 0055"), 0x10) == 123_456_000
    assert show(total, decode_field(total, bytes.fromhex("FFFFFFFF"), 0x10)) == "not available"
    raw = decode_field(state, bytes.fromhex("0001E240 0055"), 0x10)
    assert raw == 0x55
    assert flags_of(state, raw) == Flag.LOW_BATTERY | Flag.ALARM
    assert show(state, 0x57) == "LOW_BATTERY", "0x57 has the battery bit and is not the alarm code 0x55"
    assert flag_names(0) == ""


def test_registers_that_did_not_come_are_never_a_value(tmp_path: Path) -> None:
    total = load_profile(_file(tmp_path, GOOD)).index
    for data, base in [
        (b"", 0x10),
        (b"\x00\x01\xe2", 0x10),
        (b"\x00\x01\xe2\x40", 0x11),
        (b"\x00\x01\xe2\x40", 0x0F),
    ]:
        with pytest.raises(FrameError):
            decode_field(total, data, base)


@pytest.mark.parametrize(
    ("old", "new", "line", "words"),
    [
        ('order = "ABCD"', 'order = "ABDC"', 13, ["field[0].order", '"ABDC"', "CDAB", "did you mean"]),
        ('quantity = "volume_actual"', 'quantity = "volume_actuel"', 9, ['did you mean "volume_actual"?']),
        ('unit = "m3"', 'unit = "m4"', 10, ["field[0].unit", '"m4"', "allowed: m3, L, mL"]),
        ("register = 0x0012", "register = 0x0011", 18, ["field[1].register = 17", '"state" overlaps "total"']),
        ('scale = "0.001"', 'scale = "0,001"', 14, ["field[0].scale", '"0,001"', "decimal text above 0"]),
        ('scale = "0.001"', 'scale = "-1"', 14, ["decimal text above 0"]),
        ('scale = "0.001"', 'offset = "0.0000001"', 14, ["field[0].offset", "at most 6 decimals"]),
        ('"all_ff"', '"nan"', 15, ["field[0].not_available", "uint32 allows: all_ff"]),
        ('index = "total"', 'index = "totl"', 6, ['did you mean "total"?']),
        ('index = "total"', 'index = "state"', 6, ["only a field whose quantity accumulates"]),
        ('id = "example-g4"', 'id = "example-g5"', 1, ['must be the file\'s name, "example-g4"']),
        ('"123.456"', '"123.457"', 32, ['golden[0].expect = total = "123.457"', 'the response says "123.456"']),
        ("total = \"123", "totl = \"123", 32, ["no such field", 'did you mean "total"?']),
        ("40 E2 A3", "41 E2 A3", 29, ["golden[0]", "CRC is wrong"]),
        ("00 02 C5 CE", "00 02 C5", 29, ["CRC is wrong"]),
        ("01 03 04 00", "01 zz 04 00", 29, ["response is not hex"]),
        ('encoding = "uint32"', 'encoding = "bcd"', 7, ["field[0].size = 0", "bcd needs its length"]),
        ('encoding = "uint32"', 'encoding = "uint32"\nsize = 4', 13, ["only bcd has a size"]),
        ("register = 0x0010", "register = 0xFFFF", 11, ["past register 65535"]),
        ('name = "state"', 'name = "total"', 17, ["stands already at field[0]"]),
        ("mask = 0x0001", "mask = 0x0001\nmsk = 1", 23, ["unknown setting", 'did you mean "mask"?']),
        ('encoding = "uint16"', 'encoding = "float32"', 19, ["flags are told by uint16"]),
    ],
)  # fmt: skip
def test_a_mistake_is_answered_with_line_value_and_what_is_allowed(
    tmp_path: Path, old: str, new: str, line: int, words: list[str]
) -> None:
    assert old in GOOD
    with pytest.raises(SettingsError) as refused:
        load_profile(_file(tmp_path, GOOD.replace(old, new, 1)))
    answer = str(refused.value)
    assert all(word in answer for word in words), answer
    assert f"example-g4.toml:{line}: " in answer, answer


def test_a_total_in_pieces_is_their_sum_and_needs_all_of_them(tmp_path: Path) -> None:
    profile = load_profile(FOLDER / "tuf2000-clamp-on.toml")
    data = bytes.fromhex("E240 0001 0000 3E80")
    assert decode_field(profile.index, data, 8) == 123_456_250_000
    with pytest.raises(FrameError):
        decode_field(profile.index, data[:6], 8)


def test_all_mistakes_of_a_file_come_at_once(tmp_path: Path) -> None:
    text = GOOD.replace('unit = "m3"', 'unit = "m4"').replace('index = "total"', 'index = "totl"')
    with pytest.raises(SettingsError) as refused:
        load_profile(_file(tmp_path, text))
    assert len(refused.value.problems) == 2


def test_a_profile_of_the_site_replaces_ours_of_the_same_name(tmp_path: Path) -> None:
    text = (FOLDER / "sdm630.toml").read_text("utf-8").replace('name = "Eastron', 'name = "Our Eastron')
    (tmp_path / "sdm630.toml").write_text(text, "utf-8")
    assert load_profiles(tmp_path)["sdm630"].name.startswith("Our Eastron")
    _file(tmp_path, "id = 3")
    with pytest.raises(SettingsError):
        load_profiles(tmp_path)
