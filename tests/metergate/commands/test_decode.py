"""`metergate decode`, run as an operator runs it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from metergate.commands.decode import decode
from tests.gateway.protocols.wire_checks import FRAMES_FILE

APP = typer.Typer()
APP.command()(decode)

READ = "6810120000000000000103901f003d16"
WATER = "68104433221100337881161f9000007766552c007766552c3101221105152021841316"


def _run(*arguments: str, given: str | None = None) -> tuple[int, list[str], str]:
    result = CliRunner().invoke(APP, list(arguments), input=given)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.stdout.splitlines(), result.stderr


def _objects(*arguments: str, given: str | None = None) -> list[dict[str, Any]]:
    return [json.loads(line) for line in _run(*arguments, given=given)[1]]


def test_frame_becomes_one_object_with_exact_readings_in_natural_units() -> None:
    code, lines, _ = _run("cjt188", WATER)
    said = json.loads(lines[0])
    assert (code, len(lines)) == (0, 1)
    assert said["valid"] is True
    assert said["current_volume"] == "556677.00"
    assert said["readings"] == {"volume": "556677", "valve": "1"}


def test_bytes_may_be_typed_in_any_usual_way() -> None:
    spaced = " ".join(READ[i : i + 2] for i in range(0, len(READ), 2))
    wanted = _objects("cjt188", READ)
    for arguments in ([spaced], spaced.split(), [spaced.replace(" ", ":")], [spaced.replace(" ", ", 0x")]):
        assert _objects("cjt188", *arguments) == wanted
    assert _objects("cjt188", given=f"{spaced}\n\n{READ}\n") == wanted * 2


def test_recording_with_noise_and_two_frames_gives_two_objects() -> None:
    code, lines, words = _run("cjt188", "0005" + READ + "fefe" + WATER)
    assert [json.loads(line)["control"] for line in lines] == ["01", "81"]
    assert code == 0
    assert "2 bytes" in words


def test_damaged_frame_is_refused_by_name_and_the_next_one_still_read() -> None:
    broken = READ[:-4] + "3e16"
    code, lines, _ = _run("cjt188", broken, WATER)
    first, second = (json.loads(line) for line in lines)
    assert code == 1
    assert (first["valid"], first["error"], first["checksum_computed"]) == (False, "checksum", "3D")
    assert second["valid"] is True
    assert [said["valid"] for said in _objects("cjt188", broken + WATER)] == [False, True]


def test_context_tells_the_decoder_what_it_cannot_know() -> None:
    fields = json.dumps({"fields": [{"as": "float32", "order": "CDAB", "register": 0}]})
    (said,) = _objects("modbus-rtu", "--context", fields, "010304ba4a41f8cf2f")
    assert round(said["fields"][0], 6) == 31.090961


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["cjt-188", READ], 'did you mean "cjt188"'),
        (["cjt188", "zz"], "not hex"),
        (["cjt188", "--context", "[]", READ], "JSON object"),
        (["modbus-rtu", "--context", '{"fields": [1]}', "010304ba4a41f8cf2f"], "does not fit"),
        (["--golden", "nowhere.json"], "nowhere.json"),
    ],
)
def test_mistakes_are_answered_with_what_is_allowed(arguments: list[str], hint: str) -> None:
    code, lines, words = _run(*arguments)
    assert code in (1, 2)
    assert not lines
    assert hint in words


def _file(path: Path, *entries: object) -> str:
    path.write_text(json.dumps(entries), "utf-8")
    return str(path)


def test_golden_file_is_judged_entry_by_entry(tmp_path: Path) -> None:
    good = {"id": "a", "protocol": "cjt188", "hex": READ, "expect": {"valid": True, "control": "01"}}
    wrong = good | {"id": "b", "expect": {"control": "81"}}
    cut = good | {"id": "c", "hex": READ[:-2], "expect": {"valid": False, "error": "length"}}
    code, lines, _ = _run("--golden", _file(tmp_path / "f.json", good, cut))
    assert (code, lines) == (0, ["a passed", "c passed", "2 passed, 0 failed"])
    code, lines, _ = _run("--golden", _file(tmp_path / "f.json", good, wrong, 7, {"protocol": "x", "id": "d"}))
    assert code == 1
    assert lines[0] == "a passed"
    assert lines[1] == "b: control: expected '81', found '01'"
    assert lines[2] == "entry 3: not an object"
    assert lines[3].startswith("d: unknown protocol 'x'")
    assert lines[4] == "1 passed, 3 failed"


def test_all_golden_frames_pass_through_the_command() -> None:
    code, lines, words = _run("--golden", str(FRAMES_FILE))
    assert (code, lines[-1]) == (0, "101 passed, 0 failed"), words


def test_golden_file_may_be_narrowed_to_one_protocol() -> None:
    for protocol, count in (("cjt188", 22), ("dlt645-2007", 18), ("modbus-rtu", 9), ("iec62056-21", 6)):
        code, lines, _ = _run(protocol, "--golden", str(FRAMES_FILE))
        assert (code, lines[-1]) == (0, f"{count} passed, 0 failed")


def test_file_that_is_no_list_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "f.json"
    for content in ("{}", "[", "[" * 100_000):
        path.write_text(content, "utf-8")
        code, lines, words = _run("--golden", str(path))
        assert code == 2
        assert not lines
        assert "f.json" in words
