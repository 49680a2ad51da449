"""What one frame costs to decode, per protocol.

    python -m benchmarks.decode_cost [--seconds 0.5] [FRAMES.json]

The frames are the golden ones that must be accepted. Columns: frames in the file, their mean length, CPU µs per frame
for the codec alone (bytes to typed message), for cutting it out of a stream that comes in pieces of 16 bytes, and for
the whole of `metergate decode` (typed message to words of the file and readings). One core; the best of five rounds.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from gateway.protocols import cjt188, dlt645, dsmr_p1, golden, mbus, modbus, sml, wmbus
from gateway.protocols import iec62056_21 as iec
from gateway.protocols.framing import StreamSplitter

FRAMES: Final = Path(__file__).parents[1] / "tests" / "gateway" / "protocols" / "golden" / "frames.json"
ROUNDS: Final = 5
PIECE: Final = 16

Decoder = Callable[[bytes, dict[str, Any]], object]


def _modbus(raw: bytes, _entry: dict[str, Any]) -> object:
    pdu = modbus.decode_rtu(raw).pdu
    return modbus.decode_request(pdu) if len(raw) == 8 else modbus.decode_answer(pdu)


def _wmbus(raw: bytes, entry: dict[str, Any]) -> object:
    key = (entry.get("context") or {}).get("key")
    return wmbus.decode(raw, bytes.fromhex(key) if key else None)


DECODERS: Final[dict[str, Decoder]] = {
    "cjt188": lambda raw, _: cjt188.parse(cjt188.decode(raw)),
    "dlt645-2007": lambda raw, _: dlt645.parse(dlt645.decode(raw), "2007"),
    "dlt645-1997": lambda raw, _: dlt645.parse(dlt645.decode(raw), "1997"),
    "modbus-rtu": _modbus,
    "iec62056-21": lambda raw, _: iec.decode(raw),
    "mbus": lambda raw, _: mbus.decode(raw),
    "wmbus": _wmbus,
    "dsmr-p1": lambda raw, _: dsmr_p1.decode(raw),
    "sml": lambda raw, _: sml.decode(raw),
}
SPLITTERS: Final[dict[str, Callable[[], StreamSplitter]]] = {
    "cjt188": cjt188.splitter,
    "dlt645-2007": dlt645.splitter,
    "dlt645-1997": dlt645.splitter,
    "modbus-rtu": lambda: modbus.rtu_splitter("any"),
    "iec62056-21": iec.splitter,
    "mbus": mbus.splitter,
    "dsmr-p1": dsmr_p1.splitter,
    "sml": sml.splitter,
}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=0.5, help="time for one figure")
    parser.add_argument("frames", nargs="?", type=Path, default=FRAMES)
    options = parser.parse_args()
    print(f"{'protocol':20} {'frames':>6} {'bytes':>6} {'codec µs':>9} {'stream µs':>9} {'whole µs':>9}")
    entries = json.loads(options.frames.read_text("utf-8"))
    for protocol in golden.PROTOCOLS:
        chosen = [e for e in entries if e["protocol"] == protocol and e["expect"].get("valid", True)]
        if chosen:
            print(_line(protocol, chosen, options.seconds / ROUNDS))


def _line(protocol: str, entries: list[dict[str, Any]], seconds: float) -> str:
    frames = [(bytes.fromhex(entry["hex"]), entry) for entry in entries]
    raws = [raw for raw, _ in frames]
    adapter, decoder, splitter = golden.adapter_of(protocol), DECODERS.get(protocol), SPLITTERS.get(protocol)
    whole = _cost(lambda: [adapter(protocol, raw, entry) for raw, entry in frames], len(frames), seconds)
    codec = decoder and _cost(lambda: [decoder(raw, entry) for raw, entry in frames], len(frames), seconds)
    stream = splitter and _cost(lambda: _stream(splitter(), raws), len(frames), seconds)
    size = sum(map(len, raws)) / len(raws)
    return f"{protocol:20} {len(frames):6} {size:6.0f} {_figure(codec):>9} {_figure(stream):>9} {_figure(whole):>9}"


def _stream(splitter: StreamSplitter, raws: Sequence[bytes]) -> None:
    for raw in raws:
        for place in range(0, len(raw), PIECE):
            splitter.feed(raw[place : place + PIECE])


def _cost(work: Callable[[], object], frames: int, seconds: float) -> float:
    """Return CPU µs per frame: the best of some rounds, because neighbours only ever make it slower."""
    work()
    best = float("inf")
    for _ in range(ROUNDS):
        runs, start = 0, time.process_time()
        while (spent := time.process_time() - start) < seconds:
            work()
            runs += 1
        best = min(best, spent / (runs * frames))
    return best * 1e6


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


if __name__ == "__main__":
    main()
