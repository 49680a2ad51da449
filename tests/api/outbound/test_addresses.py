"""Where a webhook may go: nothing that is inside the house, in whatever form, at registration and at connect time."""

from __future__ import annotations

import ipaddress

import pytest

from api.outbound.addresses import AddressError, check_addresses, parse_url, permitted
from api.outbound.settings import OutboundSettings
from registry.database import Database
from tests.api.outbound.receiver import Receiver
from tests.api.outbound.scene import Scene, play

CLOSED = OutboundSettings()


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "127.8.9.1",
        "10.0.0.1",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",  # metadata of clouds
        "100.64.0.1",  # carrier-grade NAT
        "0.0.0.0",
        "255.255.255.255",
        "224.0.0.1",
        "192.0.2.1",
        "::",
        "::1",
        "fe80::1",
        "fc00::1",
        "fd00:ec2::254",
        "ff02::1",
        "::ffff:127.0.0.1",
        "::ffff:10.0.0.1",
        "::127.0.0.1",
        "64:ff9b::7f00:1",  # NAT64 of 127.0.0.1
        "2002:7f00:1::",  # 6to4 of 127.0.0.1
        "2001:0:4136:e378:8000:63bf:80ff:fffe",  # Teredo of 127.0.0.1
    ],
)
def test_addresses_inside_are_refused_in_every_dress(address: str) -> None:
    assert not permitted(ipaddress.ip_address(address), ())


@pytest.mark.parametrize("address", ["8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8"])
def test_addresses_outside_are_permitted(address: str) -> None:
    assert permitted(ipaddress.ip_address(address), ())


def test_a_network_that_the_settings_name_is_permitted_in_every_dress_and_no_other() -> None:
    networks = [ipaddress.ip_network("10.20.0.0/16")]
    assert permitted(ipaddress.ip_address("10.20.3.4"), networks)
    assert permitted(ipaddress.ip_address("::ffff:10.20.3.4"), networks)
    assert not permitted(ipaddress.ip_address("10.21.0.1"), networks)


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("http://example.org/", "http is allowed only"),
        ("ftp://example.org/", "begins with https"),
        ("file:///etc/passwd", "begins with https"),
        ("gopher://example.org/", "begins with https"),
        ("https://user:pw@example.org/", "neither user nor password"),
        ("https://example.org/#x", "fragment"),
        ("https:///x", "names a host"),
        ("https://[fe80::1%25eth0]/", "names a host"),
        ("https://example.org/a b", "without spaces"),
        ("https://example.org\\@127.0.0.1/", "without spaces"),
        ("https://example.org/\r\nX: y", "printable"),
        ("https://例子.cn/", "ASCII"),
        ("https://example.org:99999/", "not an address"),
        ("https://127.0.0.1/", "inside the house"),
        ("https://[::ffff:169.254.169.254]/", "inside the house"),
        ("https://[::1]:8080/", "inside the house"),
        ("https://example.org/" + "x" * 1000, "at most 1000"),
    ],
)
def test_an_address_is_refused_with_the_reason(url: str, why: str) -> None:
    with pytest.raises(AddressError, match=why):
        parse_url(url, CLOSED)


def test_the_host_header_says_what_the_address_says() -> None:
    assert parse_url("https://example.org/a?b=1", CLOSED).authority == "example.org"
    assert parse_url("https://example.org:8443/a?b=1", CLOSED).authority == "example.org:8443"
    assert parse_url("https://example.org/a?b=1", CLOSED).path == "/a?b=1"


def test_one_bad_address_among_good_ones_refuses_the_name() -> None:
    with pytest.raises(AddressError, match=r"10\.0\.0\.1"):
        check_addresses(["8.8.8.8", "10.0.0.1"], [])
    with pytest.raises(AddressError, match="nowhere"):
        check_addresses([], [])


def test_a_name_that_turns_to_the_inside_later_gets_nothing(database: Database) -> None:
    """DNS rebinding: good at registration, loopback when the message is sent; numbers in odd spelling likewise."""

    async def rebound(_host: str, _port: int) -> list[str]:
        return ["127.0.0.1"]

    settings = OutboundSettings(http_hosts=("evil.example", "2130706433"))
    scene = Scene(database, settings, resolver=rebound)

    async def work() -> None:
        async with Receiver() as inside:
            scene.webhook(f"http://evil.example:{inside.port}/", "name")
            scene.webhook(f"http://2130706433:{inside.port}/", "number")
            scene.find()
            await scene.turn()
            assert inside.hits == []
        assert {row.state for row in scene.deliveries()} == {"waiting"}
        assert all("inside the house" in row.answer for row in scene.deliveries())

    play(scene, work)


def test_the_connection_goes_to_the_address_that_was_checked(database: Database) -> None:
    """The name is asked once per attempt: a second answer could not redirect the connection."""
    asked: list[str] = []

    async def once(host: str, _port: int) -> list[str]:
        asked.append(host)
        return ["127.0.0.1"]

    settings = OutboundSettings(http_hosts=("receiver.example",), allow_private=("127.0.0.1/32",))
    scene = Scene(database, settings, resolver=once)

    async def work() -> None:
        async with Receiver() as receiver:
            scene.webhook(f"http://receiver.example:{receiver.port}/")
            scene.find()
            await scene.turn()
            assert receiver.hits[0].headers["host"] == f"receiver.example:{receiver.port}"
        assert asked == ["receiver.example"]

    play(scene, work)
