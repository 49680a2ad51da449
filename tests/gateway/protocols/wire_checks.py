"""The checks that every codec passes: golden entries, prefixes, bit flips, random bytes, byte by byte with noise.

A test module describes its codec by a `Codec` and calls these. Everything here raises AssertionError with the bytes
that caused it, so that a failure can be repeated.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from gateway.protocols import golden
from gateway.protocols.framing import Cut, Damaged, StreamSplitter
from metering.errors import MetergateError, ProtocolError

FRAMES_FILE: Final = Path(__file__).parent / "golden" / "frames.json"
RANDOM_INPUTS: Final = 20_000


@dataclass(frozen=True)
class Codec:
    """What the checks need to know.

    decode: one whole frame (and what may stand around it) -> a value with `==`; raises our errors.
    encode: the value -> the bare frame, without preamble. checked: it has a checksum.
    splitter: makes a new StreamSplitter, None when the protocol is no stream.
    """

    decode: Callable[[bytes], Any]
    encode: Callable[[Any], bytes] | None = None
    checked: bool = True
    splitter: Callable[[], StreamSplitter] | None = None


def entries(*protocols: str) -> list[dict[str, Any]]:
    """Return the golden entries of these protocols."""
    every: list[dict[str, Any]] = json.loads(FRAMES_FILE.read_text("utf-8"))
    chosen = [entry for entry in every if entry["protocol"] in protocols]
    assert chosen, f"no golden entry for {protocols}"
    return chosen


def valid_frames(*protocols: str) -> list[bytes]:
    """Return the bytes of the golden frames that must be accepted."""
    return [bytes.fromhex(e["hex"]) for e in entries(*protocols) if e["hex"] and e["expect"].get("valid", True)]


def assert_golden(*protocols: str) -> int:
    """Every golden entry passes our judge; return how many there were."""
    failures = {e["id"]: lines for e in entries(*protocols) if (lines := golden.judge(e))}
    assert not failures, failures
    return len(entries(*protocols))


def assert_round_trip(codec: Codec, frames: Iterable[bytes]) -> int:
    """encode(decode(x)) == x for bare frames; return how many there were."""
    assert codec.encode is not None
    count = 0
    for frame in frames:
        again = codec.encode(codec.decode(frame))
        assert again == frame, f"{frame.hex()} came back as {again.hex()}"
        count += 1
    return count


def assert_prefixes_refused(codec: Codec, frames: Iterable[bytes]) -> None:
    """A frame cut at any byte is never taken for a value; without a checksum it may be a shorter answer."""
    for frame in frames:
        for end in range(len(frame)):
            _refused_or(codec, frame[:end], None, "prefix")


def assert_bit_flips_harmless(codec: Codec, frames: Iterable[bytes]) -> None:
    """Any single flipped bit: refused, or the same value; without a checksum an answer or one of our errors."""
    for frame in frames:
        value = codec.decode(frame)
        for bit in range(len(frame) * 8):
            flipped = bytearray(frame)
            flipped[bit // 8] ^= 1 << bit % 8
            _refused_or(codec, bytes(flipped), value, f"bit {bit} flipped")


def assert_random_bytes_harmless(
    codec: Codec, samples: Iterable[bytes], *, seed: int = 1, count: int = RANDOM_INPUTS
) -> int:
    """Random bytes, and genuine frames with random damage: an answer or one of our errors, nothing else.

    Return how many were answered.
    """
    chance = random.Random(seed)
    bank = list(samples)
    answered = 0
    for number in range(count):
        data = chance.randbytes(chance.randrange(64)) if number % 2 else _mangled(chance.choice(bank), chance)
        try:
            codec.decode(data)
            answered += 1
        except MetergateError:
            pass
        except Exception as error:
            raise AssertionError(f"{type(error).__name__}({error}) for {data.hex()}") from error
    return answered


def assert_stream_survives(
    codec: Codec, frames: Iterable[bytes], *, noise: Iterable[bytes] = (), seed: int = 1
) -> None:
    """Fed byte by byte with noise before and a second frame behind, both frames come out, in order."""
    assert codec.splitter is not None
    chance = random.Random(seed)
    bare = list(frames)
    noises = [b"", *noise, *(chance.randbytes(chance.randrange(1, 20)) for _ in range(8))]
    for index, frame in enumerate(bare):
        second = bare[(index + 1) % len(bare)]
        for prefix in noises:
            found = fed_byte_by_byte(codec.splitter(), prefix + frame + second)
            values = [codec.decode(raw) for raw in found]
            wanted = [codec.decode(frame), codec.decode(second)]
            assert values[-2:] == wanted, f"{prefix.hex()} | {frame.hex()} | {second.hex()} gave {found}"


def fed_byte_by_byte(splitter: StreamSplitter, data: bytes) -> list[bytes]:
    """Return the frames that come out of a stream; what is damaged is left out, nothing is lost from the bytes."""
    items: list[Cut | Damaged] = []
    for place in range(len(data)):
        items += splitter.feed(data[place : place + 1])
    items += splitter.flush()
    return [item.raw for item in items if isinstance(item, Cut)]


def _refused_or(codec: Codec, data: bytes, value: Any, what: str) -> None:
    try:
        found = codec.decode(data)
    except ProtocolError:
        return
    except Exception as error:
        raise AssertionError(f"{type(error).__name__}({error}) for {what} {data.hex()}") from error
    if codec.checked:
        assert value is not None, f"{what}: {data.hex()} was taken for {found}"
        assert found == value, f"{what}: {data.hex()} was taken for {found}"


def _mangled(frame: bytes, chance: random.Random) -> bytes:
    data = bytearray(frame)
    for _ in range(chance.randrange(1, 4)):
        place = chance.randrange(len(data) + 1)
        match chance.randrange(4):
            case 0:
                data[place:place] = chance.randbytes(chance.randrange(1, 4))
            case 1:
                del data[place : place + chance.randrange(1, 6)]
            case 2:
                data += data[:place]
            case _:
                if data:
                    data[place % len(data)] = chance.randrange(256)
    return bytes(data)
