"""LLaVA-1.5: one tile of 16 positions, whatever the picture."""

from __future__ import annotations

from typing import Any

import tiny

from herovlm.towers import relevance
from tiny_models import SIZES
from tiny_models._parts import chatml, spread

CLASS = "LlavaForConditionalGeneration"
IMAGE = "<image>"
TOKENS = dict.fromkeys(SIZES, 16)


def build(seed: int = 0) -> tuple[Any, Any]:
    """Make the model and its processor."""
    made = tiny.make("llava", seed=seed)
    made.processor.chat_template = chatml(IMAGE + r"\n")
    return spread(made.model, seed + 1), made.processor


def finish(model: Any) -> None:
    """Attach the CLIP that its question is scored by; it shares the weights of the tower."""
    relevance.attach(model, tiny.make_clip(model.model.vision_tower), tiny.clip_tokenizer())
