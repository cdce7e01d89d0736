"""Qwen3.5 with experts."""

from __future__ import annotations

from typing import Any

from tiny_models import qwen3_5, qwen3_vl, qwen3_vl_moe

CLASS = "Qwen3_5MoeForConditionalGeneration"
IMAGE = qwen3_vl.IMAGE
positions = qwen3_vl.positions
MASKING = False  # its linear layers read masked positions too
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
    language = qwen3_5.LANGUAGE | qwen3_vl_moe.EXPERTS | {"shared_expert_intermediate_size": 32}
    return qwen3_vl.make(seed, "Qwen3_5Moe", language, vision, answer=r"<think>\n")
