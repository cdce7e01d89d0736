"""What is counted from a config is what torch counts when the model runs, and what a hand counts on paper."""

from __future__ import annotations

from typing import Any

import pytest
import tiny
import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoModelForCausalLM, CLIPVisionConfig, CLIPVisionModel, LlamaConfig

from herovlm.cost import configs, theory
from herovlm.cost.count import held
from herovlm.seams.compat import cache_in
from herovlm.towers import shortcut
from herovlm.types import Needs

TEXTS = ("llama", "mistral", "qwen2")


def flops(run: Any) -> int:
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        run()
    return int(counter.get_total_flops())


def causal_lm(kind: str, **more: Any) -> Any:
    config = tiny.text_config(kind, 50, layers=3)
    config.update({"sliding_window": None, **more})
    return AutoModelForCausalLM.from_config(config, attn_implementation="eager").eval()


def test_a_layer_by_hand() -> None:
    config = LlamaConfig(
        hidden_size=8,
        intermediate_size=10,
        num_hidden_layers=1,
        num_attention_heads=4,
        num_key_value_heads=2,
        vocab_size=7,
    )
    position = (8 * 8 + 8 * 4 + 8 * 4 + 8 * 8) + 3 * (8 * 10)  # q, k, v, o; the gated MLP
    attention = 2 * (1 + 2) * 8  # scores and values; the first position sees itself, the second both
    assert theory.prefill(config, 2) == 2 * (2 * position + attention + 8 * 7)
    assert theory.decode(config, 2) == 2 * (position + 2 * 3 * 8 + 8 * 7)
    assert theory.cache(config, 2, 2) == 2 * 2 * 2 * 2 * 2  # keys and values, positions, heads, width, bytes


@pytest.mark.parametrize("kind", TEXTS)
def test_prefill_and_decode_are_what_torch_counts(kind: str) -> None:
    model, n = causal_lm(kind), 11
    config = model.config
    ids = torch.arange(n)[None]
    masked = config.num_hidden_layers * 2 * theory.matmul(n * (n - 1) // 2, 32, 1)  # eager works through the mask
    assert flops(lambda: model(ids, logits_to_keep=1)) == theory.prefill(config, n) + masked
    cache = cache_in(model(ids))
    assert flops(lambda: model(ids[:, :1], **{tiny.CACHE: cache})) == theory.decode(config, n)


@pytest.mark.parametrize("kind", TEXTS)
def test_the_cache_holds_what_is_counted(kind: str) -> None:
    model = causal_lm(kind)
    assert model.config.num_key_value_heads < model.config.num_attention_heads
    cache = cache_in(model(torch.arange(13)[None]))
    assert held(cache) == theory.cache(model.config, 13, 4) < theory.cache(model.config, 14, 4)


def test_a_window_bounds_cache_and_attention() -> None:
    model = causal_lm("mistral", sliding_window=5)
    cache = cache_in(model(torch.arange(13)[None]))
    assert held(cache) == theory.cache(model.config, 13, 4) == theory.cache(model.config, 50, 4)
    whole = theory.prefill(causal_lm("mistral").config, 13) - theory.prefill(model.config, 13)
    unseen = sum(max(0, position + 1 - 5) for position in range(13))
    assert whole == 3 * 2 * theory.matmul(unseen, 32, 1)
    assert theory.decode(model.config, 13) == theory.decode(model.config, 40)


def test_layers_may_hold_fewer_positions() -> None:
    config = tiny.text_config("llama", 50, layers=3)
    assert 3 * theory.prefill(config, [9, 9, 4]) == 2 * theory.prefill(config, 9) + theory.prefill(config, 4)
    assert 3 * theory.decode(config, [9, 9, 4]) == 2 * theory.decode(config, 9) + theory.decode(config, 4)
    assert theory.cache(config, [9, 9, 4], 2) * 27 == theory.cache(config, 9, 2) * 22


def test_the_tower_is_what_torch_counts() -> None:
    config = CLIPVisionConfig(**tiny.VISION, attn_implementation="eager")
    tower, pixels = CLIPVisionModel(config).eval(), torch.zeros(3, 3, tiny.TILE, tiny.TILE)
    assert flops(lambda: tower(pixels)) == theory.vision(config, 3)

    def closing() -> None:
        with shortcut.taken(tower, 3, Needs(cls=True)):
            tower(pixels)

    assert flops(closing) == theory.vision(config, 3, blocks=3, closing=True) < theory.vision(config, 3)


def test_the_projector_is_what_torch_counts(models: Any) -> None:
    model = models("llava_next").model
    states = torch.zeros(3, (tiny.TILE // tiny.PATCH) ** 2, model.config.vision_config.hidden_size)
    assert flops(lambda: model.model.multi_modal_projector(states)) == theory.projector(model.config, 3)


def test_what_is_recorded_is_counted() -> None:
    config = CLIPVisionConfig(**tiny.VISION)
    row = 2 * 32 * 17  # one query against the keys of 16 patches and CLS
    assert theory.signals(config, Needs(), 5) == 0
    assert theory.signals(config, Needs(attention=(1, 2)), 5) == 5 * 2 * row
    assert theory.signals(config, Needs(received=(1,)), 5) == 5 * 16 * row
    assert theory.signals(config, Needs(relevance="tower"), 5) == 5 * 2 * 33 * 24  # projected, and compared
    assert theory.signals(config, Needs(affinity=True), 5) == 16 * theory.signals(config, Needs(relevance="tower"), 5)
    assert theory.signals(config, Needs(dots=True), 5) == theory.signals(config, Needs(affinity=True), 5)
    again = theory.signals(config, Needs(relevance="clip"), 5) - theory.signals(config, Needs(relevance="tower"), 5)
    assert again == theory.vision(config, 5)


def test_real_shapes_cost_what_is_known_of_them() -> None:
    vicuna, mistral = (configs.config_of(name) for name in ("llava-next-7b", "llava-next-mistral-7b"))
    assert theory.cache(vicuna.text_config, 1, 2) == 512 * 1024
    assert theory.cache(mistral.text_config, 1, 2) == 128 * 1024
    assert theory.vision(vicuna.vision_config, 1) == pytest.approx(382e9, rel=0.01)
    weights = 6.6e9  # of Vicuna's layers and head; each is used twice a token
    assert theory.decode(vicuna.text_config, 0) == pytest.approx(2 * weights, rel=0.01)
