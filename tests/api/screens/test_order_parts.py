"""The parts of the pages of orders: forms with files, times as people type them, where bars stand."""

from __future__ import annotations

from zoneinfo import ZoneInfo

import pytest

from api.orders.lifecycle import Deed
from api.problems import ProblemError
from api.schemas_work_orders import Series, SeriesPoint
from api.screens.frame import Times
from api.screens.multipart import split
from api.screens.order_chart import charts
from api.screens.order_forms import FormError, filing_of, moment_of, step_of

SHANGHAI = ZoneInfo("Asia/Shanghai")
KIND = "multipart/form-data; boundary=----b"
BODY = (
    b'------b\r\nContent-Disposition: form-data; name="note"\r\n\r\nh\xc3\xa9 \r\nthere\r\n'
    b'------b\r\nContent-Disposition: form-data; name="photo"; filename="a\xe2\x80\x9c.png"\r\n'
    b"Content-Type: image/png\r\n\r\n\x00\xff\r\n\r\n--b\r\n"
    b'------b\r\nContent-Disposition: form-data; name="empty"; filename=""\r\n\r\n\r\n------b--\r\n'
)
MINUTE = 60_000
ACCEPTED = 1_772_323_230_000  # 2026-03-01T00:00:30Z, 08:00:30 in Shanghai


def test_fields_and_files_come_apart_byte_for_byte() -> None:
    fields, files = split(KIND, BODY)
    assert fields == {"note": "h\u00e9 \r\nthere"}
    assert files == {"photo": [b"\x00\xff\r\n\r\n--b"], "empty": []}


def test_a_form_that_is_cut_anywhere_is_refused() -> None:
    end = BODY.rindex(b"--\r\n")
    for length in range(end):
        with pytest.raises(ProblemError):
            split(KIND, BODY[:length])
    for end_of_file in (end + 2, end + 3):
        assert split(KIND, BODY[:end_of_file])[0]


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("application/json", BODY),
        ("multipart/form-data", BODY),
        ("multipart/form-data; boundary=", BODY),
        ("multipart/form-data; boundary=\x00", BODY),
        (KIND, BODY.replace(b"\xc3\xa9", b"\xff")),
        (KIND, BODY.replace(b'name="note"', b'name=""')),
        (KIND, BODY.replace(b"Content-Disposition", b"X")),
        (KIND, BODY.replace(b"there", b"t" * 20_000)),
        (KIND, (b'------b\r\nContent-Disposition: form-data; name="a"\r\n\r\n1\r\n') * 70 + b"------b--\r\n"),
    ],
)
def test_what_no_browser_sends_is_refused(kind: str, body: bytes) -> None:
    with pytest.raises(ProblemError) as refused:
        split(kind, body)
    assert refused.value.status in (415, 422)


def test_times_are_those_of_the_city_and_nonsense_is_none() -> None:
    assert moment_of({"at": "2026-03-01T08:01"}, "at", SHANGHAI) == ACCEPTED + MINUTE // 2
    assert moment_of({"at": "2026-03-01T08:01:59.5"}, "at", SHANGHAI) == ACCEPTED + MINUTE // 2
    assert moment_of({"at": " "}, "at", SHANGHAI) is None
    for bad in ("yesterday", "2026-02-30T00:00", "0001-01-01T00:00", "9999-99-99T99:99", "\u0661" * 16):
        with pytest.raises(FormError):
            moment_of({"at": bad}, "at", SHANGHAI)


def test_within_the_minute_of_acceptance_an_arrival_is_not_before_it() -> None:
    typed = {"result": "passed", "arrived_at": "2026-03-01T08:00", "started_at": "2026-03-01T08:00"}
    known = {"worker": "zhao", "quantity": "volume", "accepted_at": ACCEPTED, "now_ms": ACCEPTED + MINUTE}
    filing = filing_of(typed, **known, zone=SHANGHAI)  # type: ignore[arg-type]  # plain facts
    assert (filing.arrived_at, filing.started_at) == (ACCEPTED, ACCEPTED)
    with pytest.raises(FormError) as early:
        filing_of({**typed, "arrived_at": "2026-03-01T07:59"}, **known, zone=SHANGHAI)  # type: ignore[arg-type]
    assert early.value.key == "order_of_times"


def test_a_step_needs_what_its_form_asks_for() -> None:
    for deed, fields, key in (
        (Deed.VOID, {"note": " "}, "note"),
        (Deed.DISPATCH, {}, "assignee"),
        (Deed.EXTEND, {"note": "later"}, "appointment"),
        (Deed.ACCEPT, {"priority": "x"}, "priority"),
    ):
        with pytest.raises(FormError) as refused:
            step_of(deed, fields, SHANGHAI)
        assert refused.value.key == key


def points(*values: str | None) -> list[SeriesPoint]:
    return [
        SeriesPoint(at=f"2026-03-01T{hour:02}:00:00.000Z", consumption=value, index="1")
        for hour, value in enumerate(values)
    ]


def test_bars_are_as_high_as_their_share_and_a_gap_has_none() -> None:
    hours = points("0.5", None, "1", "0")
    drawn = charts(Series(quantity="volume", unit="m3", days=[], hours=hours), 1_772_323_200_000, Times("UTC"))
    assert [chart.name for chart in drawn] == ["hours"]
    chart = drawn[0]
    # four hours share 720: bars of 180 less 15 %; half of 160, all of it, nothing
    assert [pytest.approx((bar.x, bar.width, bar.y, bar.height)) for bar in chart.bars] == [
        (13.5, 153.0, 80.0, 80.0),
        (373.5, 153.0, 0.0, 160.0),
        (553.5, 153.0, 160.0, 0.0),
    ]
    assert (chart.mark, chart.top, chart.gaps) == (0.0, "1", 1)
    assert chart.bars[0].said == "2026-03-01 00:00 · 0.5 m3"


def test_nothing_to_draw_is_no_chart() -> None:
    empty = Series(quantity="volume", unit="m3", days=[], hours=points(None))
    assert charts(None, None, Times("UTC")) == []
    assert charts(empty, 0, Times("UTC")) == []
