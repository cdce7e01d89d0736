"""Qwen3.5: the tower of Qwen3-VL, only its end read, before a language model of three linear layers in four."""

from __future__ import annotations

from typing import Any

from tiny_models import qwen3_vl

CLASS = "Qwen3_5ForConditionalGeneration"
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
LANGUAGE = {
    "num_hidden_layers": 4,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "rope_parameters": {
        "rope_type": "default",
        "mrope_section": [2, 1, 1],
        "mrope_interleaved": True,
        "rope_theta": 1e7,
        "partial_rotary_factor": 0.5,
    },
}


def build(seed: int = 0, **vision: Any) -> tuple[Any, Any]:
    """Make the model and its processor; `vision` changes the tower."""
    return qwen3_vl.make(seed, "Qwen3_5", LANGUAGE, vision, answer=r"<think>\n")
