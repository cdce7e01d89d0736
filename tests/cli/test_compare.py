"""`herovlm compare`: one line and one drawing for every method and budget."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from saved import Cli

from herovlm import registry
from herovlm.strategy import Answered

QUESTION = "what is it?"


def test_every_method_meets_every_budget(cli: Cli, folder: Path, photo: Path, tmp_path: Path) -> None:
    words = ("compare", photo, QUESTION, "--model", folder, "--max-new-tokens", 3, "--html", "a.html")
    plan = ("--methods", "full,hero(alpha=1),random(seed=2)", "--keep", "0.5", "--tokens", "20")
    report = json.loads(cli(*words, *plan, "--json").stdout)
    answers = report["questions"][0]["answers"]
    assert [(a["method"], a["keep"]) for a in answers] == [
        ("full", 1.0),
        ("hero(alpha=1)", 0.5),
        ("hero(alpha=1)", "20t"),
        ("random(seed=2)", 0.5),
        ("random(seed=2)", "20t"),
    ]
    of = answers[0]["of"]
    assert [a["positions"] for a in answers] == [of, round(of / 2), 20, round(of / 2), 20]
    sizes = [a["cache_bytes"] for a in answers]
    assert sizes[0] > sizes[1] == sizes[3] > sizes[2] == sizes[4]
    page = (tmp_path / "a.html").read_text()
    assert page.count("<figure") == 5
    assert "random(seed=2), tokens 20" in page
    printed = cli(*words, *plan).stdout
    for answer in answers:
        assert answer["method"] in printed
        assert f" {answer['positions']} " in printed
    assert printed.rstrip().endswith("page: a.html")


def test_all_is_every_method_and_full_comes_first(
    cli: Cli, folder: Path, photo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("herovlm.registry.METHODS", {k: registry.METHODS[k] for k in ("todre", "full", "pool")})
    monkeypatch.setattr("herovlm.registry.INSIDE", {k: registry.INSIDE[k] for k in ("todre_llm",)})
    words = ("compare", photo, QUESTION, "--model", folder, "--max-new-tokens", 1, "--json")
    (asked,) = json.loads(cli(*words, "--methods", "all, pool, todre(scope='tile')").stdout)["questions"]
    named = ["full", "todre", "pool", "todre + todre_llm", "todre(scope='tile')"]
    assert [a["method"] for a in asked["answers"]] == named


def test_a_method_that_cannot_answer_has_a_row_that_says_why(
    cli: Cli, folder: Path, photo: Path, tmp_path: Path
) -> None:
    strict = "hero(variant='official', alpha=1)"
    words = ("compare", photo, QUESTION, "--model", folder, "--max-new-tokens", 1, "--html", "a.html")
    plan = ("--methods", f"full,{strict},random", "--keep", "0.001")
    (asked,) = json.loads(cli(*words, *plan, "--json").stdout)["questions"]
    assert [a["method"] for a in asked["answers"]] == ["full", "random"]
    (refused,) = asked["refused"]
    assert (refused["method"], refused["keep"]) == ("hero(variant='official', alpha=1)", 0.001)
    assert "keep" in refused["error"]
    result = cli(*words, *plan)
    assert result.exit_code == 0
    assert "cannot:" in result.stdout
    assert f"<td>{strict.replace(chr(39), '&#39;')}, keep 0.001</td>" in (tmp_path / "a.html").read_text()


def test_a_method_that_breaks_has_a_row_and_an_exit_status(
    cli: Cli, folder: Path, photo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("sizes should be greater than 0")

    monkeypatch.setattr("herovlm.methods.random.Random.choose", fail)
    words = ("compare", photo, QUESTION, "--model", folder, "--max-new-tokens", 1, "--methods", "full,random,pool")
    result = cli(*words, "--json", "--html", "a.html")
    assert result.exit_code == 3
    assert "random, keep 0.2: RuntimeError: sizes should" in result.stderr
    (asked,) = json.loads(result.stdout)["questions"]
    assert [a["method"] for a in asked["answers"]] == ["full", "pool"]
    (lost,) = asked["refused"]
    assert (lost["method"], lost["failed"]) == ("random", True)
    assert "FAILED: RuntimeError" in cli(*words).stdout
    assert "RuntimeError" in (photo.parent / "a.html").read_text()


def test_when_no_method_can_answer_the_command_fails_as_one_question_does(
    cli: Cli, folder: Path, photo: Path, tmp_path: Path
) -> None:
    words = ("compare", photo, QUESTION, "--model", folder, "--html", "a.html", "--keep", "0.001")
    result = cli(*words, "--methods", "hero(variant='official', alpha=1)")
    assert (result.exit_code, result.stdout) == (2, "")
    assert not (tmp_path / "a.html").exists()


def test_the_right_answer_is_looked_for_in_every_answer(
    cli: Cli, folder: Path, photo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def said(_: object, choice: Any, short: Any, __: int, clock: Any, ___: object) -> tuple[Answered, str, list[Any]]:
        found = Answered(torch.zeros(1, 0), (1.0,))
        return found, f"I read {len(choice.kept)}.", [clock.start() for _ in range(3)]

    monkeypatch.setattr("herovlm.cli.session.Session._generate", said)
    words = ("compare", photo, QUESTION, "--model", folder, "--methods", "full,random")
    for answer, verdict in (("1", True), ("2", False)):
        (asked,) = json.loads(cli(*words, "--answer", answer, "--json").stdout)["questions"]
        assert asked["truth"] == answer
        assert [a["right"] for a in asked["answers"]] == [verdict, verdict]
    assert "wrong" in cli(*words, "--answer", "2").stdout
    assert "right" not in cli(*words).stdout
    assert cli(*words, "--answer", " . ").exit_code == 2
