"""Pruning inside an unmodified model equals the model with the pruned columns hidden, layer by layer."""

from __future__ import annotations

from typing import Any

import pytest
import reference
import tiny
import torch

import herovlm
from herovlm import api

LAYERS = 5
GREEDY = {"max_new_tokens": 6, "do_sample": False}
SPECS = [
    "fastv(layer=2, keep=0.4)",
    "full + pyramiddrop",
    "vitcop(layer=2) + vitcop_llm",
    "hero(alpha=1) + todre_llm(threshold=1.0)",
    "uniform + sparsevlm",
]
TEXTS = [("llama", "sdpa"), ("mistral", "sdpa"), ("qwen2", "sdpa"), ("llama", "eager")]


@pytest.fixture
def small(models: Any) -> tiny.Tiny:
    return models(layers=LAYERS)


def one(small: tiny.Tiny) -> Any:
    return small.inputs([[tiny.picture(60, 31)]], ["USER: <image>\nWhat is this? ASSISTANT:"])


def batch(small: tiny.Tiny) -> Any:
    """Three prompts of different lengths: two images, one, none."""
    pictures = [[tiny.picture(20, 60), tiny.picture(33, 33, 1)], [tiny.picture(60, 31)], []]
    texts = ["USER: <image> or <image>\nWhich? ASSISTANT:", "USER: <image>\nWhat is it? ASSISTANT:", "USER: Hi"]
    return small.inputs(pictures, texts)


@pytest.mark.parametrize("inputs_of", [one, batch])
@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize(("text", "attention"), TEXTS)
def test_equals_the_reference(
    models: Any, monkeypatch: pytest.MonkeyPatch, text: str, attention: str, spec: str, inputs_of: Any
) -> None:
    small = models(text=text, attention=attention, layers=LAYERS)
    inputs = inputs_of(small)
    with reference.spied(monkeypatch) as seen, herovlm.dropping(small.model, method=spec, keep=0.6) as record:
        with torch.no_grad():
            got = small.model(**inputs).logits[:, -1]
        cuts, short = [*seen], record.last
        tokens = small.model.generate(**inputs, **GREEDY)[:, inputs["input_ids"].shape[1] :]
    assert short is not None
    assert cuts
    want = reference.logits(small.model, short, cuts, tokens[:, :0])
    torch.testing.assert_close(got, want, atol=1e-5, rtol=1e-5)
    assert torch.equal(tokens, reference.greedy(small.model, short, cuts, GREEDY["max_new_tokens"]))
    with torch.no_grad():
        plain = small.model(**short).logits[:, -1]
    assert (got - plain).abs().amax(-1)[:2].min() > 1e-2  # the reference tells cutting from not cutting
