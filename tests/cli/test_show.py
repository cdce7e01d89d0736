"""What is printed can be read by a person, a terminal and a program."""

from __future__ import annotations

import io
import itertools

import pytest

from herovlm.cli import show


def test_a_terminal_is_given_no_orders(capsys: pytest.CaptureFixture[str]) -> None:
    show.table(["a", ""], [["\x1b[31mred\x07 [bold]x[/bold]", "wrong"]])
    printed = capsys.readouterr().out
    assert "\x1b" not in printed
    assert "\x07" not in printed
    assert "[bold]x[/bold]" in printed
    assert "red" in printed


def test_without_a_terminal_progress_is_a_line_now_and_then(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = itertools.count(0, 1.5)
    monkeypatch.setattr("time.monotonic", lambda: next(clock))
    with show.progress(4) as step:
        for name in ("one", "two", "three", "four"):
            step(name)
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.splitlines() == ["two ...", "four ..."]


def test_in_a_terminal_progress_is_a_bar_that_goes_away(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = io.StringIO()
    monkeypatch.setattr("sys.stderr", screen)
    monkeypatch.setenv("FORCE_COLOR", "1")
    with show.progress(2) as step:
        step("loading [x]")
        step("asking")
    assert "asking" in screen.getvalue()
    assert screen.getvalue().endswith("\x1b[2K")
