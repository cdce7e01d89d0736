"""What one shortened prompt costs in theory, and what the cache of a model really holds."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import torch
from transformers import PreTrainedModel

from herovlm import api, registry
from herovlm.cost import theory
from herovlm.cost.flops import counter
from herovlm.plan import plan_of
from herovlm.seams import compat
from herovlm.towers import shortcut
from herovlm.towers.clip import Clip
from herovlm.types import Needs, Seen, Short
from herovlm.view import see

HOLDS = ("keys", "values", "conv_states", "recurrent_states")  # attributes of a layer of a cache


@torch.no_grad()
def counted(model: PreTrainedModel, inputs: Mapping[str, Any], request: api.Request) -> dict[str, int]:
    """Shorten a batch of prompts, let the model read them once, and count.

    Returns:
        "positions" that reach the LLM and "of" how many, an image; and for the whole batch the FLOPs of "vision" (tower
        and projector), "selection" (signals and choosing), "prefill" and "decode" (one token), their sum "first_token",
        and the bytes of the "cache": counted, and as "cache_held".  What is counted how: `herovlm.cost.theory`.

    Raises:
        HeroError: as `herovlm.drop`.
    """
    with counter() as seeing:
        view = see(model, inputs, request)
    with counter() as choosing:
        short = view.choose(request).rebuild()
    tiles, pictures = sum(len(one.valid) for one in short.seen), len(short.seen)
    needs = Needs() if request.all else request.method.needs(view.depth)
    if isinstance(view.family.sees_through(model), Clip):
        vision = sum(_vision(model, inputs, needs, one) for one in short.seen)
        signals = theory.signals(model.config.vision_config, needs, tiles)
    else:
        vision = plain(model, inputs)
        signals = max(0, seeing.get_total_flops() - vision)
    flops = {"vision": vision, "selection": signals + choosing.get_total_flops()}
    read = _read(model, short, request)
    flops["prefill"] = read.pop("prefill")
    return {
        "positions": sum(kept.positions for kept in short.kept) // pictures,
        "of": sum(one.positions for one in short.seen) // pictures,
        "tiles": tiles // pictures,
        **flops,
        "first_token": sum(flops.values()),
        **read,
    }


def plain(model: PreTrainedModel, inputs: Mapping[str, Any]) -> int:
    """Count the FLOPs of tower and projector in a run in which nothing is recorded."""
    family = registry.family(model)
    plan = plan_of(family, model, inputs)
    with counter() as found:
        family.see(model, plan.inputs, plan.images, Needs())
    return int(found.get_total_flops())


def held(cache: Any) -> int:
    """Bytes of all that a cache holds: keys and values, and in layers of linear attention their states."""
    parts = [getattr(layer, name, None) for layer in cache.layers for name in HOLDS]
    tensors = [x for part in parts for x in (part.values() if isinstance(part, dict) else [part]) if x is not None]
    return sum(x.numel() * x.element_size() for x in tensors)


def _read(model: PreTrainedModel, short: Short, request: api.Request) -> dict[str, int]:
    """Let the LLM read a prompt and write one token; by formula where there is one, else as they run."""
    text, batch = model.config.get_text_config(), len(short["input_ids"])
    run: Any = model
    described = theory.describes(text, run.get_decoder().layers)
    with api.reading(model, short, request), counter() as reading:
        out = run(**{**short, "use_cache": True}, logits_to_keep=1)
    cache = compat.cache_in(out)
    bytes_held = held(cache)
    if not described:
        found = {"prefill": int(reading.get_total_flops()), "decode": _next(model, short, request, cache)}
        return {**found, "cache": bytes_held, "cache_held": bytes_held}
    lengths = [layer.get_seq_length() for layer in cache.layers]
    found = {"prefill": theory.prefill(text, lengths), "decode": theory.decode(text, lengths)}
    found["cache"] = theory.cache(text, lengths, model.dtype.itemsize)
    return {**{name: batch * count for name, count in found.items()}, "cache_held": bytes_held}


def _next(model: PreTrainedModel, short: Short, request: api.Request, cache: Any) -> int:
    """Count the FLOPs of one more token behind a prompt that is in the cache."""
    given = {"input_ids": short["input_ids"][:, -1:]}
    mask = short["attention_mask"]
    given["attention_mask"] = torch.cat([mask, torch.ones_like(mask[:, :1])], 1)
    if (places := short.get("position_ids")) is not None:
        given["position_ids"] = places[..., -1:] + 1
    run: Any = model
    with api.reading(model, short, request), counter() as found:
        run(**given, **compat.as_cache(model, cache), use_cache=True)
    return int(found.get_total_flops())


def _vision(model: Any, inputs: Mapping[str, Any], needs: Needs, seen: Seen) -> int:
    """FLOPs of projector and CLIP tower for one image; as far as it runs: what nobody reads is left out."""
    config, depth, tiles = copy.deepcopy(model.config), registry.family(model).depth(model), len(seen.valid)
    config.vision_config.image_size = seen.grid.side * config.vision_config.patch_size  # tiles may be smaller
    features, read = max(shortcut.feature_blocks(model, inputs, depth)), shortcut.last_read(needs, depth)
    blocks, closing = (None, False) if needs.affinity else (max(features, read), read >= features)
    return theory.vision(config.vision_config, tiles, blocks, closing) + theory.projector(config, tiles)
