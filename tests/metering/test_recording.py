"""The line format of recordings: round trip, and files that are cut, foreign or mixed."""

from __future__ import annotations

from pathlib import Path

import pytest

from metering.errors import SettingsError
from metering.recording import (
    Frame,
    Header,
    Note,
    RecordedBus,
    decode_line,
    encode_line,
    read_recording,
    select,
)

HEADER = Header(1, "gw-1", 1_772_323_200_000, 100.0, buses=[RecordedBus("b", "serial", 2400, 0.5)])
ASKED = Frame(101.0, 1_772_323_201_000, "tx", "10400545 16".replace(" ", ""), "b", "W-1")
SAID = Frame(101.05, 1_772_323_201_050, "rx", "e5e5", "b", "W-1", [(0.0, 1), (0.004, 1)])


def _write(path: Path, *lines: bytes) -> Path:
    path.write_bytes(b"".join(lines))
    return path


def test_each_line_comes_back_as_it_was() -> None:
    message = Frame(1.5, 1_772_323_200_000, "rx", "", "mqtt", topic="a/b", qos=1, retain=True)
    for line in (HEADER, ASKED, SAID, message, Note(1.0, 5, "dropped", count=17)):
        assert decode_line(encode_line(line)) == line
    assert SAID.data == b"\xe5\xe5"


def test_a_file_is_read_in_its_order(tmp_path: Path) -> None:
    dropped = Note(102.0, 1_772_323_202_000, "dropped", count=3)
    path = _write(tmp_path / "r.jsonl", *map(encode_line, (HEADER, ASKED, dropped, SAID)))
    found = read_recording(path)
    assert (found.header, found.frames, found.dropped, found.faults) == (HEADER, [ASKED, SAID], 3, [])
    assert found.buses == {"b": RecordedBus("b", "serial", 2400, 0.5)}


def test_a_line_that_was_cut_is_named_and_the_rest_is_read(tmp_path: Path) -> None:
    path = _write(tmp_path / "r.jsonl", encode_line(HEADER), encode_line(ASKED), encode_line(SAID)[:-9])
    found = read_recording(path)
    assert found.frames == [ASKED]
    (fault,) = found.faults
    assert fault.startswith("r.jsonl:3: ")
    assert "the file was cut here" in fault


@pytest.mark.parametrize(
    "odd",
    [
        b'{"line":"frame","t":1,"at":1,"dir":"up","hex":"00"}\n',
        b'{"line":"frame","t":1,"at":1,"dir":"tx","hex":"0g"}\n',
        b'{"line":"frame","t":1,"at":1,"dir":"tx","hex":""}\n',
        b'{"line":"frame","t":1e999,"at":1,"dir":"tx","hex":"00"}\n',
        b'{"line":"frame","t":NaN,"at":1,"dir":"tx","hex":"00"}\n',
        b'{"line":"frame","t":1,"at":-1,"dir":"tx","hex":"00"}\n',
        b'{"line":"frame","t":1,"at":1,"dir":"rx","hex":"0011","pieces":[[0,1],[0.1,2]]}\n',
        b'{"line":"song","t":1}\n',
        b'{"line":"header","v":2}\n',
        b"meter_id,ts,index\n",
        b"\xff\xfe\x00\n",
        b"[" * 5000 + b"\n",
        b'{"line":"frame","t":1,"at":1,"dir":"tx","hex":"' + b"00" * 2_200_000 + b'"}\n',
    ],
)
def test_a_foreign_line_is_named_and_costs_only_itself(tmp_path: Path, odd: bytes) -> None:
    path = _write(tmp_path / "r.jsonl", encode_line(HEADER), encode_line(ASKED), odd, encode_line(SAID))
    found = read_recording(path)
    assert found.frames == [ASKED, SAID]
    assert len(found.faults) == 1
    assert found.faults[0].startswith("r.jsonl:3: ")


def test_without_its_header_a_recording_is_still_read(tmp_path: Path) -> None:
    found = read_recording(_write(tmp_path / "r.jsonl", encode_line(ASKED), encode_line(SAID)))
    assert found.frames == [ASKED, SAID]
    assert "no sound header" in found.faults[0]
    assert found.buses["b"].kind == "serial"


def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"readings\.csv: no recording"):
        read_recording(_write(tmp_path / "readings.csv", b"meter_id,ts,index\n", b"M1,2026-01-01,5\n"))


def test_parts_are_one_recording_and_another_gateway_is_named(tmp_path: Path) -> None:
    first = _write(tmp_path / "1.jsonl", encode_line(HEADER), encode_line(ASKED))
    second = _write(tmp_path / "2.jsonl", encode_line(Header(1, "gw-2", part=2)), encode_line(SAID))
    found = read_recording(first, second)
    assert found.frames == [ASKED, SAID]
    assert found.faults == ["2.jsonl:1: a header of gateway 'gw-2' in one of another"]


def test_one_bus_or_meter_can_be_taken_out() -> None:
    from metering.recording import Recording

    other = Frame(1.0, 1, "tx", "00", "c", "W-2")
    whole = Recording(HEADER, [ASKED, other, SAID])
    assert select(whole, buses=["c"]).frames == [other]
    assert select(whole, meters=["W-1"]).frames == [ASKED, SAID]
    assert select(whole).frames == [ASKED, other, SAID]
