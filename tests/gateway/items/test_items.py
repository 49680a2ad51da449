"""What answers mean by profile: values, states, what is absent, and what is refused; wrong profiles say why."""

from __future__ import annotations

from pathlib import Path

import pytest

from gateway.items import ItemRequest, compile_item, plan_items, values_of, wire_sizes
from gateway.profiles import FOLDER, load_profile, load_profiles
from gateway.requests import Found
from metering.errors import FrameError, SettingsError

PROFILES = load_profiles()
GAS = PROFILES["gas-cjt188"]
(GAS_NOW,) = plan_items(GAS)


def _read(request: ItemRequest, data: str) -> Found:
    found = Found({})
    compile_item(request)(bytes.fromhex(data), found)
    return found


def test_a_gas_meter_tells_index_valve_and_battery() -> None:
    found = _read(GAS_NOW, "563412002c 000012002c 58592331012620 0500")
    assert found.values == {"volume": 1_234_560_000, "valve": 1_000_000}
    assert found.flags == 1 | 8, "valve closed, battery low"
    assert found.bad is None


@pytest.mark.parametrize(
    ("index", "said"),
    [("FFFFFFFF2C", "absent"), ("5A3412002C", "absent"), ("5634120005", "unit"), ("0000010029", 100_000)],
    ids=["all FF", "a nibble above 9", "comes in kWh", "100.00 litres"],
)
def test_an_index_that_is_none_is_never_a_number(index: str, said: str | int) -> None:
    found = _read(GAS_NOW, index + "000012002c 58592331012620 0000")
    if said == "absent":
        assert found.absent == ["index"]
    elif said == "unit":
        assert found.bad == {"index": "unit"}
    else:
        assert found.values["volume"] == said
    assert ("volume" in found.values) == isinstance(said, int)


def test_a_valve_state_without_a_word_is_left_out() -> None:
    assert "valve" not in _read(GAS_NOW, "563412002c 000012002c 58592331012620 0200").values


@pytest.mark.parametrize("size", range(22))
def test_a_short_answer_has_no_index(size: int) -> None:
    whole = bytes.fromhex("563412002c 000012002c 58592331012620 0500 00 00 00")
    found = Found({})
    compile_item(GAS_NOW)(whole[:size], found)
    assert ("volume" in found.values) == (size >= 19)


def test_an_electricity_meter_is_asked_item_by_item() -> None:
    requests = plan_items(PROFILES["electricity-dlt645-2007"])
    assert [request.item for request in requests] == ["00010000", "00020000", "02010100", "02030000"]
    assert _read(requests[0], "26000000").values == {"energy_import": 260_000}
    assert _read(requests[3], "001580").values == {"power": -150_000}, "the top bit is the sign: -0.15 kW"
    assert _read(requests[0], "FFFFFFFF").absent == ["import"]
    assert _read(requests[0], "2A000000").bad == {"import": "bcd"}
    assert _read(requests[0], "2600").bad == {"import": "length"}


def test_an_mbus_meter_brings_all_in_one_go() -> None:
    (request,) = plan_items(PROFILES["water-mbus"])
    telegram = "681b1b6808017207201800e61e35074c0000000c78072018000c16690200009616"  # golden mb-03
    assert _read(request, telegram).values == {"volume": 269_000_000}
    other = "681f1f680802727856341224400107550000000313153100da023b13018b60043718021816"  # mb-04: no 0C 16
    assert _read(request, other).bad == {"index": "record"}
    with pytest.raises(FrameError):
        _read(request, "00112233")


def test_iec_values_keep_their_unit() -> None:
    (request,) = plan_items(PROFILES["electricity-iec62056"])
    for line, wanted in (
        ("1-0:1.8.0*255(000001.2963*kWh)", 1_296_300),
        ("1-0:1.8.0*255(0001296.3*Wh)", 1_296_300),
        ("1-0:1.8.0*255(000001.2963)", 1_296_300),
    ):
        assert _read(request, f"{line}\r\n!\r\n".encode().hex()).values == {"energy_import": wanted}
    assert _read(request, b"1-0:1.8.0*255(000001.2963*kvarh)\r\n!\r\n".hex()).bad == {"import": "unit"}
    assert _read(request, b"1-0:1.8.0*255()\r\n!\r\n".hex()).absent == ["import"]
    assert _read(request, b"1-0:1.8.0*255(12A4*kWh)\r\n!\r\n".hex()).bad == {"import": "value"}
    assert _read(request, b"0.0.0(1)\r\n!\r\n".hex()).bad == {"import": "record"}


def test_people_see_every_field() -> None:
    shown = values_of(GAS_NOW, bytes.fromhex("5634120005 000012002c 58592331012620 0000"))
    assert isinstance(shown["index"], FrameError)
    assert shown["valve"] == 0


def test_the_planner_knows_the_bytes_of_each_question() -> None:
    """901F: 4 FE + 16 and 4 FE + 35; 00010000: 4 FE + 16 and 4 FE + 20; M-Bus: NKE and REQ, E5 and an estimate."""
    assert wire_sizes(GAS_NOW) == (20, 39, 1)
    assert wire_sizes(plan_items(PROFILES["electricity-dlt645-2007"])[0]) == (20, 24, 1)
    asked, answered, exchanges = wire_sizes(plan_items(PROFILES["water-mbus"])[0])
    assert (asked, exchanges) == (10, 2)
    assert answered >= 33


@pytest.mark.parametrize(
    ("name", "old", "new", "said"),
    [
        ("gas-cjt188", 'item = "901F"', 'item = "901G"', 'field[0].item = "901G": 4 hex digits are needed'),
        ("gas-cjt188", 'value = "current"', 'value = "curent"', 'did you mean "current"'),
        ("gas-cjt188", "meter_type = 0x30\n", "", "meter_type: a CJ/T 188 profile needs it"),
        ("gas-cjt188", "meter_type = 0x30", "meter_type = 0x10", "with this meter_type and di_order it is"),
        ("gas-cjt188", 'di_order = "little"', 'di_order = "big"', "golden[0]"),
        ("gas-cjt188", 'di_order = "little"', 'di_order = "middle"', "di_order"),
        ("gas-cjt188", 'index = "1234.56"', 'index = "1234.57"', 'index = "1234.57": the response says "1234.56"'),
        ("gas-cjt188", "{ equals = 3,", "{ equals = 4,", "has bits outside the mask 3"),
        ("gas-cjt188", 'unit = "m3"', 'unit = "kWh"', "allowed: m3, L, mL"),
        ("gas-cjt188", "04 00 2B 16", "04 00 2C 16", "sum is 2C, computed 2B"),
        ("electricity-dlt645-2007", 'item = "00020000"', 'item = "0002"', "8 hex digits are needed"),
        ("electricity-dlt645-2007", 'protocol = "dlt645-2007"', 'protocol = "dlt645"', "dlt645-2007"),
        ("water-mbus", 'item = "0C16"', 'item = "0CFF"', "is not the head of one record"),
        ("water-mbus", 'item = "0C16"', 'item = "0C16"\nregister = 5', "register: belongs to Modbus"),
        ("electricity-iec62056", 'import = "1.2963"', 'export = "1.2963"', "no such field here"),
    ],
)
def test_a_wrong_profile_is_refused_with_its_place(tmp_path: Path, name: str, old: str, new: str, said: str) -> None:
    text = (FOLDER / f"{name}.toml").read_text("utf-8")
    assert old in text
    path = tmp_path / f"{name}.toml"
    path.write_text(text.replace(old, new, 1), "utf-8")
    with pytest.raises(SettingsError) as caught:
        load_profile(path)
    assert said in str(caught.value)
    assert f"{name}.toml" in str(caught.value)
