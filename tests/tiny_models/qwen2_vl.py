"""Qwen2-VL: native resolution, patches of 4 pixels merged 2x2, all of which see all."""

from __future__ import annotations

from typing import Any

from transformers import Qwen2VLConfig, Qwen2VLForConditionalGeneration, Qwen2VLImageProcessorPil, Qwen2VLProcessor

from tiny_models._parts import QWEN, chatml, mrope, spread, text, words
from tiny_models._torchvision import videos
from tiny_models.qwen2_5_vl import MERGED, MOST, PATCH, TOKENS

CLASS = "Qwen2VLForConditionalGeneration"
IMAGE = "<|image_pad|>"
positions = mrope
__all__ = ["TOKENS"]


def build(seed: int = 0, **vision: Any) -> tuple[Any, Any]:
    """Make the model and its processor; `vision` changes the tower."""
    tokens = words(QWEN, pad="<|endoftext|>", eos="<|im_end|>", image_token=IMAGE, video_token="<|video_pad|>")
    tower = {
        "depth": 4,
        "embed_dim": 32,
        "hidden_size": 32,
        "mlp_ratio": 2,
        "num_heads": 4,
        "patch_size": PATCH,
        "spatial_merge_size": MERGED,
    }
    rope = {"rope_type": "default", "mrope_section": [2, 1, 1], "rope_theta": 1e6}
    config = Qwen2VLConfig(
        vision_config=tower | vision,
        text_config=text(tokens, rope_parameters=rope),
        image_token_id=tokens.convert_tokens_to_ids(IMAGE),
        video_token_id=tokens.convert_tokens_to_ids("<|video_pad|>"),
        vision_start_token_id=tokens.convert_tokens_to_ids("<|vision_start|>"),
        vision_end_token_id=tokens.convert_tokens_to_ids("<|vision_end|>"),
    )
    cell = (PATCH * MERGED) ** 2
    how = {"patch_size": PATCH, "merge_size": MERGED, "size": {"shortest_edge": 4 * cell, "longest_edge": MOST * cell}}
    processor = Qwen2VLProcessor(
        Qwen2VLImageProcessorPil(**how),
        tokens,
        videos("Qwen2VLVideoProcessor", **how),
        chat_template=chatml(f"<|vision_start|>{IMAGE}<|vision_end|>", "You are a helpful assistant."),
    )
    return spread(Qwen2VLForConditionalGeneration(config), seed), processor
