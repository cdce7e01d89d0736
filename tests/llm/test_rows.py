"""The last row of attention, read while sdpa runs, is the one that eager attention returns."""

from __future__ import annotations

import pytest
import torch

import herovlm
from herovlm import demo
from herovlm.demo import scenes
from herovlm.errors import UnsupportedError
from herovlm.llm.rows import last_rows
from herovlm.prompt.template import prompt
from herovlm.seams.hooks import Hook


@pytest.fixture(scope="module")
def ready():
    model, processor = demo.load()
    boards = [scenes.make(seed) for seed in (3, 4)]
    text = [prompt(processor, "Is there a red star?"), prompt(processor, "How many are there of it, tell me?")]
    how = {"padding": True, "padding_side": "left", "return_tensors": "pt"}
    inputs = processor(images=[[board.image] for board in boards], text=text, **how)
    return model, herovlm.drop(model, inputs, method="hero", keep=0.1, question="red star")


def clean(model) -> bool:
    """Whether no hook of ours is left; transformers leaves its own."""
    left = [hook for m in model.modules() for hook in (*m._forward_hooks.values(), *m._forward_pre_hooks.values())]
    return not any(isinstance(hook, Hook) for hook in left)


@torch.no_grad()
def test_rows_are_those_of_eager_attention_with_padding(ready) -> None:
    model, short = ready
    real = short["attention_mask"] != 0
    assert not real.all(), "one of the prompts is padded"
    with last_rows(model, real) as found:
        model(**short)
    assert clean(model)
    model.set_attn_implementation("eager")
    try:
        wanted = model(**short, output_attentions=True).attentions
    finally:
        model.set_attn_implementation("sdpa")
    assert len(found) == len(wanted)
    for row, maps in zip(found, wanted, strict=True):
        assert torch.allclose(row, maps[:, :, -1].mean(1), atol=1e-5)


def test_queries_may_share_keys(models) -> None:
    made = models("llava_next", text="qwen2")
    attention = made.model.model.language_model.layers[0].self_attn
    assert attention.num_key_value_groups > 1
    ids = torch.arange(5, 12)[None]
    with last_rows(made.model, ids > 0) as found, torch.no_grad():
        made.model(input_ids=ids)
    made.model.set_attn_implementation("eager")
    try:
        with torch.no_grad():
            wanted = made.model(input_ids=ids, output_attentions=True).attentions
    finally:
        made.model.set_attn_implementation("sdpa")
    assert all(torch.allclose(a, b[:, :, -1].mean(1), atol=1e-5) for a, b in zip(found, wanted, strict=True))


def test_another_prompt_is_refused_and_nothing_stays(ready) -> None:
    model, short = ready
    other = torch.ones(2, 3, dtype=torch.bool)
    with torch.no_grad(), pytest.raises(UnsupportedError, match="0 of 6"), last_rows(model, other):
        model(**short)
    with pytest.raises(RuntimeError, match="stop"), last_rows(model, other):
        raise RuntimeError("stop")
    assert clean(model)
