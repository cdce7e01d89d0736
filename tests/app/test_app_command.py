"""`herovlm app` explains itself, and says at once what is wrong."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from herovlm.app import folder, serve
from herovlm.cli import options
from herovlm.cli.main import app
from herovlm.cli.methods import described


def run(*words: str) -> tuple[int, str, str]:
    done = CliRunner().invoke(app, ["app", *words])
    return done.exit_code, done.stdout, done.stderr


def test_it_explains_itself_and_cannot_be_shared() -> None:
    code, text, _ = run("--help")
    plain = re.sub(r"\x1b\[[\d;]*m", "", text)
    assert code == 0
    assert {"--model", "--host", "--port", "--study", "--seconds"} <= set(re.findall(r"--[a-z]+", plain))
    assert "127.0.0.1" in plain
    assert run("--share")[0] == 2


@pytest.mark.parametrize("words", [("--port", "70000"), ("--seconds", "0"), ("--study", "none.html"), ("--study", ".")])
def test_wrong_use_ends_with_two(words: tuple[str, str]) -> None:
    code, out, errors = run(*words)
    assert (code, out) == (2, "")
    assert words[0] in errors


def test_without_the_extra_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gradio", None)
    code, _, errors = run()
    assert code == 1
    assert "the extra 'app': pip install" in errors


def test_a_port_that_is_taken_is_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folder, "require", lambda *_, **__: None)
    for name in ("GRADIO_TEMP_DIR", "GRADIO_ANALYTICS_ENABLED", "GRADIO_MCP_SERVER"):
        monkeypatch.setenv(name, "before")
    with serve.bound("127.0.0.1", 0) as sock:
        port = sock.getsockname()[1]
        code, out, errors = run("--port", str(port))
    assert (code, out) == (1, "")
    assert errors.count("\n") == 1
    assert f"port {port}" in errors


def test_a_page_to_link_to_may_lie_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gradio", None)
    (tmp_path / "study.html").write_text("found")
    assert "--study" not in run("--study", str(tmp_path / "study.html"))[2]


def test_every_method_is_described() -> None:
    rows = {name: (what, paper) for name, what, paper in described()}
    assert {"hero", "random", "hero + fastv"} <= set(rows) == set(options.every())
    assert all(what.endswith(".") for what, _ in rows.values())
    assert rows["hero"][1] == "2509.13067"
