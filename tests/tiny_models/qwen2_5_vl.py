"""Qwen2.5-VL: native resolution, patches of 4 pixels merged 2x2, in windows of 4x4 positions but for blocks 1 and 3."""

from __future__ import annotations

from typing import Any

from transformers import (
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5_VLProcessor,
    Qwen2VLImageProcessorPil,
)

from tiny_models._parts import QWEN, chatml, mrope, spread, text, words
from tiny_models._torchvision import videos

CLASS = "Qwen2_5_VLForConditionalGeneration"
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
    tokens = words(QWEN, pad="<|endoftext|>", eos="<|im_end|>", image_token=IMAGE, video_token="<|video_pad|>")
    tower = {
        "depth": 4,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_heads": 4,
        "patch_size": PATCH,
        "spatial_merge_size": MERGED,
        "window_size": 4 * MERGED * PATCH,
        "fullatt_block_indexes": [1, 3],
        "out_hidden_size": 32,
    }
    rope = {"rope_type": "default", "mrope_section": [2, 1, 1], "rope_theta": 1e6}
    config = Qwen2_5_VLConfig(
        vision_config=tower | vision,
        text_config=text(tokens, rope_parameters=rope),
        image_token_id=tokens.convert_tokens_to_ids(IMAGE),
        video_token_id=tokens.convert_tokens_to_ids("<|video_pad|>"),
        vision_start_token_id=tokens.convert_tokens_to_ids("<|vision_start|>"),
        vision_end_token_id=tokens.convert_tokens_to_ids("<|vision_end|>"),
    )
    cell = (PATCH * MERGED) ** 2
    how = {"patch_size": PATCH, "merge_size": MERGED, "size": {"shortest_edge": 4 * cell, "longest_edge": MOST * cell}}
    processor = Qwen2_5_VLProcessor(
        Qwen2VLImageProcessorPil(**how),
        tokens,
        videos("Qwen2VLVideoProcessor", **how),
        chat_template=chatml(f"<|vision_start|>{IMAGE}<|vision_end|>", "You are a helpful assistant."),
    )
    return spread(Qwen2_5_VLForConditionalGeneration(config), seed), processor
