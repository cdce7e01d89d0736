"""The server has an address of its own, and says so when it cannot have it."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

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


@pytest.mark.parametrize(
    ("host", "local", "status"),
    [
        ("127.0.0.1", True, 200),
        ("[::1]:9", True, 200),
        ("LOCALHOST", True, 200),
        ("LocalHost:7860", True, 200),
        ("evil.example:80", True, 400),
        ("127.0.0.1.evil.example", True, 400),
        ("evil.example@127.0.0.1", True, 400),
        ("[::1", True, 400),
        ("", True, 400),
        ("my-machine:7860", False, 200),
    ],
)
def test_a_server_of_this_machine_answers_to_no_other_name(host: str, local: bool, status: int) -> None:
    """A page of the web whose name was made to point here cannot read what is asked here."""
    pytest.importorskip("gradio", reason="the extra 'app' is not installed", exc_type=ImportError)
    sent: list[Any] = []

    async def page(_: Any, __: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def send(event: Any) -> None:
        sent.append(event)

    scope = {"type": "http", "method": "GET", "path": "/", "headers": [(b"host", host.encode())]}
    asyncio.run(serve.named(page, local)(scope, None, send))
    assert sent[0]["status"] == status
