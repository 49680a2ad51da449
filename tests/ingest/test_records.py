"""Rows for events and quarantine: safe for any database, the same twice, different when different."""

from __future__ import annotations

from ingest.records import MAX_RAW, own_event, printable, quarantine_row, raw_of
from tests.ingest.house import NOW, failed, reading


def test_texts_from_outside_are_spelled_out() -> None:
    assert printable("水表 a\0b\nc\ud800\udcff") == "水表 a\\x00b\\nc\\ud800\\udcff"
    assert printable("x" * 900) == "x" * 500
    assert len(printable("\0" * 900, 48)) == 48


def test_raw_bytes_are_as_the_gateway_wrote_them() -> None:
    row = reading("M1", NOW, 5)
    before = raw_of(row)
    row.received_at = NOW + 7
    assert raw_of(row) == before
    assert b"received_at" not in before
    assert b"read_failed" in raw_of(failed("M1", NOW))


def test_quarantine_keeps_the_beginning_of_what_is_too_long() -> None:
    row = quarantine_row("gw-1", b"x" * (MAX_RAW + 5), "message_size", "y" * 900, NOW)
    assert (len(row.raw), len(row.detail)) == (MAX_RAW, 500)
    assert row.detail.endswith(f"(the first {MAX_RAW} of {MAX_RAW + 5} bytes are kept)")
    assert row.digest != quarantine_row("gw-1", b"x" * (MAX_RAW + 6), "message_size", "", NOW).digest


def test_the_same_suspicion_is_the_same_event_whenever_it_is_noticed() -> None:
    first = own_event("security", "topic", "text", NOW, gateway="gw-1", key="a\ud800")
    again = own_event("security", "topic", "text", NOW + 9, gateway="gw-1", key="a\ud800")
    other = own_event("security", "topic", "text", NOW, gateway="gw-1", key="b")
    assert first.digest == again.digest != other.digest
