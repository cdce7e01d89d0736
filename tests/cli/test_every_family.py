"""Every command on a model of every family, from its folder: it runs, spends its budget, and draws what was kept."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import tiny
import tiny_models
from saved import Cli

from herovlm import registry

KINDS = [kind for kind in tiny_models.here() if kind in registry.FAMILIES]
QUESTION = "What is it?"


@pytest.fixture(params=KINDS)
def made(request: pytest.FixtureRequest) -> tiny_models.Made:
    """A tiny model of a family."""
    return tiny_models.load(request.param)


def read(result: Any) -> Any:
    """Stdout is JSON and nothing else."""
    assert result.exit_code == 0, result.stderr + str(result.exception)
    return json.loads(result.stdout)


def test_ask(cli: Cli, made: tiny_models.Made, photo: Path) -> None:
    words = ("--model", made.folder, "--method", "uniform", "--keep", 0.5, "--max-new-tokens", 3, "--json")
    (asked,) = read(cli("ask", photo, QUESTION, *words))["questions"]
    (answer,) = asked["answers"]
    assert answer["positions"] == round(0.5 * answer["of"])
    assert answer["first_token_seconds"] > 0


def test_compare_draws_a_page(cli: Cli, made: tiny_models.Made, photo: Path, tmp_path: Path) -> None:
    words = ("--model", made.folder, "--methods", "uniform,divprune", "--keep", 0.3, "--max-new-tokens", 2)
    page = tmp_path / "page.html"
    (asked,) = read(cli("compare", photo, QUESTION, *words, "--html", page, "--json"))["questions"]
    assert [answer["method"] for answer in asked["answers"]] == ["uniform", "divprune"]
    assert page.read_text("utf-8").count("<svg") + page.read_text("utf-8").count("<img") >= 3


def test_bench(cli: Cli, made: tiny_models.Made) -> None:
    words = ("--model", made.folder, "--methods", "uniform", "--keep", "1,0.3", "--new-tokens", "1", "--rounds", 1)
    (batch,) = read(cli("bench", *words, "--json"))["batches"]
    assert {row["keep"] for row in batch["rows"]} == {1.0, 0.3}
    for row in batch["rows"]:
        assert row["seconds"]["answer 1"]["median"] > 0
        assert row["theory"]["cache"] == row["theory"]["cache_held"]


def test_eval(cli: Cli, made: tiny_models.Made, tmp_path: Path) -> None:
    """Two pictures of a task of one's own."""
    folder = tmp_path / "task"
    folder.mkdir()
    rows = []
    for number in range(2):
        tiny.picture(90 - 30 * number, 70).save(folder / f"{number}.png")
        rows.append({"id": str(number), "image": f"{number}.png", "question": QUESTION, "answer": "it"})
    (folder / "task.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    words = ("--methods", "uniform", "--keep", 0.5, "--metric", "exact_match", "--out", tmp_path / "run", "--model", made.folder)
    done = cli("eval", "--task", folder / "task.jsonl", *words)
    assert done.exit_code == 0, done.stderr
    assert "uniform" in done.stdout
