"""Models of real shapes with random weights: what they cost is what the real ones cost, and nothing is downloaded."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from transformers import (
    AutoModel,
    AutoModelForImageTextToText,
    CLIPConfig,
    LlavaConfig,
    LlavaNextConfig,
    PreTrainedModel,
)

from herovlm import registry
from herovlm.errors import InputsError, ModelError
from herovlm.prompt import words
from herovlm.towers import relevance

QUESTION = "What is the number on the red square?"
VISION = {  # CLIP ViT-L/14 at 336 pixels
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "image_size": 336,
    "patch_size": 14,
    "projection_dim": 768,
}
ASKING = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12}
SMALL = {"hidden_size": 64, "intermediate_size": 256, "num_hidden_layers": 4, "num_attention_heads": 4}
Numbers = tuple[str, int, int, int, int, int, int]
# family and LLM: type, width, width of the MLP, layers, heads, key/value heads, vocabulary
TEXTS: dict[str, tuple[str, Numbers]] = {
    "llava-1.5-7b": ("llava", ("llama", 4096, 11008, 32, 32, 32, 32064)),
    "llava-1.5-13b": ("llava", ("llama", 5120, 13824, 40, 40, 40, 32064)),
    "llava-next-7b": ("llava_next", ("llama", 4096, 11008, 32, 32, 32, 32064)),
    "llava-next-mistral-7b": ("llava_next", ("mistral", 4096, 14336, 32, 32, 8, 32064)),
    "llava-next-13b": ("llava_next", ("llama", 5120, 13824, 40, 40, 40, 32064)),
    "llava-next-34b": ("llava_next", ("llama", 7168, 20480, 60, 56, 8, 64064)),
    "small": ("llava_next", ("llama", 256, 2048, 4, 4, 4, 512)),
}


def config_of(name: str, llm_layers: int | None = None) -> Any:
    """Configure a shape by name, its LLM cut to so many layers.

    "small" has the tiles and patches of the others, few channels, and about as much work in the LLM for each FLOP of
    the tower, so that what is measured of it in proportion to the tower or to the whole means something.

    Raises:
        ModelError: no such shape.
    """
    if name not in TEXTS:
        guess = difflib.get_close_matches(name, TEXTS, 1)
        raise ModelError(
            f"there is no shape {name!r}{f', did you mean {guess[0]!r}?' if guess else ''}; shapes: {', '.join(TEXTS)}"
        )
    family, (kind, width, wide, layers, heads, shared, words) = TEXTS[name]
    text = {
        "model_type": kind,
        "hidden_size": width,
        "intermediate_size": wide,
        "num_hidden_layers": llm_layers or layers,
        "num_attention_heads": heads,
        "num_key_value_heads": shared,
        "vocab_size": words,
        "max_position_embeddings": 32768,
        "sliding_window": None,
    }
    tower = {**VISION, **(SMALL if name == "small" else {}), "model_type": "clip_vision_model"}
    make = LlavaNextConfig if family == "llava_next" else LlavaConfig
    return make(vision_config=tower, text_config=text, image_token_index=words - 1)


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
    """Make a model of a named shape with random weights, and beside it a random CLIP that scores the question.

    Args:
        name: of `TEXTS`.
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
    vision = config.vision_config
    asking = CLIPConfig(
        text_config={**(SMALL if name == "small" else ASKING), "bos_token_id": 0, "eos_token_id": 2},
        vision_config={**vision.to_dict(), "num_hidden_layers": original_clip * vision.num_hidden_layers},
        projection_dim=vision.projection_dim,
    )
    clip = _made(AutoModel, asking, device, dtype=torch.float32)
    if not original_clip:
        clip.vision_model.encoder = nn.Identity()  # as `relevance` leaves it out
    relevance.attach(model, clip, spelled)
    words.attach(model, spelled)
    return model


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
    random, config = torch.Generator().manual_seed(0), model.config
    side, pins = config.vision_config.image_size, getattr(config, "image_grid_pinpoints", None)
    given: dict[str, Tensor] = {}
    shape: tuple[int, ...] = (batch, 3, side, side)
    if pins is not None:
        from transformers.models.llava_next.modeling_llava_next import image_size_to_num_patches

        size = size or (2 * side, 2 * side)
        shape = (batch, image_size_to_num_patches(size, pins, side), 3, side, side)
        given["image_sizes"] = torch.tensor([size] * batch)
    given["pixel_values"] = torch.randn(shape, generator=random).to(model.dtype)
    (positions,) = {layout.positions for layout in registry.family(model).layouts(model, given)}
    words = torch.randint(config.get_text_config().vocab_size - 1, (batch, text), generator=random)
    words += words >= config.image_token_id  # any token but the placeholder
    image = torch.full((batch, positions), config.image_token_id)
    ids = torch.cat([words[:, : text // 2], image, words[:, text // 2 :]], 1)
    made = {"input_ids": ids, "attention_mask": torch.ones_like(ids), **given}
    return {name: value.to(model.device) for name, value in made.items()}


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
