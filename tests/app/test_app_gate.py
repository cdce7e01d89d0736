"""The gate lets the page's own requests through, and nothing that names a file of someone else."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from herovlm.app import gate
from herovlm.app.gate import FORM, WORDS, Gate

UPLOAD = 1000
FORMS = {"content-type": "multipart/form-data; boundary=x", "content-length": "10"}


def through(folder: Path, path: str, body: bytes | None = None, **how: Any) -> tuple[int, bytes]:
    """The status of a request, 200 from behind the gate, and the body that arrived there."""
    sent, arrived = answered(folder, path, body, **how)
    return sent[0]["status"], arrived


def answered(
    folder: Path,
    path: str,
    body: bytes | None = None,
    method: str = "",
    page: Any = None,
    **headers: str,
) -> tuple[list[Any], bytes]:
    """All that is sent, and the body that arrived behind the gate."""
    arrived = b""
    heads = {"host": "127.0.0.1:80", "content-length": str(len(body or b"")), **headers}
    scope = {
        "type": "http",
        "method": method or ("GET" if body is None else "POST"),
        "path": path,
        "headers": [(name.replace("_", "-").encode(), value.encode()) for name, value in heads.items() if value],
    }
    half = len(body or b"") // 2
    parts = [{"type": "http.request", "body": (body or b"")[:half], "more_body": True}]
    parts.append({"type": "http.request", "body": (body or b"")[half:], "more_body": False})
    sent: list[Any] = []

    async def receive() -> Any:
        return parts.pop(0)

    async def send(event: Any) -> None:
        sent.append(event)

    async def behind(_: Any, receive: Any, send: Any) -> None:
        nonlocal arrived
        event = await receive()
        arrived += event["body"]
        while event.get("more_body"):
            event = await receive()
            arrived += event["body"]
        await send({"type": "http.response.start", "status": 200, "headers": []})

    asyncio.run(Gate(page or behind, folder, UPLOAD)(scope, receive, send))
    return sent, arrived


def asking(*paths: object) -> bytes:
    files = [{"path": path, "meta": {"_type": "gradio.FileData"}} for path in paths]
    return json.dumps({"data": [*files, {"deep": [files]}, "why?", None, 20], "fn_index": 0}).encode()


@pytest.mark.parametrize("path", ["/", "/config", "/assets/index.js", "/gradio_api/queue/data", "/theme.css"])
def test_plain_requests_pass(tmp_path: Path, path: str) -> None:
    assert through(tmp_path, path) == (200, b"")


def test_own_files_pass_and_their_request_arrives_whole(tmp_path: Path) -> None:
    mine = str(tmp_path / "a" / "b.png")
    assert through(tmp_path, f"/gradio_api/file={mine}")[0] == 200
    assert through(tmp_path, "/gradio_api/queue/join", asking(mine, None)) == (200, asking(mine, None))
    assert through(tmp_path, "/gradio_api/reset", b"") == (200, b"")


@pytest.mark.parametrize(
    "path",
    [
        "/etc/passwd",
        "{}/../x",
        "{}-other/x",
        "http://example.com/x.png",
        "HTTPS://example.com",
        "x.png",
        "~/x",
        "\0",
        "",
    ],
)
def test_files_of_others_are_refused_wherever_they_are_named(tmp_path: Path, path: str) -> None:
    path = path.format(tmp_path)
    for route in ("/gradio_api/file=", "/gradio_api/file/", "/file="):
        assert through(tmp_path, route + path)[0] == 403
    mine = str(tmp_path / "a.png")
    assert through(tmp_path, "/gradio_api/queue/join", asking(mine, path))[0] == 403
    assert through(tmp_path, "/gradio_api/call/x/", asking(path))[0] == 403


def test_a_link_out_of_the_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/etc")
    assert through(tmp_path, f"/gradio_api/file={tmp_path}/link/passwd")[0] == 403


@pytest.mark.parametrize("path", [7, ["a"], {"path": 1}])
def test_a_path_that_is_none_is_refused(tmp_path: Path, path: object) -> None:
    assert through(tmp_path, "/gradio_api/queue/join", asking(path))[0] == 403


@pytest.mark.parametrize("path", ["/gradio_api/proxy=http://example.com", "/gradio_api/stream/x"])
def test_other_ways_to_a_file_are_closed(tmp_path: Path, path: str) -> None:
    assert through(tmp_path, path)[0] == 403


@pytest.mark.parametrize("body", [b"{", b"[" * 100_000, b"\xff", b"path=/etc/passwd"])
def test_a_body_that_cannot_be_read_is_refused(tmp_path: Path, body: bytes) -> None:
    assert through(tmp_path, "/gradio_api/queue/join", body)[0] == 403


def test_the_escape_of_a_letter_hides_nothing(tmp_path: Path) -> None:
    body = b'{"data": [{"p\\u0061th": "\\u002fetc/passwd"}]}'
    assert through(tmp_path, "/gradio_api/queue/join", body)[0] == 403


def test_only_an_upload_may_be_long(tmp_path: Path) -> None:
    def status(path: str, length: int | str, **more: str) -> int:
        return through(tmp_path, path, b"{}", **{**more, "content-length": str(length)})[0]

    assert status("/gradio_api/upload", UPLOAD + FORM, **{"content-type": FORMS["content-type"]}) == 200
    assert status("/gradio_api/upload", UPLOAD + FORM + 1, **{"content-type": FORMS["content-type"]}) == 413
    assert status("/gradio_api/queue/join", WORDS) == 200
    assert status("/gradio_api/queue/join", WORDS + 1) == 413
    for unknown in ("", "many", "-1"):
        assert status("/gradio_api/queue/join", unknown) == 411


def test_a_form_elsewhere_is_read_as_words_are(tmp_path: Path) -> None:
    assert through(tmp_path, "/gradio_api/queue/join", b"--x", **FORMS)[0] == 403
    assert through(tmp_path, "/gradio_api/upload", b"--x", **FORMS) == (200, b"--x")


@pytest.mark.parametrize("method", ["PUT", "DELETE", "OPTIONS", "TRACE"])
def test_other_methods_are_refused(tmp_path: Path, method: str) -> None:
    assert through(tmp_path, "/", method=method)[0] == 405


SITES = {
    "an old browser": ({}, 200),
    "the page itself": ({"sec-fetch-site": "same-origin", "origin": "https://proxy.example"}, 200),
    "the address bar": ({"sec-fetch-site": "none"}, 200),
    "the page itself, old": ({"origin": "http://127.0.0.1:80"}, 200),
    "another port": ({"origin": "http://127.0.0.1:81"}, 403),
    "another port, new": ({"sec-fetch-site": "same-site"}, 403),
    "another site": ({"origin": "https://evil.example"}, 403),
    "nobody": ({"origin": "null"}, 403),
    "no address at all": ({"origin": "http://["}, 403),
    "another site, opaque": ({"sec-fetch-site": "cross-site", "sec-fetch-mode": "no-cors"}, 403),
    "inside another site": (
        {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "iframe"},
        403,
    ),
}


@pytest.mark.parametrize(("headers", "status"), SITES.values(), ids=SITES)
def test_pages_of_other_sites_may_neither_ask_nor_put_in(tmp_path: Path, headers: dict[str, str], status: int) -> None:
    assert through(tmp_path, "/config", **headers)[0] == status
    assert through(tmp_path, "/gradio_api/queue/join", b"{}", **headers)[0] == status
    assert through(tmp_path, "/gradio_api/upload", b"--x", **FORMS, **headers)[0] == status


def test_a_link_of_another_site_opens_the_page_and_a_form_of_it_does_not(tmp_path: Path) -> None:
    link = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}
    assert through(tmp_path, "/", **link)[0] == 200
    assert through(tmp_path, "/gradio_api/upload", b"--x", **FORMS, **link)[0] == 403


def test_no_site_may_show_the_page_inside_its_own(tmp_path: Path) -> None:
    for path, method in (("/", ""), ("/gradio_api/proxy=x", ""), ("/", "PUT")):
        sent = answered(tmp_path, path, method=method)[0]
        assert (b"content-security-policy", b"frame-ancestors 'none'") in sent[0]["headers"]


@pytest.mark.parametrize("path", ["/openapi.json", "/gradio_api/openapi.json", "/gradio_api/openapi.json/"])
def test_the_interface_is_not_described(tmp_path: Path, path: str) -> None:
    assert through(tmp_path, path)[0] == 404


def test_an_upload_makes_room_for_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []
    monkeypatch.setattr(gate, "make_room", lambda *given: asked.append(given))
    through(tmp_path, "/gradio_api/queue/join", b"{}")
    assert asked == []
    assert through(tmp_path, "/gradio_api/upload", b"--x", **FORMS)[0] == 200
    assert asked == [(tmp_path, 10)]


def test_only_so_many_pictures_come_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gate, "UPLOADS", 0)
    assert through(tmp_path, "/gradio_api/upload", b"--x", **FORMS)[0] == 503
    assert through(tmp_path, "/gradio_api/queue/join", b"{}")[0] == 200


def test_what_fails_behind_the_gate_is_one_line_and_ends_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def broken(_: Any, __: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 500, "headers": []})
        raise RuntimeError("no \x1b[31m such session")

    sent, _ = answered(tmp_path, "/gradio_api/queue/data", page=broken)
    assert sent[0]["status"] == 400
    (line,) = caplog.messages
    assert "RuntimeError" in line
    assert "\x1b" not in line
    assert caplog.records[0].exc_info is None


def test_a_stream_that_the_end_of_the_server_breaks_off_is_closed(tmp_path: Path) -> None:
    async def endless(_: Any, __: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise asyncio.CancelledError

    sent, _ = answered(tmp_path, "/gradio_api/queue/data", page=endless)
    assert [event["type"] for event in sent] == ["http.response.start", "http.response.body"]
