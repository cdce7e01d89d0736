"""The demo model: a small, real LLaVA-NeXT that reads the boards, price lists and maps of `scenes.py`.

model, processor = herovlm.demo.load()
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import LlavaNextForConditionalGeneration, LlavaNextProcessor

WEIGHTS = Path(__file__).parent / "weights"  # an ordinary folder for from_pretrained
READS = "drawn notice boards, price lists and town maps"  # and nothing else


def load(folder: Path = WEIGHTS) -> tuple[LlavaNextForConditionalGeneration, LlavaNextProcessor]:
    """Load the shipped model, or one trained like it, and its processor (float32, eval mode)."""
    import torch
    from transformers import AutoProcessor, LlavaNextForConditionalGeneration

    model = LlavaNextForConditionalGeneration.from_pretrained(folder, dtype=torch.float32)
    return model.eval(), AutoProcessor.from_pretrained(folder)
