"""LLaVA-NeXT: a thumbnail and local tiles of 16 positions each, un-padded, and a newline behind each row."""

from __future__ import annotations

from typing import Any

import tiny

from herovlm.towers import relevance
from tiny_models._parts import chatml, spread

CLASS = "LlavaNextForConditionalGeneration"
IMAGE = "<image>"
TOKENS = {
    (32, 32): 88,
    (64, 64): 88,
    (100, 64): 70,
    (64, 100): 72,
    (300, 40): 42,
    (40, 300): 52,
    (9, 7): 44,
    (1000, 800): 70,
    (61, 33): 52,
    (33, 61): 56,
    (128, 97): 70,
    (97, 101): 88,
}


def build(seed: int = 0) -> tuple[Any, Any]:
    """Make the model and its processor."""
    made = tiny.make("llava_next", seed=seed)
    made.processor.chat_template = chatml(IMAGE + r"\n")
    return spread(made.model, seed), made.processor


def finish(model: Any) -> None:
    """Attach the CLIP that its question is scored by; it shares the weights of the tower."""
    relevance.attach(model, tiny.make_clip(model.model.vision_tower), tiny.clip_tokenizer())
