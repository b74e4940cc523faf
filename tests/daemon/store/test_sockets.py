"""Edge: the tests' own guard: nothing but loopback can be reached, nor asked after."""

import socket

import pytest


def test_outside_is_closed_and_loopback_open(closed_sockets: list[str]) -> None:
    with socket.socket() as probe, pytest.raises(OSError, match="only loopback"):
        probe.connect(("192.0.2.1", 80))
    with pytest.raises(OSError, match="only loopback"):
        socket.getaddrinfo("example.org", 80)
    assert len(closed_sockets) == 2
    closed_sockets.clear()  # else this test would fail for having tried
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        socket.create_connection(("localhost", server.getsockname()[1])).close()
