"""Every command on a model of every family, from its folder: it runs, spends its budget, and draws what was kept."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import tiny
import tiny_models
from PIL import Image
from saved import Cli

import herovlm
from herovlm import registry
from herovlm.app import cards
from herovlm.app.desk import Desk
from herovlm.cli import models
from herovlm.cli.session import Session
from herovlm.errors import ModelError, UnsupportedError
from herovlm.study import run

KINDS = {where: kind for kind, where in registry.FAMILIES.items() if kind in tiny_models.here()}  # twins once
BY_FILE = [
    *{where.partition(":")[0]: kind for where, kind in reversed(KINDS.items())}.values()
]  # one of each file of families/
DRAWN = {"llava", "llava_next", "internvl", "qwen2_5_vl"}  # one tile, tiles and overview, tiles alone, windows
QUESTION = "What is it?"


@pytest.fixture(params=KINDS.values())
def made(request: pytest.FixtureRequest) -> tiny_models.Made:
    """A tiny model of a family."""
    return tiny_models.load(request.param)


def read(result: Any) -> Any:
    """Stdout is JSON and nothing else."""
    assert result.exit_code == 0, result.stderr + str(result.exception)
    return json.loads(result.stdout)


def family_of(made: tiny_models.Made) -> Any:
    return registry.family(made.model)


def test_ask(cli: Cli, made: tiny_models.Made, photo: Path) -> None:
    words = ("--model", made.folder, "--method", "uniform", "--keep", 0.5, "--max-new-tokens", 3, "--json")
    (asked,) = read(cli("ask", photo, QUESTION, *words))["questions"]
    (answer,) = asked["answers"]
    assert answer["positions"] == round(0.5 * answer["of"])
    assert answer["first_token_seconds"] > 0


@pytest.mark.parametrize("made", [kind for kind in BY_FILE if kind not in ("llava", "llava_next")], indirect=True)
def test_ask_with_a_method_that_the_tower_cannot_feed(cli: Cli, made: tiny_models.Made, photo: Path) -> None:
    """What is written instead is told, and works."""
    spelled = models.offered(made.model)
    missing = [name for name in ("hero", "cls_topk") if spelled.get(name) != name]
    assert missing
    for name in missing:
        words = ("--model", made.folder, "--max-new-tokens", 1, "--method")
        refused = cli("ask", photo, QUESTION, *words, name)
        assert refused.exit_code == 2
        assert "methods that work there" in refused.stderr
        if name in spelled:
            assert f"write '{spelled[name]}'" in refused.stderr
            assert cli("ask", photo, QUESTION, *words, spelled[name]).exit_code == 0


def test_compare_draws_a_page(cli: Cli, made: tiny_models.Made, photo: Path, tmp_path: Path) -> None:
    words = ("--model", made.folder, "--methods", "uniform,divprune", "--keep", 0.3, "--max-new-tokens", 2)
    page = tmp_path / "page.html"
    (asked,) = read(cli("compare", photo, QUESTION, *words, "--html", page, "--json"))["questions"]
    assert [answer["method"] for answer in asked["answers"]] == ["uniform", "divprune"]
    assert page.read_text("utf-8").count("<svg") + page.read_text("utf-8").count("<img") >= 3


@pytest.mark.parametrize("made", BY_FILE, indirect=True)
def test_bench(cli: Cli, made: tiny_models.Made) -> None:
    words = ("--model", made.folder, "--methods", "uniform", "--keep", "1,0.3", "--new-tokens", "1", "--rounds", 1)
    found = read(cli("bench", *words, "--batch", "1,2", "--json"))["batches"]
    for batch in found:
        assert {row["keep"] for row in batch["rows"]} == {1.0, 0.3}
        for row in batch["rows"]:
            assert row["seconds"]["answer 1"]["median"] > 0
            assert row["theory"]["cache"] == row["theory"]["cache_held"] > 0
        all_of_it, less = (row["theory"] for row in batch["rows"])
        assert less["positions"] == round(0.3 * less["of"]) < all_of_it["positions"] == less["of"]
        assert 0 < less["vision"] == all_of_it["vision"]
        assert 0 < less["prefill"] < all_of_it["prefill"]
    one, two = (batch["rows"][0]["theory"] for batch in found)
    for what in ("decode", "cache"):
        assert two[what] == 2 * one[what], what
    assert (
        two["vision"] >= 2 * one["vision"]
    )  # a tower that packs pictures works through pairs of several, and masks them


@pytest.mark.parametrize("made", BY_FILE, indirect=True)
def test_eval(cli: Cli, made: tiny_models.Made, tmp_path: Path) -> None:
    """Two pictures of a task of one's own, one of them with two questions, are answered as `ask` answers."""
    folder, rows = tmp_path / "task", []
    folder.mkdir()
    for number, question in enumerate((QUESTION, "And where on earth is it?", QUESTION)):
        name = f"{number % 2}.png"
        tiny.picture(90 - 30 * (number % 2), 70).save(folder / name)
        rows.append({"id": str(number), "image": name, "question": question, "answer": "it"})
    (folder / "task.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    out = tmp_path / "run"
    words = ("--methods", "uniform", "--keep", 0.5, "--metric", "exact_match", "--out", out, "--model", made.folder)
    done = cli("eval", "--task", folder / "task.jsonl", *words, "--max-new-tokens", 4, "--json")
    (table,) = read(done)["tables"]
    assert (table["refused"], table["failed"], table["unusable"]) == ({}, {}, {})
    lines = [json.loads(line) for path in out.glob("*.jsonl") for line in path.read_text("utf-8").splitlines()]
    found = {line["sample"]: line for line in lines if line.get("method") == "uniform"}
    for row in rows:
        how = ("--model", made.folder, "--method", "uniform", "--keep", 0.5, "--max-new-tokens", 4, "--json")
        (asked,) = read(cli("ask", folder / row["image"], row["question"], *how))["questions"]
        assert found[row["id"]]["kept"] == asked["answers"][0]["positions"]
        assert found[row["id"]]["answer"] == asked["answers"][0]["answer"]


def test_eval_with_positions_that_the_language_model_cannot_read(made: tiny_models.Made) -> None:
    family = family_of(made)
    for places in {"compact", "original"} - {*family.positions}:
        with pytest.raises(UnsupportedError, match=f"positions='{places}' with {family.name}"):
            herovlm.drop(made.model, made.inputs([[tiny.picture(60, 31)]]), method="uniform", positions=places)


def test_show_saves_a_picture(made: tiny_models.Made, tmp_path: Path) -> None:
    picture = tiny.picture(100, 80)
    short = herovlm.drop(made.model, made.inputs([[picture]]), method="divprune", keep=0.3)
    shown = herovlm.show(short, picture)
    (plate,) = shown.plates
    assert (plate.figure.thumbnail is None) is not short.seen[0].grid.overview
    if made.name.startswith("qwen"):
        (panel,) = plate.figure.panels
        assert bool(panel.valid.all()), "a window that is not full is drawn as large as it is"
    assert sum(label.kept for label in plate.figure.labels) == int(short.kept[0].mask.sum())
    with Image.open(shown.save(tmp_path / "kept.png", width=3.3, dpi=50)) as drawn:
        assert len(drawn.convert("L").getcolors(256 * 256) or []) > 20
    assert shown.save(tmp_path / "kept.html").read_text("utf-8").count("<svg") >= 2


@pytest.mark.parametrize("made", [kind for kind in KINDS.values() if kind in DRAWN], indirect=True)
def test_the_page_answers_by_whatever_works_there(
    made: tiny_models.Made, photo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("herovlm.cli.session.RUNS", 1)
    session = Session(made.model, made.processor, made.name)
    desk = Desk(session, tuple(models.offered(made.model).values()), None)
    chosen = [desk.methods[0], "uniform"]
    picture, asked = desk.ask(str(photo), "photo.png", QUESTION, chosen, 30)
    assert [answer.method for answer in asked.answers] == ["full", *chosen], asked.refused
    seen = asked.answers[0].views[0][0]
    drawn = cards.cards(picture, asked, session.fit)
    panels = bool(any(seen.grid.tiles)) + seen.grid.overview
    assert drawn.count("<img") == 3 * panels
    assert ("as a whole, small" in drawn) is (panels == 2)


def test_the_study_says_what_it_lacks(made: tiny_models.Made) -> None:
    family = family_of(made)
    if {"attention", "cls", "relevance"} <= family.offers(made.model) and family.overviews:
        run.check(made.model, (1, 2, 3))
        return
    with pytest.raises(ModelError, match=f"{family.name} has no .*herovlm eval"):
        run.check(made.model, (1, 2, 3))
