"""A calibration measures what keep="auto" goes by, goes on where it was, and serves the model that it names."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny
from hypothesis import given
from hypothesis import strategies as st
from saved import Cli

import herovlm
from herovlm import auto
from herovlm.cli.load import load
from herovlm.eval import calibrate
from herovlm.prompt.template import prompt


@pytest.fixture
def questions(tmp_path: Path) -> Path:
    lines = []
    for n, (width, height) in enumerate([(100, 80), (60, 31)]):
        tiny.picture(width, height, n).save(tmp_path / f"{n}.png")
        lines.append({"image": f"{n}.png", "question": "what?", "answers": ["no", "yes"]})
    path = tmp_path / "mine.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def words(folder: Path, questions: Path, *more: object) -> list[object]:
    what = ["--task", questions, "--metric", "vqa_accuracy", "--max-new-tokens", 1, "--methods", "random"]
    return ["calibrate", folder, *what, *more]


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever is said is right, so that the untouched model scores something."""
    monkeypatch.setattr("herovlm.eval.metrics.METRICS", {"vqa_accuracy": _right()})


def _right() -> Any:
    from dataclasses import replace

    from herovlm.eval import metrics

    return replace(metrics.find("vqa_accuracy"), score=lambda answer, wanted: 1.0)


@pytest.mark.usefixtures("answers")
def test_what_it_writes_is_what_auto_reads(cli: Cli, folder: Path, questions: Path, tmp_path: Path) -> None:
    result = cli(*words(folder, questions, "--json"))
    assert result.exit_code == 0, result.stderr
    found = json.loads(result.stdout)
    assert Path(found["file"]) == folder / auto.FILE
    try:
        assert found["curves"].keys() == {"random"} == found["measured"].keys()
        assert found["measured"]["random"]["task"]["name"] == "mine"
        model, processor = load(str(folder))
        inputs = processor(images=tiny.picture(60, 31), text=prompt(processor, "what?"), return_tensors="pt")
        short = herovlm.drop(model, inputs, method="random", keep="auto(loss=0.1)")
        assert short.kept[0].positions == auto.calibrated(_auto(0.1), model, "random").spend(short.seen[0])
        again = cli(*words(folder, questions, "--json"))
        assert again.stdout == result.stdout, "nothing is asked twice"
        table = cli(*words(folder, questions)).stdout
        assert "Fewer than 20 pictures" in table
        assert str(folder / auto.FILE) in table.replace("\n", "")
    finally:
        (folder / auto.FILE).unlink()


def _auto(loss: float) -> Any:
    return herovlm.budget.Auto(loss)


@pytest.mark.usefixtures("answers")
def test_other_methods_are_added_and_another_model_is_not_overwritten(
    cli: Cli, folder: Path, questions: Path, tmp_path: Path
) -> None:
    file = tmp_path / "mine.json"
    assert cli(*words(folder, questions, "--file", file)).exit_code == 0
    more = ("--methods", "thumbnail", "--out", "other", "--file", file)
    assert cli(*words(folder, questions, *more)).exit_code == 0
    assert set(auto.load(file)["curves"]) == {"random", "thumbnail"}
    told = auto.load(file)
    told["model"]["weights"] = {"another.weight": [1.0]}
    file.write_text(json.dumps(told))
    result = cli(*words(folder, questions, "--file", file))
    assert result.exit_code == 2
    assert "another model" in result.stderr


@pytest.mark.usefixtures("answers")
def test_a_broken_picture_is_a_line_and_is_asked_about_when_it_is_mended(
    cli: Cli, folder: Path, questions: Path, tmp_path: Path
) -> None:
    file, good = tmp_path / "mine.json", (tmp_path / "0.png").read_bytes()
    (tmp_path / "0.png").write_bytes(good[:100])
    result = cli(*words(folder, questions, "--file", file))
    assert result.exit_code == 3
    assert "0.png is broken or cut off" in result.stderr
    assert "1 question about 1 picture of mine" in result.stdout
    measured = json.loads(file.read_text("utf-8"))["measured"]["random"]
    assert (measured["pictures"], [*measured["unusable"]]) == (1, ["0.png"])
    (tmp_path / "0.png").write_bytes(good)
    result = cli(*words(folder, questions, "--file", file))
    assert result.exit_code == 0, result.stderr
    assert "2 questions about 2 pictures of mine" in result.stdout
    assert json.loads(file.read_text("utf-8"))["measured"]["random"]["unusable"] == {}


def test_a_task_without_a_whole_picture(cli: Cli, folder: Path, questions: Path, tmp_path: Path) -> None:
    for name in ("0.png", "1.png"):
        (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:100])
    result = cli(*words(folder, questions, "--file", tmp_path / "a.json"))
    assert (result.exit_code, result.stdout) == (2, "")
    assert "nothing could be measured: 0.png" in result.stderr
    assert not (tmp_path / "a.json").exists()


def test_a_task_that_the_model_cannot_do_is_refused(cli: Cli, folder: Path, questions: Path, tmp_path: Path) -> None:
    lines = questions.read_text().replace('"no", "yes"', '"never said"')
    questions.write_text(lines)
    result = cli(*words(folder, questions, "--file", tmp_path / "a.json"))
    assert (result.exit_code, result.stdout) == (2, "")
    assert "scores 0 on mine" in result.stderr
    assert not (tmp_path / "a.json").exists()


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (("--methods", "heroo"), "did you mean 'hero'"),
        (("--file", "."), "cannot be written"),
        (("--file", "questions.png/a.json"), "cannot be written"),
        (("--split", "test"), "no split 'test'"),
        (("--threads", 100_000), "--threads 100000 is more than this machine can use"),
    ],
)
def test_wrong_use_is_told_before_any_work(
    cli: Cli, folder: Path, questions: Path, tmp_path: Path, more: tuple[str, ...], says: str
) -> None:
    (tmp_path / "questions.png").write_text("x")
    result = cli(*words(folder, questions, *more))
    assert (result.exit_code, result.stdout) == (2, "")
    assert says in result.stderr


@given(st.dictionaries(st.sampled_from(calibrate.EACH), st.floats(-0.5, 1), min_size=1))
def test_a_curve_rises_and_promises_no_less_than_was_lost(upper: dict[float, float]) -> None:
    curve = calibrate.curve_of(upper)
    assert auto._falls(curve)
    assert [each for _, each in curve] == sorted(upper, reverse=True)
    assert all(loss >= round(upper[each], 4) for loss, each in curve)


def test_a_loss_is_the_share_of_the_full_score() -> None:
    full, half = np.ones((30, 1)), np.tile([[1.0], [0.0]], (15, 1))
    point = calibrate.lost(half, full, lambda sums: sums[..., 0])
    assert point["loss"] == 0.5
    assert point["interval95"][0] < 0.5 < point["interval95"][1]
    assert calibrate.lost(full, full, lambda sums: sums[..., 0]) == {"loss": 0.0, "interval95": [0.0, 0.0]}
