"""Answers in batches, from one look, are those that `drop` and `dropping` give question by question."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import tiny
import torch

import herovlm
from herovlm.budget import Tokens
from herovlm.errors import TextTowerError, UnsupportedError
from herovlm.eval import plan
from herovlm.eval.answer import Reader, Row, chunks
from herovlm.methods.hero import Hero
from herovlm.prompt.template import prompt

QUESTIONS = ["what is it?", "is there a very red star in the corner?", "why?"]
METHODS = [
    *("random", "hero", "prumerge", "cdpruner", "hero(variant='official')", "hero + fastv(layer=1, keep=0.5)"),
    *("downsample", "trim", "mmtok", "mmtok(keywords=False, text_temperature=0.2)"),
]
PICTURE = tiny.picture(60, 31)


def reader(made: tiny.Tiny, **more: Any) -> Reader:
    return Reader(made.model, made.processor, max_new_tokens=5, **more)


def alone(made: tiny.Tiny, question: str, config: plan.Config) -> tuple[str, float, int]:
    """The answer to one question, asked as any user asks: text, positions, of how many."""
    inputs = made.processor(images=PICTURE, text=prompt(made.processor, question), return_tensors="pt")
    how = {"method": config.method, "keep": config.budget, "question": question, "processor": made.processor}
    positions = "original" if config.original else "compact"
    with herovlm.dropping(made.model, **how, positions=positions) as record:
        out = made.model.generate(**inputs, max_new_tokens=5, do_sample=False)
    assert record.last is not None
    text = made.processor.tokenizer.decode(out[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True).strip()
    kept = record.inside[0].mean if record.inside else record.last.kept[0].positions
    return text, round(kept, 1), record.last.seen[0].positions


@pytest.mark.parametrize("family", tiny.FAMILIES)
@pytest.mark.parametrize("original", [False, True])
def test_every_answer_is_that_of_the_question_alone(models: Callable[..., Any], family: str, original: bool) -> None:
    made = models(family)
    methods = [m for m in METHODS if not (original and ("official" in m or m == "downsample"))]
    configs = plan.configs(methods, [0.5, Tokens(7)], original)
    found = reader(made).answer(PICTURE, QUESTIONS, configs)
    assert found.refused == {}
    assert [(a.config, a.question) for a in found.answers] == [(c, q) for c in configs for q in range(3)]
    texts = set()
    for one in found.answers:
        assert (one.text, one.kept, one.of) == alone(made, QUESTIONS[one.question], one.config)
        assert one.select >= 0 < one.generate
        texts.add(one.text)
    assert len(texts) > len(QUESTIONS), "methods make a difference"


@pytest.mark.parametrize("batch", [1, 60, 150])
def test_small_batches_say_the_same(models: Callable[..., Any], batch: int) -> None:
    configs = plan.configs(METHODS, [0.5])
    wanted, found = (reader(models(), batch=b).answer(PICTURE, QUESTIONS, configs) for b in (100_000, batch))
    assert [(a.config, a.question, a.text) for a in found.answers] == [
        (a.config, a.question, a.text) for a in wanted.answers
    ]


def test_a_batch_is_bounded_with_its_padding() -> None:
    lengths = [5, 5, 9, 1, 1, 30, 2]
    rows: Any = [Row(*[None] * 3, length, 0.0) for length in lengths]  # type: ignore[arg-type]
    for most in range(1, 60):
        batches = [[row.length for row in batch] for batch in chunks(rows, most)]
        assert [length for batch in batches for length in batch] == lengths
        assert all(len(batch) == 1 or len(batch) * max(batch) <= most for batch in batches)
        for one, after in pairwise(batches):
            assert (len(one) + 1) * max(*one, after[0]) > most, "no batch is smaller than it must be"


def test_the_tower_looks_once(models: Callable[..., Any]) -> None:
    made, looks = models(), []
    hook = made.model.model.vision_tower.register_forward_pre_hook(lambda *_: looks.append(1))
    reader(made).answer(PICTURE, QUESTIONS, plan.configs(["random", "hero", "hero + fastv"], [0.5, 0.2]))
    hook.remove()
    assert len(looks) == 1


def test_who_cannot_is_noted_with_the_reason_and_the_others_answer(models: Callable[..., Any]) -> None:
    made = models()
    tight = "hero(variant='official', alpha=1)"
    configs = plan.configs(["random", tight, "fastv(layer=1)", "hero + fastv(layer=9)"], [Tokens(2)])
    found = reader(made).answer(PICTURE, QUESTIONS, configs)
    reasons = {str(config): why for config, why in found.refused.items()}
    for name, word in (
        (f"{tight}@2t", "keep"),
        ("fastv(layer=1)@2t", "on average"),
        ("hero + fastv(layer=9)@2t", "layer"),
    ):
        assert word in reasons.pop(name)
    assert reasons == {}
    assert {str(a.config) for a in found.answers} == {"full@1.0", "random@2t"}


def test_one_who_cannot_be_sent_does_not_stop_those_in_its_batch(models: Callable[..., Any]) -> None:
    configs = plan.configs(["hero(variant='official')", "random"], [0.5], original=True)
    found = reader(models()).answer(tiny.picture(100, 60), QUESTIONS, configs)
    assert {str(a.config) for a in found.answers} == {"full@1.0", "random@0.5:original"}
    assert ["canvas" in why for why in found.refused.values()] == [True]


@pytest.mark.parametrize("where", ["choose", "needs", "look", "generate"])
def test_any_error_of_one_method_is_a_cell_and_the_others_answer(
    models: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    made = models()
    configs = plan.configs(["random", "hero", "hero + fastv(layer=1, keep=0.5)"], [0.5])
    wanted = {(a.config, a.question): a.text for a in reader(made).answer(PICTURE, QUESTIONS, configs).answers}

    def fail(*_: Any, **__: Any) -> Any:
        raise RuntimeError("Input and output sizes should be greater than 0\nand more")

    if where in ("choose", "needs"):
        monkeypatch.setattr(Hero, where, fail)
    elif where == "look":  # nothing but HERO records the received attention of blocks
        monkeypatch.setattr("herovlm.towers.relevance.score", fail)
    else:
        monkeypatch.setattr("herovlm.llm.inside.Cutter.installed", fail)
    found = reader(made).answer(PICTURE, QUESTIONS, configs)
    lost = {str(config) for config in configs if ("fastv" if where == "generate" else "hero") in str(config)}
    assert {str(config) for config in found.failed} == lost
    assert {*found.failed.values()} == {"RuntimeError: Input and output sizes should be greater than 0"}
    assert found.refused == {}
    assert {(a.config, a.question): a.text for a in found.answers} == {
        key: text for key, text in wanted.items() if str(key[0]) not in lost
    }


def test_a_prompt_longer_than_the_model_reads(models: Callable[..., Any]) -> None:
    made = models()
    long = "why " * 505  # the untouched picture does not fit beside it, half of it does
    found = reader(made).answer(PICTURE, [long], plan.configs(["random"], [Tokens(4)]))
    assert [str(config) for config in found.refused] == ["full@1.0"]
    assert "2,048" in next(iter(found.refused.values()))
    assert [str(a.config) for a in found.answers] == ["random@4t"]


def test_no_clip_ends_the_run(models: Callable[..., Any]) -> None:
    made = tiny.make(seed=5)
    herovlm.towers.relevance._found.pop(made.model)
    with pytest.raises(TextTowerError):
        reader(made).answer(PICTURE, QUESTIONS, plan.configs(["random", "hero"], [0.5]))


def test_nothing_is_left_behind(models: Callable[..., Any]) -> None:
    made = models()
    inputs = made.processor(images=PICTURE, text=prompt(made.processor, "what?"), return_tensors="pt")
    before = made.model.generate(**inputs, max_new_tokens=5, do_sample=False)
    reader(made).answer(PICTURE, QUESTIONS, plan.configs(["hero + fastv(layer=1, keep=0.5)"], [0.3]))
    assert torch.equal(made.model.generate(**inputs, max_new_tokens=5, do_sample=False), before)
    assert made.processor.tokenizer.padding_side == "left"


def test_a_plan_has_the_full_model_once_and_first() -> None:
    configs = plan.configs(["random", "full", "full + fastv", "random(seed=0)", "hero"], [0.5, Tokens(3)])
    assert [str(c) for c in configs] == [
        "full@1.0", "random@0.5", "random@3t", "full + fastv@1.0", "hero@0.5", "hero@3t"
    ]  # fmt: skip
    for one in [*configs, *plan.configs(["hero(alpha=0.3)"], [0.2], original=True)]:
        assert plan.config(str(one)) == one
    (full,) = plan.configs(["full"], [0.5], original=True)
    assert not full.original
    with pytest.raises(UnsupportedError):
        plan.configs(["pyramiddrop(positions='code')"], [0.5], original=True)
