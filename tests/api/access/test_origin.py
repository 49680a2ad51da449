"""Where a request comes from, and what of that is believed."""

from __future__ import annotations

import pytest
from starlette.types import Scope

from api.access import origin
from api.access.credentials import cookie, in_address


def scope(peer: str = "127.0.0.1", scheme: str = "http", **headers: str) -> Scope:
    named = {"host": "metergate.example", **{name.replace("_", "-"): value for name, value in headers.items()}}
    raw = [(name.encode(), value.encode()) for name, value in named.items()]
    return {"type": "http", "client": (peer, 1), "scheme": scheme, "headers": raw}


def test_this_machine_is_a_loopback_peer_that_nobody_stands_behind() -> None:
    assert origin.is_this_machine(scope())
    assert origin.is_this_machine(scope("::1"))
    assert not origin.is_this_machine(scope("192.0.2.1"))
    assert not origin.is_this_machine(scope(x_forwarded_for="127.0.0.1"))
    assert not origin.is_this_machine(scope(forwarded="for=127.0.0.1"))
    assert not origin.is_this_machine(scope(via="1.1 door"))


@pytest.mark.parametrize(
    ("peer", "said", "counts"),
    [
        ("127.0.0.1", "192.0.2.9", "192.0.2.9"),
        (
            "127.0.0.1",
            "10.9.9.9, 192.0.2.9",
            "192.0.2.9",
        ),  # the caller wrote the first
        ("127.0.0.1", "nonsense", "127.0.0.1"),
        ("127.0.0.1", "", "127.0.0.1"),
        ("192.0.2.1", "127.0.0.1", "192.0.2.1"),
    ],
)
def test_only_a_proxy_on_this_machine_is_believed_and_only_its_own_word(peer: str, said: str, counts: str) -> None:
    assert origin.address(scope(peer, x_forwarded_for=said)) == counts


def test_an_ipv6_network_is_one_caller_and_a_mapped_address_is_its_ipv4_one() -> None:
    assert origin.network("2001:db8:1:2:3::4") == origin.network("2001:db8:1:2::ffff") == "2001:db8:1:2::/64"
    assert origin.network("2001:db8:1:3::1") != origin.network("2001:db8:1:2::1")
    assert origin.network("::ffff:192.0.2.1") == "192.0.2.1"
    assert origin.network("192.0.2.1") == "192.0.2.1"


def test_tls_is_ours_or_that_of_a_proxy_on_this_machine() -> None:
    assert origin.is_secure(scope(scheme="https"))
    assert origin.is_secure(scope(x_forwarded_proto="https"))
    assert not origin.is_secure(scope())
    assert not origin.is_secure(scope("192.0.2.1", x_forwarded_proto="https"))


@pytest.mark.parametrize(
    ("headers", "foreign"),
    [
        ({}, False),
        ({"origin": "https://metergate.example"}, False),
        ({"origin": "https://METERGATE.example"}, False),
        ({"origin": "https://evil.example"}, True),
        ({"origin": "https://metergate.example.evil.example"}, True),
        ({"origin": "https://metergate.example:8443"}, True),
        ({"origin": "null"}, True),
        ({"origin": "http://[bad"}, True),
        ({"sec_fetch_site": "same-origin"}, False),
        ({"sec_fetch_site": "same-site"}, True),
        ({"sec_fetch_site": "cross-site", "origin": "https://metergate.example"}, True),
    ],
)
def test_a_page_of_another_site_is_known_by_what_the_browser_says(headers: dict[str, str], foreign: bool) -> None:
    assert origin.is_foreign_page(scope(**headers)) is foreign


def test_a_cookie_that_stands_twice_is_none() -> None:
    assert cookie(scope(cookie="a=1; metergate=x; b=2"), "metergate") == "x"
    assert cookie(scope(cookie="metergate=x; metergate=y"), "metergate") is None
    assert cookie(scope(cookie="metergate="), "metergate") is None
    assert cookie(scope(cookie="metergate=" + "x" * 500), "metergate") is None


def test_secrets_in_an_address_are_found_by_their_look_and_by_their_name() -> None:
    key = "mg_ab12cd34_" + "s" * 43
    assert in_address(b"limit=5&district=north") == (set(), [])
    assert in_address(f"q={key}".encode()) == ({"q"}, [key])
    assert in_address(b"q=" + key.replace("_", "%5F").encode()) == ({"q"}, [key])
    assert in_address(key.encode()) == ({"mg_…"}, [key])
    assert in_address(b"Access_Token=1") == ({"Access_Token"}, [])
    assert in_address(b"token=") == (set(), [])
