"""`herovlm ask` gives what the library gives, and says what it cost."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
import torch
from PIL import Image
from saved import Cli, save

import herovlm
from herovlm.budget import Tokens
from herovlm.cli.load import load

QUESTION = "what is it?"


def read(result: Any) -> dict[str, Any]:
    """Stdout is JSON and nothing else."""
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


def by_hand(
    folder: Path, pictures: list[Path], keep: Any, method: str = "hero", **more: Any
) -> tuple[str, herovlm.Short]:
    """The same answer from the public API."""
    model, processor = load(str(folder))
    text = f"USER: {'<image>' * len(pictures)}\n{QUESTION} ASSISTANT:"
    inputs = processor(images=[Image.open(path) for path in pictures], text=[text], return_tensors="pt")
    short = herovlm.drop(model, inputs, method=method, keep=keep, question=QUESTION, **more)
    out = model.generate(**short, max_new_tokens=6, do_sample=False)
    new = out[0, short["input_ids"].shape[1] :]
    return processor.tokenizer.decode(new, skip_special_tokens=True).strip(), short


@pytest.mark.parametrize(
    ("typed", "keep"), [("--keep=0.3", 0.3), ("--tokens=25", Tokens(25)), ("--keep=1.0", 1.0), ("--keep=1", 1.0)]
)
def test_the_answer_and_the_numbers_are_those_of_the_library(
    cli: Cli, folder: Path, photo: Path, typed: str, keep: Any
) -> None:
    words = ("ask", photo, QUESTION, "--model", folder, typed, "--max-new-tokens", 6, "--json")
    (asked,) = read(cli(*words))["questions"]
    (answer,) = asked["answers"]
    text, short = by_hand(folder, [photo], keep)
    (seen,), (kept,) = short.seen, short.kept
    assert (asked["question"], answer["answer"]) == (QUESTION, text)
    assert (answer["positions"], answer["of"]) == (kept.positions, seen.positions)
    assert answer["pictures"][0]["granted"] == kept.granted.tolist()
    layers, heads, channels = 2, 2, 32 // 4
    assert answer["cache_bytes"] == 2 * layers * heads * channels * 4 * short["input_ids"].shape[1]
    stages = [answer[f"{stage}_seconds"] for stage in ("vision", "choosing", "prefill")]
    assert min(stages) > 0
    assert answer["answer_seconds"] > answer["first_token_seconds"] == pytest.approx(sum(stages))


@pytest.mark.parametrize(
    ("asked", "keep"), [((), 0.2), (("--keep", "1,0.3"), [1.0, 0.3]), (("--tokens", "5,9"), Tokens((5, 9)))]
)
def test_several_pictures_are_one_prompt(
    cli: Cli, folder: Path, photo: Path, tmp_path: Path, asked: tuple[str, ...], keep: Any
) -> None:
    second = tmp_path / "second.png"
    tiny.picture(30, 90, seed=1).save(second)
    words = ("ask", photo, second, QUESTION, "--model", folder, "--max-new-tokens", 6, "--json", "--html", "a.html")
    report = read(cli(*words, *asked))
    (answer,) = report["questions"][0]["answers"]
    text, short = by_hand(folder, [photo, second], keep)
    assert answer["answer"] == text
    assert [x["granted"] for x in answer["pictures"]] == [kept.granted.tolist() for kept in short.kept]
    assert [x["name"] for x in report["pictures"]] == ["photo.png", "second.png"]
    assert answer["positions"] == sum(kept.positions for kept in short.kept)
    page = (tmp_path / "a.html").read_text()
    assert report["html"] == "a.html"
    assert "photo.png" in page
    assert "second.png" in page


def test_without_json_stdout_is_the_answer_alone(cli: Cli, folder: Path, photo: Path, tmp_path: Path) -> None:
    words = ("ask", photo, QUESTION, "--model", folder, "--method", "full", "--max-new-tokens", 6, "--html", "a.html")
    result = cli(*words)
    text, short = by_hand(folder, [photo], 1.0)
    assert (result.exit_code, result.stdout) == (0, "".join(c if c.isprintable() else " " for c in text) + "\n")
    positions = short.seen[0].positions
    assert f"full: {positions} of {positions} visual positions (100 %)" in result.stderr
    assert "page: a.html" in result.stderr
    assert (tmp_path / "a.html").exists()


def test_a_model_with_one_tile_works_too(cli: Cli, photo: Path, tmp_path: Path) -> None:
    folder = save(tiny.make("llava"), tmp_path / "llava")
    words = ("ask", photo, QUESTION, "--model", folder, "--keep", "0.5", "--json", "--html", "a.html")
    (answer,) = read(cli(*words))["questions"][0]["answers"]
    assert (answer["positions"], answer["of"], answer["pictures"][0]["tiles"]) == (8, 16, [0, 0])


def pictures(folder: Path) -> dict[str, Path]:
    """Pictures that people really have."""
    base = tiny.picture(90, 70)
    exif = Image.Exif()
    exif[0x0112] = 6
    wide = Image.fromarray(np.linspace(0, 65535, 90 * 70).reshape(70, 90).astype("uint16"))
    base.save(folder / "turned.jpg", exif=exif)
    base.convert("RGBA").save(folder / "alpha.png")
    wide.save(folder / "deep.png")
    base.convert("CMYK").save(folder / "print.jpg")
    base.save(folder / "moving.gif", save_all=True, append_images=[tiny.picture(90, 70, seed=1)])
    Image.new("RGB", (1, 1), "red").save(folder / "dot.png")
    Image.new("RGB", (20_000, 20), "red").save(folder / "line.png")
    Image.new("RGB", (20, 20_000), "red").save(folder / "pole.png")
    return {path.stem: path for path in folder.iterdir()}


@pytest.mark.parametrize("name", ["turned", "alpha", "deep", "print", "moving", "dot", "line", "pole"])
def test_odd_pictures_are_answered_and_drawn(cli: Cli, folder: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / "in").mkdir()
    path = pictures(tmp_path / "in")[name]
    words = ("ask", path, QUESTION, "--model", folder, "--keep", "0.5", "--max-new-tokens", 2, "--json")
    report = read(cli(*words, "--html", "a.html"))
    (answer,) = report["questions"][0]["answers"]
    assert answer["positions"] == round(0.5 * answer["of"])
    size = report["pictures"][0]["size"]
    assert size == {"turned": [70, 90], "dot": [1, 1], "line": [20_000, 20], "pole": [20, 20_000]}.get(name, [90, 70])
    assert (tmp_path / "a.html").stat().st_size > 1000


def test_a_long_question_is_cut_for_the_tiles_but_not_for_the_model(cli: Cli, folder: Path, photo: Path) -> None:
    words = ("ask", photo, "and why? " * 100, "--model", folder, "--max-new-tokens", 2, "--json")
    assert read(cli(*words))["questions"][0]["question"].count("why") == 100


def test_seeing_is_done_in_the_precision_of_the_model(folder: Path) -> None:
    model, _ = load(str(folder))
    assert model.dtype == torch.float32
    assert not model.training


def test_a_narrowed_tower_is_that_of_the_library_and_is_named(cli: Cli, folder: Path, photo: Path) -> None:
    words = ("ask", photo, QUESTION, "--model", folder, "--keep", "0.3", "--max-new-tokens", 6, "--json")
    report = read(cli(*words, "--narrow", "1:0.5"))
    (answer,) = report["questions"][0]["answers"]
    text, short = by_hand(folder, [photo], 0.3, narrow=(1, 0.5))
    assert short.seen[0].through is not None
    assert (answer["answer"], answer["positions"]) == (text, short.kept[0].positions)
    assert answer["pictures"][0]["granted"] == short.kept[0].granted.tolist()
    assert "narrowed: (1, 0.5)" in report["model"]
