"""Tiny random models with real processors and a real tokenizer, made in memory."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import transformers
from PIL import Image
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import AutoConfig, CLIPConfig, CLIPModel, LlavaForConditionalGeneration, PreTrainedTokenizerFast

from herovlm.methods.base import Method
from herovlm.seams import compat
from herovlm.towers import relevance
from herovlm.types import Kept, Needs, Newlines, Seen

TILE, PATCH = 16, 4  # pixels: 4 x 4 patches a tile
PINPOINTS = [[16, 32], [32, 16], [32, 32], [48, 16], [16, 48]]
VISION = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "image_size": TILE,
    "patch_size": PATCH,
    "projection_dim": 24,
    "model_type": "clip_vision_model",
}
# model_type of the registry -> what the classes of its config and model, and those of its processors, begin with
FAMILIES = {
    "llava_next": ("LlavaNext", "LlavaNext"),
    "llava": ("Llava", "Llava"),
}
CACHE = next(
    name for name in compat.CACHES if name in inspect.signature(LlavaForConditionalGeneration.forward).parameters
)


@dataclass
class Tiny:
    """A tiny model, its processor, and the CLIP that shares its vision tower."""

    model: Any
    processor: Any
    clip: CLIPModel

    def inputs(self, pictures: Sequence[Sequence[Image.Image]], texts: Sequence[str], side: str = "left") -> Any:
        """Process a batch; `pictures` lists the images of each prompt, which names them by <image>."""
        flat = [picture for some in pictures for picture in some]
        images = flat or None
        return self.processor(images=images, text=list(texts), return_tensors="pt", padding=True, padding_side=side)


def tokenizer() -> PreTrainedTokenizerFast:
    """Byte-level, one token a byte, and the usual special tokens."""
    special = ["<pad>", "<s>", "</s>", "<image>"]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    raw = Tokenizer(models.BPE(vocab={t: i for i, t in enumerate(special + alphabet)}, merges=[]))
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    raw.post_processor = processors.TemplateProcessing("<s> $A", special_tokens=[("<s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=raw,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        extra_special_tokens={"image_token": "<image>"},
        padding_side="left",
    )


def clip_tokenizer() -> PreTrainedTokenizerFast:
    """Same bytes; ends in </s> as CLIP's does, also when cut."""
    words = tokenizer()
    words.backend_tokenizer.post_processor = processors.TemplateProcessing(
        "<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)]
    )
    return words


def text_config(kind: str, vocab: int, layers: int = 2, **more: Any) -> Any:
    """Configure a tiny language model of any family."""
    return AutoConfig.for_model(
        kind,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        vocab_size=vocab,
        max_position_embeddings=2048,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
        initializer_range=0.3,
        **more,
    )


def make(
    family: str = "llava_next", text: str = "llama", attention: str = "sdpa", seed: int = 0, layers: int = 2
) -> Tiny:
    """Make one tiny model with its CLIP attached."""
    torch.manual_seed(seed)
    words = tokenizer()
    shared = {
        "text_config": text_config(text, len(words), layers),
        "image_token_index": words.convert_tokens_to_ids("<image>"),
        "attn_implementation": attention,
    }
    name, processors_of = FAMILIES[family]
    configure: Any = getattr(transformers, f"{name}Config")
    tiles = {"image_grid_pinpoints": PINPOINTS} if hasattr(configure(), "image_grid_pinpoints") else {}
    model: Any = getattr(transformers, f"{name}ForConditionalGeneration")(
        configure(vision_config=dict(VISION), **tiles, **shared)
    )
    images = getattr(transformers, f"{processors_of}ImageProcessorPil")(
        size={"shortest_edge": TILE}, crop_size={"height": TILE, "width": TILE}, **tiles
    )
    how = {"patch_size": PATCH, "vision_feature_select_strategy": "default", "num_additional_image_tokens": 1}
    processor = getattr(transformers, f"{processors_of}Processor")(images, words, **how)
    clip = make_clip(model.model.vision_tower)
    relevance.attach(model, clip, clip_tokenizer())
    # spread the weights, so that attention and logits are far from uniform
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "vision_tower" in name and weight.ndim == 2 and "position" not in name:
                weight.mul_(8)
    return Tiny(model.eval(), processor, clip)


def make_clip(tower: Any = None, seed: int = 1) -> CLIPModel:
    """Make a tiny CLIP; it shares the weights of `tower` when one is given."""
    torch.manual_seed(seed)
    text = {
        "hidden_size": 24,
        "intermediate_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "vocab_size": len(tokenizer()),
        "max_position_embeddings": 20,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": 0,
        "projection_dim": 24,
    }
    clip = CLIPModel(CLIPConfig(text_config=text, vision_config=dict(VISION), projection_dim=24)).eval()
    if tower is not None:
        clip.vision_model = tower
    return clip


def picture(width: int, height: int, seed: int = 0) -> Image.Image:
    """Make a noisy picture with a bright corner."""
    g = torch.Generator().manual_seed(seed)
    pixels = torch.randint(0, 160, (height, width, 3), generator=g, dtype=torch.uint8)
    pixels[: height // 2, : width // 2] += 90
    return Image.fromarray(pixels.numpy())


class Some(Method):
    """Keeps a fixed pseudo-random choice of valid patches and the newlines of touched rows, up to the budget."""

    name = "some"
    paper = "baseline"
    fidelity = "baseline"

    def needs(self, depth: int) -> Needs:
        """Nothing."""
        return Needs()

    def choose(self, seen: Seen, budget: int, newlines: Newlines | None, share: float) -> Kept:
        """Spend the budget on patches in a fixed shuffled order, then close the rows it can."""
        valid = seen.valid.flatten().nonzero().flatten()
        g = torch.Generator().manual_seed(len(valid))
        closing = min(budget // 4, int(seen.grid.sent.sum()))
        chosen = valid[torch.randperm(len(valid), generator=g)[: budget - closing]]
        mask = torch.zeros(seen.valid.numel(), dtype=torch.bool)
        mask[chosen] = True
        rows = torch.zeros_like(seen.grid.sent)
        rows[seen.grid.sent.nonzero().flatten()[:closing]] = True
        return Kept(mask.view_as(seen.valid), rows)


def batch(small: Tiny) -> Any:
    """Two prompts, the first of two pictures."""
    pictures = [[picture(20, 60), picture(33, 33, 1)], [picture(60, 31)]]
    return small.inputs(pictures, ["USER: <image> or <image>\nWhich? ASSISTANT:", "<image>\nWhat is it? ASSISTANT:"])
