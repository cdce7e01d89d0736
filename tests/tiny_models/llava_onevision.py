"""LLaVA-OneVision: SigLIP, tiles of 16 pixels and patches of 4; a canvas of more than six tiles is shrunk."""

from __future__ import annotations

from typing import Any

from transformers import (
    LlavaOnevisionConfig,
    LlavaOnevisionForConditionalGeneration,
    LlavaOnevisionImageProcessorPil,
    LlavaOnevisionProcessor,
)

from tiny_models._parts import spread, text, words
from tiny_models._torchvision import videos

CLASS = "LlavaOnevisionForConditionalGeneration"
IMAGE = "<image>"
TILE, PATCH = 16, 4
PINPOINTS = [[TILE * high, TILE * wide] for high in (1, 2, 3, 4) for wide in (1, 2, 3, 4)]
MOST = "anyres_max_6"
CHAT = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + ' ' }}"
    "{% if message['content'] is string %}{{ '\n' + message['content'] }}{% else %}"
    "{% for part in message['content'] | selectattr('type', 'equalto', 'image') %}{{ '<image>' }}{% endfor %}"
    "{% for part in message['content'] | selectattr('type', 'equalto', 'text') %}{{ '\n' + part['text'] }}{% endfor %}"
    "{% endif %}{{ '<|im_end|>' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
TOKENS = {
    (32, 32): 88,
    (64, 64): 106,
    (100, 64): 107,
    (64, 100): 112,
    (300, 40): 50,
    (40, 300): 64,
    (9, 7): 36,
    (1000, 800): 112,
    (61, 33): 100,
    (33, 61): 107,
    (128, 97): 112,
    (97, 101): 106,
}


def build(seed: int = 0, **vision: Any) -> tuple[Any, Any]:
    """Make the model and its processor; `vision` changes the tower."""
    tokens = words(
        ["<|endoftext|>", "<|im_start|>", "<|im_end|>", IMAGE, "<video>"],
        pad="<|endoftext|>",
        eos="<|im_end|>",
        image_token=IMAGE,
        video_token="<video>",
    )
    tower = {
        "model_type": "siglip_vision_model",
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "image_size": TILE,
        "patch_size": PATCH,
        "vision_use_head": False,
    }
    config = LlavaOnevisionConfig(
        vision_config=tower | vision,
        text_config={"model_type": "qwen2", **text(tokens)},
        image_token_index=tokens.convert_tokens_to_ids(IMAGE),
        video_token_index=tokens.convert_tokens_to_ids("<video>"),
        image_grid_pinpoints=PINPOINTS,
        vision_aspect_ratio=MOST,
    )
    size = {"height": TILE, "width": TILE}
    processor = LlavaOnevisionProcessor(
        LlavaOnevisionImageProcessorPil(size=size, image_grid_pinpoints=PINPOINTS),
        tokens,
        videos("LlavaOnevisionVideoProcessor", size=size),
        num_image_tokens=(TILE // PATCH) ** 2,
        vision_feature_select_strategy="full",
        vision_aspect_ratio=MOST,
        chat_template=CHAT,
    )
    return spread(LlavaOnevisionForConditionalGeneration(config), seed), processor
