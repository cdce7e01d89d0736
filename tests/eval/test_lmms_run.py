"""lmms-eval itself runs the demo model on a task of its own form, through its command line."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import lmms_task
import pytest
from lmms_home import needs_lmms_eval, python
from tree import WEIGHTS, need_demo_model

HERO = ("hero(t_cls=0.1, t_clip=0.01)", 0.05)  # few enough that answers differ from the plain model's

pytestmark = needs_lmms_eval
Run = Callable[[str, str], dict[str, Any]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    need_demo_model()
    place = tmp_path_factory.mktemp("lmms")
    lmms_task.write(place / "task")
    return place


@pytest.fixture(scope="module")
def alone(folder: Path) -> list[list[dict[str, Any]]]:
    """Answers without lmms-eval: `herovlm.drop`, and the plain model."""
    script = Path(__file__).parent / "lmms_alone.py"
    found: list[list[dict[str, Any]]] = json.loads(
        python(script, folder / "task", WEIGHTS, json.dumps([HERO, None]), folder=folder)
    )
    return found


@pytest.fixture(scope="module")
def run(folder: Path) -> Run:
    """Run the task as a user does: model id, `--model_args` -> the result file, and its samples in order."""

    @cache
    def lmms_eval(model: str, model_args: str) -> dict[str, Any]:
        out = folder / re.sub(r"\W+", "_", model_args[-40:])
        options = {"--model": model, "--model_args": f"pretrained={WEIGHTS},{model_args}", "--tasks": lmms_task.NAME}
        options |= {"--include_path": str(folder / "task"), "--batch_size": "4", "--device": "cpu"}
        words = [word for option in options.items() for word in option]
        said = python("-m", "lmms_eval", *words, "--output_path", out, "--log_samples", folder=folder)
        results = list(out.rglob("*_results.json"))
        assert results, said  # after an error lmms-eval ends with exit code 0 all the same
        texts = [path.read_text("utf-8") for path in out.rglob("*_samples_*.jsonl")]
        samples = [json.loads(line) for text in texts for line in text.splitlines()]
        samples.sort(key=lambda sample: int(sample["doc_id"]))
        return {**json.loads(results[0].read_text("utf-8")), "samples": samples}

    return lmms_eval


def answers(result: dict[str, Any]) -> list[str]:
    return [str(sample["filtered_resps"]) for sample in result["samples"]]


def accuracy(docs: list[dict[str, Any]], texts: list[str]) -> float:
    return sum(text.lower() == doc["answer"] for doc, text in zip(docs, texts, strict=True)) / len(docs)


def test_hero_answers_as_drop_does(run: Run, alone: Any, folder: Path) -> None:
    result = run("herovlm", f"method={HERO[0]},keep={HERO[1]}")
    dropped, plain = ([one["text"] for one in ones] for ones in alone)
    assert answers(result) == dropped
    assert dropped != plain, "keep is too high for this test to see a difference"
    assert [sample["token_counts"][0]["input_tokens"] for sample in result["samples"]] == [a["read"] for a in alone[0]]
    docs = [json.loads(line) for line in (folder / "task/docs.jsonl").read_text("utf-8").splitlines()]
    assert result["results"]["boards"]["accuracy,none"] == pytest.approx(accuracy(docs, dropped))


def test_a_share_of_one_is_the_plain_model(run: Run, alone: Any) -> None:
    result = run("herovlm_llava_next", 'method="full",keep=1.0')
    assert answers(result) == [one["text"] for one in alone[1]]
    assert [sample["token_counts"][0]["input_tokens"] for sample in result["samples"]] == [a["read"] for a in alone[1]]


def test_the_result_file_says_what_was_sent(run: Run, alone: Any) -> None:
    hero = run("herovlm", f"method={HERO[0]},keep={HERO[1]}")["throughput"]
    full = run("herovlm_llava_next", 'method="full",keep=1.0')["throughput"]
    assert hero["avg_visual_positions"] == full["avg_visual_positions"] == full["avg_visual_positions_kept"]
    assert hero["avg_visual_positions_kept"] == pytest.approx(HERO[1] * hero["avg_visual_positions"], abs=0.5)
    removed = sum(plain["read"] - short["read"] for short, plain in zip(*alone, strict=True))
    each = hero["avg_visual_positions"] - hero["avg_visual_positions_kept"]
    assert each * hero["avg_pictures"] == pytest.approx(removed)
