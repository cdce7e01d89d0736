"""The gate before the web page: small requests of the page itself only, none that names a file outside of its folder.

Who asks is told by the browser, in headers that no page can forge: a page of another site may link to this one, and
nothing else (https://developer.mozilla.org/docs/Web/HTTP/Headers/Sec-Fetch-Site).
"""

# Starlette checks the name of the server (serve.py), Gradio the size of a file and whether a local file may be read.
# What they leave open is closed here: Gradio takes requests of any site that need no preflight, and other ports of this
# machine for friends; it takes a thousand files in one upload, and other bodies of any length; it fetches what /file=
# names on the web; and it does not look at the paths of events that are not preprocessed, as ours are.

from __future__ import annotations

import asyncio
import json
import logging
import re
from collections.abc import Awaitable, Callable, Iterator, MutableMapping
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from herovlm.app.folder import make_room

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

WORDS = 1_000_000  # bytes of a request that is not an upload
FORM = 10_000  # bytes around the file in an upload
UPLOADS = 8  # at once
HEADERS = [
    (b"content-security-policy", b"frame-ancestors 'none'"),  # no site shows the page inside its own
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"x-content-type-options", b"nosniff"),
]
CLOSED = re.compile(r"/openapi\.json/?$")  # nobody needs to know
NAMED = re.compile(r"/(file|proxy|stream)[=/](.*)", re.DOTALL)  # routes that read what they are told


class Gate:
    """Middleware (ASGI) that refuses before the page itself sees a request."""

    def __init__(self, app: App, folder: Path, upload: int) -> None:
        self.app = app
        self.folder = folder.resolve()  # all that may be read
        self.upload = upload  # bytes
        self.uploads = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or answer with 4xx."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        send = _dressed(send)
        status = self._refused(scope)
        if not status and scope["method"] == "POST" and not _is_form(scope):
            body = await _whole(receive)
            status = 0 if self._harmless(body) else 403
            receive = _again(body, receive)
        if status:
            await _answer(send, status)
        elif _is_form(scope):
            await self._upload(scope, receive, send)
        else:
            await self._pass(scope, receive, send)

    async def _upload(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a picture in, where not too many come at once, and make room for it."""
        if self.uploads >= UPLOADS:
            await _answer(send, 503)
            return
        self.uploads += 1
        try:
            await asyncio.to_thread(make_room, self.folder, int(dict(scope["headers"])[b"content-length"]))
            await self._pass(scope, receive, send)
        finally:
            self.uploads -= 1

    async def _pass(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on; what fails there is one line in the log, and the server goes on."""
        try:
            await self.app(scope, receive, send)
        except asyncio.CancelledError:  # the server ends, and this page is still open
            with suppress(Exception):
                await send({"type": "http.response.body", "body": b""})
        except Exception as error:
            logging.getLogger("uvicorn.error").error(
                "%r: %s: %r", scope["path"], type(error).__name__, str(error)[:200]
            )

    def _refused(self, scope: Scope) -> int:
        """The status of a request that can be refused by its head; 0 lets it through."""
        if scope["type"] != "http" or scope["method"] not in ("GET", "HEAD", "POST"):
            return 405
        headers = dict(scope["headers"])
        host = headers.get(b"host", b"").decode("latin-1").lower()
        if _is_foreign(headers, host, scope["method"]):
            return 403
        if CLOSED.search(scope["path"]):
            return 404
        if scope["method"] == "POST":
            length = headers.get(b"content-length", b"")
            if not length.isdigit():
                return 411
            if int(length) > (self.upload + FORM if _is_form(scope) else WORDS):
                return 413
        named = NAMED.search(scope["path"])
        return 0 if named is None or (named[1] == "file" and self._is_ours(named[2])) else 403

    def _harmless(self, body: bytes) -> bool:
        """Whether every path in a body of JSON is ours: Gradio would open, or fetch, whatever is told there."""
        try:
            return all(self._is_ours(path) for path in _paths(json.loads(body or b"null")))
        except (ValueError, RecursionError):
            return False

    def _is_ours(self, path: Any) -> bool:
        try:
            return Path(path).resolve().is_relative_to(self.folder)
        except (TypeError, ValueError, OSError):  # no path at all
            return False


def _paths(value: Any) -> Iterator[Any]:
    """Everything that is called a path."""
    if isinstance(value, dict):
        if value.get("path") is not None:
            yield value["path"]
        value = list(value.values())
    if isinstance(value, list):
        for one in value:
            yield from _paths(one)


def _is_foreign(headers: dict[bytes, bytes], host: str, method: str) -> bool:
    """Whether a page of another site asks for more than to be left for this one."""
    site, origin = headers.get(b"sec-fetch-site"), headers.get(b"origin")
    if site is None:  # an old browser, a network without encryption, or no browser at all
        return origin is not None and _netloc(origin.decode("latin-1").lower()) != host
    followed = (headers.get(b"sec-fetch-mode"), headers.get(b"sec-fetch-dest")) == (b"navigate", b"document")
    return site not in (b"same-origin", b"none") and not (followed and method == "GET")


def _netloc(address: str) -> str | None:
    try:
        return urlsplit(address).netloc
    except ValueError:  # no address at all
        return None


def _dressed(send: Send) -> Send:
    """Add the headers that every answer bears; what Gradio cannot make sense of is no fault of the server."""

    async def dressed(event: MutableMapping[str, Any]) -> None:
        if event["type"] == "http.response.start":
            event["status"] = 400 if event["status"] == 500 else event["status"]
            event["headers"] = [*event.get("headers", ()), *HEADERS]
        await send(event)

    return dressed


def _is_form(scope: Scope) -> bool:
    kind: bytes = dict(scope["headers"]).get(b"content-type", b"")
    return kind.startswith(b"multipart/form-data") and scope["path"].rstrip("/").endswith("/upload")


async def _whole(receive: Receive) -> bytes:
    body, more = b"", True
    while more:
        event = await receive()
        body += event.get("body", b"")
        more = bool(event.get("more_body", False))
    return body


def _again(body: bytes, receive: Receive) -> Receive:
    """Hand out a body that was read already, then whatever comes."""
    waiting = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> MutableMapping[str, Any]:
        return waiting.pop() if waiting else await receive()

    return replay


async def _answer(send: Send, status: int) -> None:
    headers = [(b"content-type", b"text/plain"), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": b"refused"})
