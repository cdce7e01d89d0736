"""InternVL with its larger tower (RMS norms, also of queries and keys): tiles of 32 pixels, 16 positions each."""

from __future__ import annotations

from typing import Any

from transformers import GotOcr2ImageProcessorPil, InternVLConfig, InternVLForConditionalGeneration, InternVLProcessor

from tiny_models._parts import chatml, spread, text, words
from tiny_models._torchvision import videos

CLASS = "InternVLForConditionalGeneration"
IMAGE = "<IMG_CONTEXT>"
TILE, PATCH = 32, 4
TOKENS = {
    (32, 32): 16,
    (64, 64): 80,
    (100, 64): 112,
    (64, 100): 112,
    (300, 40): 112,
    (40, 300): 112,
    (9, 7): 112,
    (1000, 800): 112,
    (61, 33): 48,
    (33, 61): 48,
    (128, 97): 112,
    (97, 101): 80,
}


def build(seed: int = 0, **vision: Any) -> tuple[Any, Any]:
    """Make the model and its processor; `vision` changes the tower."""
    tokens = words(
        ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<img>", "</img>", IMAGE, "<video>"],
        pad="<|endoftext|>",
        eos="<|im_end|>",
        start_image_token="<img>",
        end_image_token="</img>",
        context_image_token=IMAGE,
        video_token="<video>",
    )
    tower = {
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "image_size": TILE,
        "patch_size": PATCH,
        "use_qk_norm": True,
        "norm_type": "rms_norm",
        "layer_scale_init_value": 1.0,
    }
    positions = (TILE // PATCH // 2) ** 2
    config = InternVLConfig(
        vision_config=tower | vision,
        text_config={"model_type": "qwen2", **text(tokens)},
        image_token_id=tokens.convert_tokens_to_ids(IMAGE),
        image_seq_length=positions,
        tie_word_embeddings=False,
    )
    processor = InternVLProcessor(
        GotOcr2ImageProcessorPil(size={"height": TILE, "width": TILE}, max_patches=6),
        tokens,
        videos("InternVLVideoProcessor", size={"height": TILE, "width": TILE}),
        image_seq_length=positions,
        chat_template=chatml(IMAGE + r"\n"),
    )
    return spread(InternVLForConditionalGeneration(config), seed), processor
