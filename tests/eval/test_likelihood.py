from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from herovlm.demo import load, scenes
from herovlm.errors import InputsError, UnsupportedError
from herovlm.eval.answer import Reader
from herovlm.eval.likelihood import answer_ids, forced, judge
from herovlm.eval.plan import Config, config
from herovlm.prompt.template import prompt

CONFIGS = [config(told) for told in ("full@1.0", "hero@0.1", "random@0.2", "hero@0.2:original")]


@pytest.fixture(scope="module")
def reader() -> Reader:
    return Reader(*load(), max_new_tokens=8)


def about(seed: int) -> tuple[Any, list[str], list[str]]:
    scene = scenes.make(seed)
    return scene.image, [q.text for q in scene.questions], [q.answer for q in scene.questions]


@pytest.mark.parametrize("seed", [scenes.SPLITS["development"][n] for n in (0, 3)])
def test_an_answer_is_right_exactly_when_it_would_be_generated(reader: Reader, seed: int) -> None:
    image, questions, answers = about(seed)
    said = {(a.config, a.question): a.text for a in reader.answer(image, questions, CONFIGS).answers}
    judged = judge(reader, image, questions, answers, CONFIGS)
    assert {(j.config, j.question) for j in judged} == set(said)
    assert {(j.config, j.question): j.right for j in judged} == {
        (one, n): text == answers[n] for (one, n), text in said.items()
    }
    assert len({j.right for j in judged}) == 2


def test_batches_do_not_change_the_likelihood(reader: Reader) -> None:
    image, questions, answers = about(scenes.SPLITS["development"][1])

    def logs(how: Reader, configs: list[Config]) -> dict[tuple[Config, int], float]:
        return {(j.config, j.question): j.log for j in judge(how, image, questions, answers, configs)}

    together, alone = logs(reader, CONFIGS), logs(replace(reader, batch=1), CONFIGS)
    assert together == pytest.approx(alone, abs=1e-4)
    assert all(log < 0 for log in together.values())


def test_the_likelihood_is_the_product_over_the_tokens(reader: Reader) -> None:
    image, questions, answers = about(scenes.SPLITS["development"][2])
    (whole,) = judge(reader, image, questions[:1], answers[:1], CONFIGS[:1])
    inputs = reader.processor(images=image, text=prompt(reader.processor, questions[0]), return_tensors="pt")
    ids, log = inputs["input_ids"], 0.0
    end = reader.processor.tokenizer.eos_token_id
    pixels = {name: inputs[name] for name in ("pixel_values", "image_sizes")}
    for token in [*answer_ids(reader, questions[0], answers[0]), end]:
        with torch.no_grad():
            log += float(reader.model(input_ids=ids, **pixels).logits[0, -1].log_softmax(-1)[token])
        ids = torch.cat([ids, torch.tensor([[token]])], 1)
    assert whole.log == pytest.approx(log, abs=1e-4)


def test_what_cannot_be_judged_is_refused(reader: Reader) -> None:
    image, questions, answers = about(scenes.SPLITS["development"][0])
    with pytest.raises(UnsupportedError, match="inside the language model"):
        judge(reader, image, questions, answers, [config("hero + fastv@0.2")])
    right = {"input_ids": torch.ones(1, 3, dtype=torch.int64), "attention_mask": torch.tensor([[1, 1, 0]])}
    with pytest.raises(InputsError, match="on the left"):
        forced(reader.model, right, [[5]], 3)


def test_the_beginning_of_the_answer_is_not_the_answer(reader: Reader) -> None:
    image, questions, answers = about(scenes.SPLITS["development"][0])
    fine = next(n for n, answer in enumerate(answers) if answer.isdigit() and len(answer) == 3)
    asked = [questions[fine]] * 2
    whole, cut = judge(reader, image, asked, [answers[fine], answers[fine][:2]], CONFIGS[:1])
    assert whole.right
    assert not cut.right
    assert cut.log < whole.log
