"""Qwen3-VL: native resolution, patches of 4 pixels merged 2x2; blocks 0 and 2 also feed the first LLM layers."""

from __future__ import annotations

from typing import Any

import transformers
from transformers import Qwen2VLImageProcessorPil, Qwen3VLProcessor

from tiny_models._parts import QWEN, chatml, mrope, spread, text, words
from tiny_models._torchvision import videos

CLASS = "Qwen3VLForConditionalGeneration"
IMAGE = "<|image_pad|>"
positions = mrope
PATCH, MERGED, MOST = 4, 2, 128  # pixels, patches, positions
TOKENS = {
    (32, 32): 16,
    (64, 64): 64,
    (100, 64): 96,
    (64, 100): 96,
    (300, 40): 120,
    (40, 300): 120,
    (9, 7): 6,
    (1000, 800): 120,
    (61, 33): 32,
    (33, 61): 32,
    (128, 97): 108,
    (97, 101): 121,
}


def build(seed: int = 0, **vision: Any) -> tuple[Any, Any]:
    """Make the model and its processor; `vision` changes the tower."""
    return make(seed, "Qwen3VL", {}, {"deepstack_visual_indexes": [0, 2], **vision})


def make(seed: int, name: str, language: dict[str, Any], vision: dict[str, Any], answer: str = "") -> tuple[Any, Any]:
    """Make any model that reads pictures as this one does; `name` is what its classes begin with."""
    tokens = words(QWEN, pad="<|endoftext|>", eos="<|im_end|>", image_token=IMAGE, video_token="<|video_pad|>")
    tower = {
        "depth": 4,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_heads": 4,
        "patch_size": PATCH,
        "spatial_merge_size": MERGED,
        "num_position_embeddings": 64,
        "out_hidden_size": 32,
    }
    rope = {"rope_type": "default", "mrope_section": [4, 2, 2], "mrope_interleaved": True, "rope_theta": 5e6}
    config = getattr(transformers, f"{name}Config")(
        vision_config=tower | vision,
        text_config=text(tokens, head_dim=16, rope_parameters=rope, num_hidden_layers=3) | language,
        image_token_id=tokens.convert_tokens_to_ids(IMAGE),
        video_token_id=tokens.convert_tokens_to_ids("<|video_pad|>"),
        vision_start_token_id=tokens.convert_tokens_to_ids("<|vision_start|>"),
        vision_end_token_id=tokens.convert_tokens_to_ids("<|vision_end|>"),
    )
    cell = (PATCH * MERGED) ** 2
    how = {"patch_size": PATCH, "merge_size": MERGED, "size": {"shortest_edge": 4 * cell, "longest_edge": MOST * cell}}
    processor = Qwen3VLProcessor(
        Qwen2VLImageProcessorPil(**how, image_mean=[0.5] * 3, image_std=[0.5] * 3),
        tokens,
        videos("Qwen3VLVideoProcessor", **how),
        chat_template=chatml(f"<|vision_start|>{IMAGE}<|vision_end|>", answer=answer),
    )
    return spread(getattr(transformers, f"{name}ForConditionalGeneration")(config), seed), processor
