"""drop(narrow=...): budgets are those of the untouched model, and only patches that went through are kept."""

from __future__ import annotations

from typing import Any

import pytest
import tiny
import torch

import herovlm
from herovlm import BudgetError, UnsupportedError, UsageError, registry
from herovlm.budget import Share

EXACT = [name for name in registry.METHODS if registry.method(name)().exact]
NARROW = (0.34, 0.5)  # behind block 1 of 4; features come from block 2


def batch(small: tiny.Tiny) -> Any:
    pictures = [[tiny.picture(20, 60), tiny.picture(33, 33, 1)], [tiny.picture(60, 31)], []]
    texts = ["USER: <image> or <image>\nWhich? ASSISTANT:", "USER: <image>\nWhat is it? ASSISTANT:", "USER: Hi"]
    return small.inputs(pictures, texts)


@pytest.mark.parametrize("spec", EXACT)
@pytest.mark.parametrize("family", tiny.FAMILIES)
def test_every_method_spends_the_budget_among_the_survivors(models: Any, family: str, spec: str) -> None:
    small = models(family)
    how = {"method": spec, "keep": 0.3, "processor": small.processor}
    short = herovlm.drop(small.model, batch(small), narrow=NARROW, **how)
    plain = herovlm.drop(small.model, batch(small), **how)
    for mine, kept, other in zip(short.seen, short.kept, plain.seen, strict=True):
        assert torch.equal(mine.valid, other.valid)
        assert kept.positions == Share(0.3).of(other.positions)
        assert not (kept.mask & ~mine.through).any()
    assert short["input_ids"].shape == plain["input_ids"].shape
    assert torch.isfinite(small.model(**short).logits).all()


@pytest.mark.parametrize("spec", ["hero", "random", "pool"])
@pytest.mark.parametrize("how", [{"narrow": 1.0}, {"narrow": (0.34, 1)}])
def test_all_of_them_is_no_narrowing(models: Any, spec: str, how: Any) -> None:
    small = models("llava_next")
    rest = {"method": spec, "keep": 0.3, "processor": small.processor}
    mine, other = (
        herovlm.drop(small.model, batch(small), **rest, **how),
        herovlm.drop(small.model, batch(small), **rest),
    )
    assert mine.seen[0].through is None
    assert torch.equal(mine["input_ids"], other["input_ids"])
    assert torch.equal(small.model(**mine).logits, small.model(**other).logits)


@pytest.mark.parametrize("how", [{"keep": 1.0}, {"keep": 0.1, "method": "full"}])
def test_the_untouched_model_stays_untouched(models: Any, how: Any) -> None:
    small = models("llava_next")
    inputs = batch(small)
    short = herovlm.drop(small.model, inputs, narrow=NARROW, **how)
    assert torch.equal(short["input_ids"], inputs["input_ids"])
    assert torch.equal(small.model(**short).logits, small.model(**inputs).logits)


@pytest.mark.parametrize("positions", ["compact", "original"])
@pytest.mark.parametrize("spec", ["uniform", "random + fastv(layer=1, keep=0.5)"])
def test_generating_is_the_same_by_both_ways_in(models: Any, positions: Any, spec: str) -> None:
    small = models("llava_next")
    inputs = batch(small)
    how = {"method": spec, "keep": 0.3, "positions": positions, "narrow": NARROW}
    greedy = {"max_new_tokens": 5, "do_sample": False}
    with herovlm.dropping(small.model, **how) as record:
        got = small.model.generate(**inputs, **greedy)
    assert record.last is not None
    assert record.last.seen[0].through is not None
    assert torch.equal(got[:, : inputs["input_ids"].shape[1]], inputs["input_ids"])
    if "+" not in spec:
        short = herovlm.drop(small.model, inputs, **how)
        new = small.model.generate(**short, **greedy)[:, short["input_ids"].shape[1] :]
        assert torch.equal(got[:, inputs["input_ids"].shape[1] :], new)


def test_a_batch_is_its_prompts(models: Any) -> None:
    small = models("llava_next")
    how = {"keep": 0.3, "question": "What is it?", "narrow": NARROW}
    together = herovlm.drop(small.model, batch(small), **how).kept[2]
    one = small.inputs([[tiny.picture(60, 31)]], ["USER: <image>\nWhat is it? ASSISTANT:"])
    alone = herovlm.drop(small.model, one, **how).kept[0]
    assert torch.equal(together.mask, alone.mask)


def test_more_than_went_through_is_an_error_that_says_how_many(models: Any) -> None:
    small = models("llava_next")
    inputs = small.inputs([[tiny.picture(33, 33)]], ["<image> a"])
    left = herovlm.drop(small.model, inputs, method="random", keep=0.1, narrow=NARROW).seen[0]
    room = int(left.through.sum()) + int(left.grid.sent.sum())
    kept = herovlm.drop(small.model, inputs, method="random", tokens=room, narrow=NARROW).kept[0]
    assert torch.equal(kept.mask, left.through)
    with pytest.raises(BudgetError, match=rf"{room + 1} of {left.positions} .* tower: {room},"):
        herovlm.drop(small.model, inputs, method="random", tokens=room + 1, narrow=NARROW)


@pytest.mark.parametrize("narrow", [0, -0.5, 1.5, "0.5", (0.5,), (0.5, 0.5, 0.5), True, (0.5, True), (0.5, 0)])
def test_nonsense_is_an_error(models: Any, narrow: Any) -> None:
    small = models("llava")
    with pytest.raises(UsageError, match="narrow="):
        herovlm.drop(small.model, batch(small), narrow=narrow)


def test_a_block_that_is_not_there_is_an_error(models: Any) -> None:
    small = models("llava")
    for block in (9, 10**400, -(10**400)):
        with pytest.raises(herovlm.HeroError, match="4 blocks"):
            herovlm.drop(small.model, batch(small), method="random", narrow=(block, 0.5))


def test_alone_inside_the_language_model_there_is_nothing_to_narrow(models: Any) -> None:
    small = models("llava")
    with (
        pytest.raises(UnsupportedError, match="sent everything"),
        herovlm.dropping(small.model, method="fastv", keep=0.5, narrow=0.5),
    ):
        pass
