"""The server has an address of its own, a folder of its own, and says so when it cannot have them."""

from __future__ import annotations

import os
import socket

import pytest

from herovlm.app import serve
from herovlm.errors import MissingExtraError, SetupError


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


def test_the_folder_is_removed_and_gradio_is_told_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(serve, "require", lambda *_, **__: None)
    for name in ("GRADIO_TEMP_DIR", "GRADIO_ANALYTICS_ENABLED", "GRADIO_MCP_SERVER"):
        monkeypatch.setenv(name, "before")
    with serve.own_folder() as folder:
        (folder / "upload.png").write_text("mine")
        assert os.environ["GRADIO_TEMP_DIR"] == str(folder)
        assert os.environ["GRADIO_ANALYTICS_ENABLED"] == "False"
    assert not folder.exists()


def test_without_gradio_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "gradio", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'herovlm\[app\]'"), serve.own_folder():
        pass
