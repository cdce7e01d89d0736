"""`herovlm compare`: one line and one drawing for every method and budget."""

from __future__ import annotations

import json
from pathlib import Path

from saved import Cli

QUESTION = "what is it?"


def test_every_method_meets_every_budget(cli: Cli, folder: Path, photo: Path, tmp_path: Path) -> None:
    words = ("compare", photo, QUESTION, "--model", folder, "--max-new-tokens", 3, "--html", "a.html")
    plan = ("--methods", "full,hero(alpha=1),random(seed=2)", "--keep", "0.5,20")
    report = json.loads(cli(*words, *plan, "--json").stdout)
    answers = report["questions"][0]["answers"]
    assert [(a["method"], a["keep"]) for a in answers] == [
        ("full", 1.0),
        ("hero(alpha=1)", 0.5),
        ("hero(alpha=1)", 20),
        ("random(seed=2)", 0.5),
        ("random(seed=2)", 20),
    ]
    of = answers[0]["of"]
    assert [a["positions"] for a in answers] == [of, round(of / 2), 20, round(of / 2), 20]
    sizes = [a["cache_bytes"] for a in answers]
    assert sizes[0] > sizes[1] == sizes[3] > sizes[2] == sizes[4]
    page = (tmp_path / "a.html").read_text()
    assert page.count("<figure") == 5
    assert "random(seed=2), keep 20" in page
    printed = cli(*words, *plan).stdout
    for answer in answers:
        assert answer["method"] in printed
        assert f" {answer['positions']} " in printed
    assert printed.rstrip().endswith("page: a.html")
