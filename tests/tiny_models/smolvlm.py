"""SmolVLM: the tower and the tiles of Idefics3, another tokenizer and chat."""

from __future__ import annotations

from typing import Any

from transformers import SmolVLMImageProcessorPil, SmolVLMProcessor

from tiny_models import idefics3
from tiny_models._parts import words
from tiny_models._torchvision import videos

CLASS = "SmolVLMForConditionalGeneration"
IMAGE = idefics3.IMAGE
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", *idefics3.SPECIAL[3:]]
CHAT = idefics3.CHAT.replace("<|begin_of_text|>", "<|im_start|>")
TOKENS = {
    (32, 32): 160,
    (64, 64): 160,
    (100, 64): 112,
    (64, 100): 112,
    (300, 40): 64,
    (40, 300): 64,
    (9, 7): 160,
    (1000, 800): 160,
    (61, 33): 112,
    (33, 61): 112,
    (128, 97): 160,
    (97, 101): 160,
}


def build(seed: int = 0, **vision: Any) -> tuple[Any, Any]:
    """Make the model and its processor; `vision` changes the tower."""
    tokens = words(SPECIAL, pad="<|im_end|>", eos="<end_of_utterance>", bos="<|im_start|>")
    tile = idefics3.TILE
    images = SmolVLMImageProcessorPil(size={"longest_edge": 3 * tile}, max_image_size={"longest_edge": tile})
    clips = videos("SmolVLMVideoProcessor", size={"longest_edge": tile}, max_image_size={"longest_edge": tile})
    positions = (tile // idefics3.PATCH // idefics3.SHUFFLED) ** 2
    processor = SmolVLMProcessor(images, tokens, clips, image_seq_len=positions, chat_template=CHAT)
    return idefics3.make(seed, "SmolVLM", tokens, vision), processor
