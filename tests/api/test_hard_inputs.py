"""Prompts, precisions and devices that no processor makes and callers do: the right answer, or one clear error."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
import tiny
import torch

import herovlm
from herovlm import Request, registry

PROMPT = "USER: <image>\nWhich? ASSISTANT:"


def inputs_of(small: tiny.Tiny, count: int = 1) -> dict[str, Any]:
    return dict(small.inputs([[tiny.picture(60, 31, seed)] for seed in range(count)], [PROMPT] * count))


def split(small: tiny.Tiny, inputs: dict[str, Any]) -> dict[str, Any]:
    """Put two words between the placeholders of one image."""
    (ids,) = inputs["input_ids"].tolist()
    at = ids.index(small.model.config.image_token_id) + 10
    made = torch.tensor([[*ids[:at], 65, 66, *ids[at:]]])
    return {**inputs, "input_ids": made, "attention_mask": torch.ones_like(made)}


def hidden(small: tiny.Tiny, inputs: dict[str, Any]) -> dict[str, Any]:
    """Hide some of an image's positions."""
    mask = inputs["attention_mask"].clone()
    mask[0, (inputs["input_ids"][0] == small.model.config.image_token_id).nonzero()[5:20, 0]] = 0
    return {**inputs, "attention_mask": mask}


@pytest.mark.parametrize("make", [split, hidden])
@pytest.mark.parametrize("positions", ["compact", "original"])
@torch.no_grad()
def test_columns_of_one_image_that_differ_are_told_apart(models: Any, make: Any, positions: Any) -> None:
    small = models("llava_next")
    inputs = make(small, inputs_of(small))
    short = herovlm.drop(small.model, inputs, method="hero(alpha=1)", keep=0.3, positions=positions)
    stay = short.columns[0]
    assert torch.equal(short["input_ids"][0], inputs["input_ids"][0, stay])
    assert torch.equal(short["attention_mask"][0], inputs["attention_mask"][0, stay])
    if positions == "original":
        mask = torch.zeros_like(inputs["attention_mask"])
        mask[0, stay] = inputs["attention_mask"][0, stay]
        numbers = (inputs["attention_mask"].cumsum(-1) - 1).clamp(min=0)
        want = small.model(**{**inputs, "attention_mask": mask}, position_ids=numbers).logits[0, -1]
        torch.testing.assert_close(small.model(**short).logits[0, -1], want, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("budgets", [[12, 40], [40, 12], [12, 12]])
def test_one_picture_made_smaller_by_two_budgets(models: Any, budgets: list[int]) -> None:
    small = models("llava_next")
    once, twice = inputs_of(small), dict(small.inputs([[tiny.picture(60, 31)]] * 2, [PROMPT] * 2))
    request = Request.of("downsample", tokens=budgets, processor=small.processor)
    view = herovlm.see(small.model, once, Request.of("downsample", tokens=12, processor=small.processor))
    under = view.under(twice["input_ids"], twice["attention_mask"], [0, 0]).drop(request)
    want = herovlm.drop(small.model, twice, method="downsample", tokens=budgets, processor=small.processor)
    assert [k.positions for k in under.kept] == [k.positions for k in want.kept]
    assert all(k.positions <= budget for k, budget in zip(under.kept, budgets, strict=True))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_what_is_kept_hangs_on_no_default_dtype(models: Any, dtype: torch.dtype) -> None:
    small = models("llava_next")
    inputs = inputs_of(small)
    for name in registry.METHODS:
        how: Any = {"method": name, "keep": 0.3, "processor": small.processor}
        want = herovlm.drop(small.model, inputs, **how).kept[0]
        torch.set_default_dtype(dtype)
        try:
            got = herovlm.drop(small.model, inputs, **how).kept[0]
        finally:
            torch.set_default_dtype(torch.float32)
        assert torch.equal(got.mask, want.mask), name


def test_every_method_chooses_under_autocast(models: Any) -> None:
    small = models("llava_next")
    inputs = inputs_of(small, 2)
    for name in registry.METHODS:
        with torch.autocast("cpu", torch.bfloat16):
            short = herovlm.drop(small.model, inputs, method=name, keep=0.3, processor=small.processor)
        assert len(short.kept) == 2, name


def test_a_tower_may_be_converted_without_its_clip() -> None:
    small = tiny.make("llava_next")
    small.model.to(torch.bfloat16)  # the CLIP shares the tower and keeps its own projection
    inputs = inputs_of(small)
    inputs["pixel_values"] = inputs["pixel_values"].to(torch.bfloat16)
    assert herovlm.drop(small.model, inputs, keep=0.3, processor=small.processor).kept[0].positions > 0


def test_a_short_prompt_can_be_sent_to_another_process(models: Any) -> None:
    small = models("llava_next")
    short = herovlm.drop(small.model, inputs_of(small), method="hero(alpha=1)", keep=0.3)
    again = pickle.loads(pickle.dumps(short))
    assert torch.equal(again["input_ids"], short["input_ids"])
    assert torch.equal(again.columns[0], short.columns[0])
    assert torch.equal(again.origin.patch, short.origin.patch)
