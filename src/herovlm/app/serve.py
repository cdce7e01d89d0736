"""The web server of the page: one address, a gate before it, and a clean end."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from herovlm.app.gate import App, Gate
from herovlm.errors import SetupError
from herovlm.extras import require

PATIENCE = 2  # seconds that open connections are given at the end
LOCAL = ("127.0.0.1", "localhost", "[::1]")  # names that a server of this machine alone answers to


@contextmanager
def bound(host: str, port: int) -> Iterator[socket.socket]:
    """Take an address; port 0 is any free one.

    Raises:
        SetupError: it cannot be had.
    """
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind((host, port))
            sock.listen()
        except OSError as error:
            raise SetupError(
                f"cannot listen at {host}, port {port} ({error.strerror or error}); give another --port (0 is any "
                "free one) or --host"
            ) from error
        yield sock


def address(sock: socket.socket) -> str:
    """Write the web address of a socket."""
    host, port = sock.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def named(page: App, local: bool) -> Any:
    """Refuse requests to another name where only this machine is served: no page of the web, its name made to point
    here, reads what is asked here (DNS rebinding).
    """
    hosts: Any = require("starlette.middleware.trustedhost", extra="app")
    return hosts.TrustedHostMiddleware(page, LOCAL if local else ["*"])


def run(page: App, sock: socket.socket, folder: Path, upload: int) -> None:
    """Serve a page until Ctrl-C, or until the process is told to end.

    Args:
        page: an ASGI application.
        sock: where to listen.
        folder: the only folder that requests may name.
        upload: bytes of the largest file that is taken.
    """
    uvicorn: Any = require("uvicorn", extra="app")
    local = ip_address(sock.getsockname()[0]).is_loopback
    config = uvicorn.Config(
        named(Gate(page, folder, upload), local),
        log_level="error",
        access_log=False,
        ws="none",
        timeout_graceful_shutdown=PATIENCE,
    )
    with suppress(KeyboardInterrupt):  # Ctrl-C, or what `own_folder` makes like it
        uvicorn.Server(config).run(sockets=[sock])
