"""Bytes between two sockets of one process are counted until they are read."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from metergate.virtual_wires import Wires


def busy(wires: Wires) -> bool:
    return wires.busy


@pytest.fixture
def pair() -> Iterator[tuple[Wires, socket.socket, socket.socket]]:
    """Both ends of a loopback connection, counted."""
    wires = Wires()
    with ExitStack() as stack:
        server = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        wires.listen(server.getsockname())
        client = stack.enter_context(wires.counted(socket.create_connection(server.getsockname())))
        accepted = stack.enter_context(wires.counted(server.accept()[0]))
        yield wires, client, accepted


def test_a_connection_is_in_flight_until_its_server_took_it_up() -> None:
    wires = Wires()
    with ExitStack() as stack:
        server = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        wires.listen(server.getsockname())
        stack.enter_context(wires.counted(socket.create_connection(server.getsockname())))
        assert busy(wires)
        assert "not accepted" in wires.words()
        stack.enter_context(wires.counted(server.accept()[0]))
        assert not busy(wires)


def test_bytes_are_under_way_until_the_last_one_is_read(pair: tuple[Wires, socket.socket, socket.socket]) -> None:
    wires, client, server = pair
    client.send(b"hello")
    assert busy(wires)
    assert wires.words().endswith("5 bytes")
    assert server.recv(3) == b"hel"
    assert busy(wires)
    assert server.recv(10) == b"lo"
    assert not busy(wires)
    assert (wires.sent, wires.segments) == (5, 1)


def test_both_directions_are_counted_apart(pair: tuple[Wires, socket.socket, socket.socket]) -> None:
    wires, client, server = pair
    client.send(b"ask")
    server.send(b"answer")
    server.recv(100)
    assert busy(wires)
    client.recv_into(bytearray(100))
    assert not busy(wires)


def test_the_end_of_a_connection_is_under_way_until_it_is_noticed(
    pair: tuple[Wires, socket.socket, socket.socket],
) -> None:
    wires, client, server = pair
    client.send(b"last words")
    client.close()
    assert server.recv(100) == b"last words"
    assert busy(wires)
    assert server.recv(100) == b""
    assert not busy(wires)


def test_what_a_closed_end_will_never_read_holds_nothing_up(pair: tuple[Wires, socket.socket, socket.socket]) -> None:
    wires, client, server = pair
    server.send(b"too late")
    client.close()
    server.close()
    assert not busy(wires)


def test_a_peer_in_another_process_is_not_counted() -> None:
    wires = Wires()
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as plain:
        assert wires.counted(plain) is plain, "its server is not known as ours"
        with server.accept()[0]:
            plain.send(b"x")
        assert not busy(wires)
