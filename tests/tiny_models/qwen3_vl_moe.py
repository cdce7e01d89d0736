"""Qwen3-VL with experts."""

from __future__ import annotations

from typing import Any

from tiny_models import qwen3_vl

CLASS = "Qwen3VLMoeForConditionalGeneration"
IMAGE = qwen3_vl.IMAGE
positions = qwen3_vl.positions
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
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 32}


def build(seed: int = 0, **vision: Any) -> tuple[Any, Any]:
    """Make the model and its processor; `vision` changes the tower."""
    return qwen3_vl.make(seed, "Qwen3VLMoe", EXPERTS, {"deepstack_visual_indexes": [0, 2], **vision})
