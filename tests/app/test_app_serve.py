"""The server has an address of its own, and says so when it cannot have it."""

from __future__ import annotations

import socket

import pytest

from herovlm.app import serve
from herovlm.errors import SetupError


def test_a_free_port_is_found_and_written_as_an_address() -> None:
    with serve.bound("127.0.0.1", 0) as sock:
        port = sock.getsockname()[1]
        assert serve.address(sock) == f"http://127.0.0.1:{port}"
        with socket.create_connection(("127.0.0.1", port)):
            pass
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", port))


@pytest.mark.parametrize("host", ["no such host", "192.0.2.1"])
def test_an_address_of_another_machine_is_refused(host: str) -> None:
    with pytest.raises(SetupError, match=f"{host}.*--host"), serve.bound(host, 0):
        pass


def test_a_port_that_is_taken_is_named() -> None:
    with serve.bound("127.0.0.1", 0) as sock:
        port = sock.getsockname()[1]
        with pytest.raises(SetupError, match=f"port {port} .*--port"), serve.bound("127.0.0.1", port):
            pass
