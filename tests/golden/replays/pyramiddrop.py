"""The authors' PyramidDrop: three cuts in a row, ranked by the layers to come, positions renumbered."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from transformers import LlamaConfig
from transformers.models.llama.modeling_llama import LlamaDecoderLayer, LlamaRotaryEmbedding

from herovlm.llm import columns
from herovlm.llm.batch import Batch, signals
from herovlm.llm.columns import Prompts
from herovlm.methods.inside.pyramiddrop import PyramidDrop
from herovlm.types import SeenInside
from replays import _inside


def differences(case: Mapping[str, np.ndarray], path: Path) -> list[str]:
    """Names of the arrays that differ."""
    cuts = [int(layer) for layer in case["layer_list"]]
    depth, config = 2 * cuts[-1] - cuts[-2], configured(case)
    method = PyramidDrop(layers=tuple(cuts), ratios=tuple(map(float, case["ratio_list"][1:])), positions="code")
    hidden, real, turn = torch.from_numpy(case["hidden"]), torch.from_numpy(case["valid"]), LlamaRotaryEmbedding(config)
    prompts = prompted(case, real)
    left = columns.all_of(prompts)
    alive = [torch.arange(sum(counts)) for counts in prompts.counts]
    found = {}
    for stage, layer in enumerate(cuts):
        places = left.places if left.places is not None else torch.arange(hidden.shape[1])[None]
        batch = Batch(prompts, left, None, hidden, turn(hidden, places))
        visual, made = columns.visual(left, prompts), []
        for row, counts in enumerate(prompts.counts):
            seen = signals({layer: layered(case, stage, config)}, layer, hidden, row, batch, method.needs(depth)[layer])
            granted = tuple(method.plan(count, depth)[layer] for count in counts)
            made.append(method.cut(SeenInside(layer, depth, granted=granted, **seen)) if counts else None)
        left, hidden = columns.cut(left, hidden, visual, made, left=False)
        name = f"stage{stage + 1}"
        for row, cut in enumerate(made):
            if cut is not None:
                alive[row] = alive[row][cut.keep]
                found[f"{name}_kept_{row}"] = (alive[row], case[f"{name}_kept_{row}"])
        assert left.places is not None
        found |= {
            f"{name}_origin": (left.index.masked_fill(~left.real, -100), case[f"{name}_origin"]),
            f"{name}_hidden": (hidden * left.real[..., None], case[f"{name}_hidden"]),
            f"{name}_mask": (left.real, case[f"{name}_mask"]),
            f"{name}_position_ids": (left.places.masked_fill(~left.real, 0), case[f"{name}_position_ids"]),
        }
    return _inside.wrong(found)


def prompted(case: Mapping[str, np.ndarray], real: Tensor) -> Prompts:
    """Where the image of each prompt stands."""
    image = torch.full(real.shape, -1)
    for row, (start, count) in enumerate(zip(case["image_start"], case["image_tokens"], strict=True)):
        image[row, start : start + count] = 0 if start >= 0 else -1
    counts = tuple((int(count),) if count else () for count in case["image_tokens"])
    return Prompts(torch.zeros(real.shape, dtype=torch.long), real, image, None, counts, left=False)


def configured(case: Mapping[str, np.ndarray]) -> LlamaConfig:
    """The layers' sizes."""
    size = case["hidden"].shape[-1]
    rope = {"rope_type": "default", "rope_theta": float(case["rope_base"])}
    return LlamaConfig(
        hidden_size=size,
        intermediate_size=size,
        num_attention_heads=int(case["n_heads"]),
        rms_norm_eps=float(case["rms_eps"]),
        rope_parameters=rope,
    )


def layered(case: Mapping[str, np.ndarray], stage: int, config: LlamaConfig) -> LlamaDecoderLayer:
    """A layer with the weights that rank a stage."""
    layer = LlamaDecoderLayer(config, 0).requires_grad_(False)
    layer.input_layernorm.weight.copy_(torch.from_numpy(case["rmsnorm_weight"][stage]))
    layer.self_attn.q_proj.weight.copy_(torch.from_numpy(case["wq"][stage]))
    layer.self_attn.k_proj.weight.copy_(torch.from_numpy(case["wk"][stage]))
    return layer
