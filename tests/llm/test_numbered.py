"""Inside methods in language models that number a picture by row and column: cutting is hiding, layer by layer."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import reference
import tiny
import tiny_models
import torch
from tiny_models._parts import text

import herovlm

NEW = 4
OPTIONS = {"max_new_tokens": NEW, "do_sample": False, "eos_token_id": 10_000, "pad_token_id": 0}
KINDS = [kind for kind in ("qwen2_vl", "qwen2_5_vl", "qwen3_vl", "qwen3_vl_moe") if kind in tiny_models.here()]
SPECS = [
    "fastv(layer=2, keep=0.4)",
    "random + pyramiddrop(layers=(2,))",
    "vitcop(signal=received, layer=2) + vitcop_llm(shallow=2, deep=4)",
    "random + todre_llm(layer=3, threshold=1.0)",
    "random + sparsevlm(layers=(2, 3, 4))",
    "random + sparsevlm_plus(layers=(2, 3, 4), heads=2)",
    "random + tops_llm(layers=(2, 3), positions='true')",
]


@cache
def deep(kind: str) -> tiny_models.Made:
    """A model with five layers; Qwen3-VL adds features behind the first two."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (tiny_models.family(kind), tiny_models.family("qwen3_vl")):
            if hasattr(module, "text"):
                patch.setattr(module, "text", lambda tokens, **how: text(tokens, **how | {"num_hidden_layers": 5}))
        model, processor = tiny_models.family(kind).build(0)
    return tiny_models.Made(kind, tiny_models.HERE, model.eval(), processor)


def batch(made: tiny_models.Made, several: bool) -> Any:
    """Three prompts of different lengths: two pictures, one, none; or one prompt."""
    sizes: Any = [[(100, 64), (64, 64)], [(33, 61)], []] if several else [[(100, 64)]]
    return made.inputs([[tiny.picture(*size, seed=size[0]) for size in some] for some in sizes])


@pytest.mark.parametrize(("spec", "several"), [(SPECS[0], False), *((spec, True) for spec in SPECS)])
@pytest.mark.parametrize("kind", KINDS)
def test_equals_the_reference(kind: str, spec: str, several: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    made = deep(kind)
    inputs = batch(made, several)
    with reference.spied(monkeypatch) as seen, herovlm.dropping(made.model, method=spec, keep=0.8) as record:
        with torch.no_grad():
            got = made.model(**inputs).logits[:, -1]
        cuts, short = [*seen], record.last
        tokens = made.model.generate(**inputs, **OPTIONS)[:, inputs["input_ids"].shape[1] :]
    assert short is not None
    assert cuts
    want = reference.logits(made.model, short, cuts, tokens[:, :0])
    torch.testing.assert_close(got, want, atol=1e-4, rtol=1e-5)
    assert torch.equal(tokens, reference.greedy(made.model, short, cuts, NEW))
    with torch.no_grad():
        plain = made.model(**short).logits[:, -1]
    assert (got - plain).abs().max() > 1e-3  # the reference tells cutting from not cutting


@pytest.mark.parametrize("kind", KINDS)
def test_a_method_is_shown_what_the_model_computes(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    made, looks = deep(kind), []
    inputs = batch(made, several=False)
    for spec in ("full + fastv(layer=3, keep=0.5)", "full + pyramiddrop(layers=(3,))"):
        with reference.spied(monkeypatch) as seen, herovlm.dropping(made.model, method=spec), torch.no_grad():
            made.model(**inputs)
        looks.append(seen[0][0])
    made.model.set_attn_implementation("eager")
    with torch.no_grad():
        plain = made.model(**inputs, output_attentions=True).attentions
    made.model.set_attn_implementation("sdpa")
    torch.testing.assert_close(looks[0].last, plain[2][0, :, -1], atol=1e-5, rtol=1e-4)
    query, keys = looks[1].ahead
    logits = torch.einsum("hc,hnc->hn", query, keys.repeat_interleave(len(query) // len(keys), 0))
    torch.testing.assert_close((logits * query.shape[1] ** -0.5).softmax(-1), plain[3][0, :, -1], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("kind", "method", "match"),
    [
        ("qwen3_vl", "fastv(layer=1)", r"DeepStack\); cut before layer 2 or a later one"),
        (
            "qwen2_5_vl",
            "random + pyramiddrop(layers=(2,), positions=code)",
            r"M-RoPE\); let the method keep the numbers",
        ),
        ("qwen3_5", "fastv(layer=1)", "inside methods are verified on .*: three of four layers are linear attention"),
    ],
)
def test_what_would_be_wrong_is_refused(kind: str, method: str, match: str) -> None:
    if kind not in tiny_models.here():
        pytest.skip("this release has no such family")
    made = tiny_models.load(kind) if kind == "qwen3_5" else deep(kind)
    with pytest.raises(herovlm.UnsupportedError, match=match), herovlm.dropping(made.model, method=method, keep=0.9):
        made.model.generate(**batch(made, several=False), **OPTIONS)
