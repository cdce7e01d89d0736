"""What one shortened prompt costs in theory, and what the cache of a model really holds."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import PreTrainedModel

from herovlm import api, registry
from herovlm.cost import theory
from herovlm.seams import compat
from herovlm.towers import shortcut
from herovlm.types import Needs, Seen
from herovlm.view import see


@torch.no_grad()
def counted(model: PreTrainedModel, inputs: Mapping[str, Any], request: api.Request) -> dict[str, int]:
    """Shorten a batch of prompts, let the model read them once, and count.

    Returns:
        "positions" that reach the LLM and "of" how many, an image; and for the whole batch the FLOPs of "vision" (tower
        and projector), "selection" (signals by `theory`, choosing as torch's FlopCounterMode has it), "prefill" and
        "decode" (one token), their sum "first_token", and the bytes of the "cache": counted, and as "cache_held".

    Raises:
        HeroError: as `herovlm.drop`.
    """
    config: Any = model.config
    text = config.get_text_config()
    view = see(model, inputs, request)
    with FlopCounterMode(display=False) as counter:
        short = view.drop(request)
    with api.reading(model, short, request):
        out: Any = model(**short, use_cache=True, logits_to_keep=1)
    cache = compat.cache_in(out)
    lengths = [layer.get_seq_length() for layer in cache.layers]
    batch, tiles = len(inputs["input_ids"]), sum(len(one.valid) for one in short.seen)
    needs = Needs() if request.all else request.method.needs(registry.family(model).depth(model))
    flops = {
        "vision": sum(_vision(model, inputs, needs, one) for one in short.seen),
        "selection": theory.signals(config.vision_config, needs, tiles) + counter.get_total_flops(),
        "prefill": batch * theory.prefill(text, lengths),
    }
    return {
        "positions": sum(kept.positions for kept in short.kept) // len(short.seen),
        "of": sum(one.positions for one in short.seen) // len(short.seen),
        "tiles": tiles // len(short.seen),
        **flops,
        "first_token": sum(flops.values()),
        "decode": batch * theory.decode(text, lengths),
        "cache": batch * theory.cache(text, lengths, model.dtype.itemsize),
        "cache_held": held(cache),
    }


def held(cache: Any) -> int:
    """Bytes of all keys and values of a cache."""
    return sum(x.numel() * x.element_size() for layer in cache.layers for x in (layer.keys, layer.values))


def _vision(model: Any, inputs: Mapping[str, Any], needs: Needs, seen: Seen) -> int:
    """FLOPs of projector and tower for one image; of the tower as far as it runs: what nobody reads is left out."""
    config, depth, tiles = copy.deepcopy(model.config), registry.family(model).depth(model), len(seen.valid)
    config.vision_config.image_size = seen.grid.side * config.vision_config.patch_size  # tiles may be smaller
    features, read = max(shortcut.feature_blocks(model, inputs, depth)), shortcut.last_read(needs, depth)
    blocks, closing = (None, False) if needs.affinity else (max(features, read), read >= features)
    return theory.vision(config.vision_config, tiles, blocks, closing) + theory.projector(config, tiles)
