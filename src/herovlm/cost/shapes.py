"""Models of real shapes with random weights: what they cost is what the real ones cost, and nothing is downloaded."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoModel, AutoModelForImageTextToText, CLIPConfig, PreTrainedModel

from herovlm import registry
from herovlm.cost.configs import ASKING, SMALL, config_of
from herovlm.errors import InputsError
from herovlm.prompt import words
from herovlm.prompt.positions import KINDS
from herovlm.towers import relevance
from herovlm.towers.clip import Clip

QUESTION = "What is the number on the red square?"
PATCHES = 48  # on a side of a picture, where the size of a tile does not say how large one is


def build(
    name: str,
    *,
    llm_layers: int | None = None,
    dtype: torch.dtype = torch.bfloat16,
    device: str | torch.device = "cpu",
    attention: str = "sdpa",
    original_clip: bool = False,
    **changes: Any,
) -> Any:
    """Make a model of a named shape with random weights; a random CLIP that scores the question beside a CLIP tower.

    Args:
        name: of `configs.NAMES`.
        llm_layers: layers of the LLM, None for all.
        dtype: of the model; the CLIP is float32, as it is when it is loaded.
        device: where it is made.
        attention: implementation of attention, by its name in transformers.
        original_clip: whether the CLIP has an image tower of its own, for methods with relevance="clip".
        changes: set on the config; image_grid_pinpoints, for example.

    Raises:
        ModelError: no such shape.
    """
    config = config_of(name, llm_layers)
    for key, value in changes.items():
        setattr(config, key, value)
    model = _made(AutoModelForImageTextToText, config, device, dtype=dtype, attn_implementation=attention)
    words.attach(model, spelled)
    if isinstance(registry.family(model).sees_through(model), Clip):
        _asked(model, SMALL if name == "small" else ASKING, device, original_clip)
    return model


def _asked(model: Any, text: Mapping[str, int], device: str | torch.device, original: bool) -> None:
    """Attach a CLIP with such a text tower, and with an image tower of its own where it is to be the original one."""
    vision = model.config.vision_config
    asking = CLIPConfig(
        text_config={**text, "bos_token_id": 0, "eos_token_id": 2},
        vision_config={**vision.to_dict(), "num_hidden_layers": original * vision.num_hidden_layers},
        projection_dim=vision.projection_dim,
    )
    clip = _made(AutoModel, asking, device, dtype=torch.float32)
    if not original:
        clip.vision_model.encoder = nn.Identity()  # as `relevance` leaves it out
    relevance.attach(model, clip, spelled)


def spelled(text: str, add_special_tokens: bool = True, max_length: int = 77, **_: Any) -> dict[str, Tensor]:
    """Stand in for a tokenizer, CLIP's or the model's: one token a word, and for CLIP a start and an end."""
    ids = [3 + i for i in range(min(len(text.split()), max_length - 2))]
    return {"input_ids": torch.tensor([[0, *ids, 2] if add_special_tokens else ids])}


def prompt(
    model: PreTrainedModel, batch: int = 1, size: tuple[int, int] | None = None, text: int = 60
) -> dict[str, Tensor]:
    """Make random pixels and tokens: one image and `text` tokens a prompt, what a processor would have returned.

    Args:
        model: any model of a supported family.
        batch: number of prompts.
        size: height and width of the images in pixels; None is 2 x 2 tiles, where the model makes tiles.
        text: tokens beside the image, half of them before it.
    """
    random, config, family = torch.Generator().manual_seed(0), model.config, registry.family(model)
    extent = size or _square(config.vision_config)
    pictures = [family.made_up(model, extent, random) for _ in range(batch)]
    vision = {name: torch.cat([one[name] for one in pictures]) for name in pictures[0]}
    vision = {name: x.to(model.dtype) if x.is_floating_point() else x for name, x in vision.items()}
    written = family.written(model, family.geometry(model, [extent])[0])
    words = torch.randint(config.get_text_config().vocab_size - 1, (batch, text), generator=random)
    words += words >= config.image_token_id  # any token but the placeholder
    ids = torch.cat([words[:, : text // 2], written.expand(batch, -1), words[:, text // 2 :]], 1)
    reads = inspect.signature(model.forward).parameters
    kinds = {name: (ids == config.image_token_id).long() for name in KINDS if name in reads}
    made = {"input_ids": ids, "attention_mask": torch.ones_like(ids), **kinds, **vision}
    return {name: value.to(model.device) for name, value in made.items()}


def _square(vision: Any) -> Sequence[int]:
    """Return height and width of 2 x 2 tiles, or of a picture with a stated number of patches."""
    extent = getattr(vision, "image_size", None)
    if extent is None:
        return [PATCHES * vision.patch_size] * 2
    return [2 * extent] * 2 if isinstance(extent, int) else [2 * one for one in extent]


def of_length(inputs: Mapping[str, Tensor], image_token: int, positions: int) -> dict[str, Tensor]:
    """Cut every prompt of `prompt` to so many visual positions, without asking which."""
    ids = inputs["input_ids"]
    where = (ids[0] == image_token).nonzero().flatten()
    stay = torch.ones(ids.shape[1], dtype=torch.bool, device=ids.device)
    stay[where[positions:]] = False
    if positions > len(where):
        raise InputsError(f"{positions} visual positions of {len(where)}; ask for fewer")
    return {name: inputs[name][:, stay] for name in ("input_ids", "attention_mask")}


def _made(kind: Any, config: Any, device: str | torch.device, **how: Any) -> Any:
    """Make a model without drawing each weight: one pool of random numbers serves all of them."""
    with torch.device("meta"):
        model = kind.from_config(config, **how)
    model = model.to_empty(device=device).eval().requires_grad_(False)
    pool = 0.02 * torch.randn(2**20 + 7, generator=torch.Generator().manual_seed(0))
    pool = pool.to(device, how["dtype"])
    for name, weight in model.named_parameters():
        if weight.ndim == 1 and name.endswith("weight"):  # of a norm
            weight.fill_(1)
        else:
            flat, whole = weight.view(-1), weight.numel() // len(pool) * len(pool)
            flat[:whole].view(-1, len(pool)).copy_(pool.expand(whole // len(pool), -1))
            flat[whole:].copy_(pool[: weight.numel() - whole])
    _fill_buffers(model)
    return model


def _fill_buffers(model: nn.Module) -> None:
    """Have transformers compute position ids and rotary frequencies, which no checkpoint holds."""
    for owner in model.modules():
        if isinstance(owner, PreTrainedModel):
            for module in owner.modules():
                if any(True for _ in module.buffers(recurse=False)):
                    owner._init_weights(module)
