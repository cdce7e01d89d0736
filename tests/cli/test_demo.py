"""`herovlm demo` needs no arguments; here with a tiny random model in the place of the shipped one."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import tiny
from saved import Cli

from herovlm.demo import scenes


@pytest.fixture(autouse=True)
def shipped(models: Callable[..., tiny.Tiny], monkeypatch: pytest.MonkeyPatch) -> None:
    """Ship a tiny model."""
    made = models("llava_next")
    monkeypatch.setattr("herovlm.demo.load", lambda: (made.model, made.processor))


def test_it_asks_all_questions_twice_and_writes_one_page(cli: Cli, tmp_path: Path) -> None:
    result = cli("demo", "--seed", 3, "--max-new-tokens", 2, "--json")
    assert result.exit_code == 0, result.stderr
    report = json.loads(result.stdout)
    scene = scenes.make(3)
    assert report["seed"] == 3
    assert report["html"] == "herovlm-demo.html"
    assert [x.name for x in tmp_path.iterdir()] == ["herovlm-demo.html"]
    assert [(x["question"], x["truth"], x["kind"]) for x in report["questions"]] == [
        (q.text, q.answer, q.kind) for q in scene.questions
    ]
    for asked in report["questions"]:
        full, hero = asked["answers"]
        assert (full["method"], hero["method"], hero["keep"]) == ("full", "hero", 0.2)
        assert full["positions"] == full["of"]
        assert hero["positions"] == round(0.2 * hero["of"])
        assert isinstance(full["right"], bool)
        assert hero["cache_bytes"] < full["cache_bytes"]


def test_the_table_says_what_the_page_says(cli: Cli, tmp_path: Path) -> None:
    result = cli("demo", "--html", "my.html", "--max-new-tokens", 2)
    assert result.exit_code == 0, result.stderr
    page = (tmp_path / "my.html").read_text()
    for question in scenes.make(0).questions:
        assert question.text.split()[-1] in result.stdout
        assert question.text in page
    assert ", beside full: first token " in result.stdout
    assert "once" in result.stdout
    for column in ("question", "method", "answer", "visual positions", "first token", "whole answer", "KV cache"):
        assert column in result.stdout
    assert "wrong" in result.stdout
    assert result.stdout.rstrip().endswith("page: my.html")
