"""What services said, in the reader's language: known sentences, times, lists, and what nobody has translated."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest

from api.billing.causes import FOREVER, outage_text
from api.screens.frame import Times
from api.screens.said import Reader, plain, recognised
from api.screens.texts import catalogue

ROOT = Path(__file__).parents[3]
ROOMS = ("metering", "registry", "ingest", "anomaly", "api")
AT = 1_772_323_200_000  # 2026-03-01T00:00:00Z, 08:00 in Shanghai
ENGLISH = Reader("en", Times("Asia/Shanghai"))
CHINESE = Reader("zh", Times("Asia/Shanghai"))


@pytest.mark.parametrize(
    ("said", "english", "chinese"),
    [
        (
            "not heard since 2026-03-01T00:00:00.000Z",
            "not heard since 2026-03-01 08:00:00",
            "自 2026-03-01 08:00:00 起无消息",
        ),
        (
            f"meter W-1 at {AT} ms: another value was refused",
            "meter W-1 at 2026-03-01 08:00:00: another value was refused",
            None,  # the API says RFC 3339 now; what older versions stored stays English, with its time readable
        ),
        (
            "the meter did not answer: timeout",
            "the meter did not answer: timeout",
            "表计未应答：无应答",
        ),
        (
            "155 is more than the 100 above which a period must be read again",
            "155 is more than the 100 above which a period must be read again",
            "用量 155 超过须复抄的限值 100",
        ),
        (
            "1199 before, 9999 now: no flow of this meter explains it",
            "1199 before, 9999 now: no flow of this meter explains it",
            "上次 1199，本次 9999：该表流量无法解释",
        ),
        (
            "too many wrong logins for this account; wait 30 s",
            "too many wrong logins for this account; wait 30 s",
            "该账号登录失败次数过多；请等待 30 秒",
        ),
        (
            "This form was too old, or the browser keeps no cookies; try again.",
            "This form was too old, or the browser keeps no cookies; try again.",
            "表单已过期，或浏览器不保存 Cookie；请重试",
        ),
        ("there is no quarantined row '99'", "there is no quarantined row &#39;99&#39;", "没有被拒收的数据行 99"),
    ],
)
def test_a_sentence_is_told_in_the_readers_language(said: str, english: str, chinese: str | None) -> None:
    assert ENGLISH.said(said) == english
    if chinese is not None:
        assert CHINESE.said(said) == chinese


def test_what_nobody_has_translated_is_marked_as_english_with_its_times_readable() -> None:
    said = CHINESE.said("the disk of <host> is full since 2026-03-01T00:00:00Z")
    assert said == '<span lang="en">the disk of &lt;host&gt; is full since 2026-03-01 08:00:00</span>'


def test_several_sentences_are_told_one_by_one_and_those_that_belong_together_together() -> None:
    said = CHINESE.said(
        "its time is over; no words for this; it left the broker; last heard 2026-03-01T00:00:00.000Z"
    )
    unknown = '<span lang="en">no words for this</span>'
    assert said == f"时间已到；{unknown}；已与消息代理断开；最近消息 2026-03-01 08:00:00"


def test_a_sentence_inside_another_is_told_too() -> None:
    said = CHINESE.said("ingest: ingest-1: store: some trouble of a driver")
    assert said == '接收：ingest-1：读数库：<span lang="en">some trouble of a driver</span>'


def test_what_a_script_shows_as_text_has_no_marks() -> None:
    assert plain("zh", "ingest: ingest-1 has not reported for 9 s") == "接收：ingest-1 已有 9 秒没有报告"
    assert plain("zh", "registry: <host> is away now") == "台账库：<host> is away now"
    assert plain("en", "registry: <host> is away now") == "registry: <host> is away now"


def test_what_stands_in_places_is_text_and_never_markup() -> None:
    assert CHINESE.said('no meter "<b>" in the books') == "台账中没有表计 &lt;b&gt;"


def test_a_list_of_words_is_told_word_by_word() -> None:
    said = CHINESE.said("an order that is accepted cannot finish; possible now: dispatch, cancel")
    assert said == "派工单状态为“待派工”，不能“回执”；现在可以：派工、取消"


def test_a_text_of_the_catalogue_stays_as_it_is() -> None:
    assert CHINESE.said("请写明原因") == "请写明原因"
    assert "lang" in CHINESE.said("城北 does not work today")


def test_a_persons_note_stays_as_he_wrote_it() -> None:
    assert CHINESE.by("user:li", "its time is over") == "its time is over"
    assert CHINESE.by("service:anomaly", "its time is over") == "时间已到"


def test_a_time_that_cannot_be_is_left_alone() -> None:
    assert "2026-99-99T00:00:00Z" in CHINESE.said("not heard since 2026-99-99T00:00:00Z")


def test_nothing_said_is_nothing_shown() -> None:
    assert CHINESE.said("") == CHINESE.said(None) == ENGLISH.said("") == ""


@pytest.mark.parametrize("end", [AT + 3 * 3_600_000, FOREVER])
def test_an_outage_as_billing_tells_it_is_known(end: int) -> None:
    said = CHINESE.said(f"gateway gw-2 was away {outage_text((AT, end))}")
    assert said.startswith("网关 gw-2 离线：")
    assert "lang" not in said


@cache
def sources() -> str:
    """The code of the services, with texts of several lines in one."""
    files = (path.read_text("utf-8") for room in ROOMS for path in (ROOT / room).rglob("*.py"))
    return re.sub(r"\"\s*\n\s*f?\"", "", "\n".join(files)).replace('\\"', '"')


def sample(place: re.Match[str]) -> str:
    """What may stand in a place: a moment, a word of the place's table, several words, or one."""
    if place[1].endswith("_at"):
        return "2026-03-01T00:00:00.000Z"
    table = f"{place[1].removesuffix('_list')}."
    if known := [key for key in catalogue("en") if key.startswith(table) and table != "said."]:
        return known[0].removeprefix(table)
    return "some odd words" if place[1] == "said" or place[1].endswith("_text") else "x1"


def test_every_form_is_recognised_and_stands_in_no_other_ones_way() -> None:
    forms = {key: text for key, text in catalogue("en").items() if key.startswith("said.")}
    found = {key: recognised(re.sub(r"\{([a-z_0-9]+)\}", sample, text)) for key, text in forms.items()}
    assert [key for key, known in found.items() if known is None or known[0] != key] == []


def test_every_sentence_is_still_one_that_a_service_says() -> None:
    gone = [
        (key, words)
        for key, text in catalogue("en").items()
        if key.startswith("said.")
        for piece in re.split(r"\{[a-z_0-9]+\}", text)
        if (words := piece.strip(" '\"();,:")) not in sources() and len(words) > 2
    ]
    assert gone == []
