"""Idefics3: SigLIP, tiles of 16 pixels, patches of 2 shuffled 2x2; rows and columns are marked, the whole is last."""

from __future__ import annotations

from typing import Any

import transformers
from transformers import Idefics3ImageProcessorPil, Idefics3Processor

from tiny_models._parts import spread, text, words

CLASS = "Idefics3ForConditionalGeneration"
IMAGE = "<image>"
TILE, PATCH, SHUFFLED = 16, 2, 2
SPECIAL = ["<|begin_of_text|>", "<|end_of_text|>", "<|finetune_right_pad_id|>", "<fake_token_around_image>", IMAGE]
SPECIAL += ["<end_of_utterance>", "<global-img>", *(f"<row_{r}_col_{c}>" for r in range(1, 7) for c in range(1, 7))]
CHAT = (
    "<|begin_of_text|>{% for message in messages %}{{ message['role'] | capitalize }}"
    "{% if message['content'][0]['type'] == 'image' %}{{ ':' }}{% else %}{{ ': ' }}{% endif %}"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}{% for part in message['content'] %}"
    "{% if part['type'] == 'text' %}{{ part['text'] }}{% elif part['type'] == 'image' %}{{ '<image>' }}{% endif %}"
    "{% endfor %}{% endif %}<end_of_utterance>\n{% endfor %}{% if add_generation_prompt %}{{ 'Assistant:' }}{% endif %}"
)
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
    tokens = words(SPECIAL, pad="<|finetune_right_pad_id|>", eos="<end_of_utterance>", bos="<|begin_of_text|>")
    images = Idefics3ImageProcessorPil(size={"longest_edge": 3 * TILE}, max_image_size={"longest_edge": TILE})
    processor = Idefics3Processor(images, tokens, image_seq_len=(TILE // PATCH // SHUFFLED) ** 2, chat_template=CHAT)
    return make(seed, "Idefics3", tokens, vision), processor


def make(seed: int, name: str, tokens: Any, vision: dict[str, Any]) -> Any:
    """Make a model that looks as this one does; `name` is what its classes begin with."""
    tower = {
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "image_size": TILE,
        "patch_size": PATCH,
    }
    config = getattr(transformers, f"{name}Config")(
        vision_config=tower | vision,
        text_config={"model_type": "llama", **text(tokens)},
        image_token_id=tokens.convert_tokens_to_ids(IMAGE),
        scale_factor=SHUFFLED,
    )
    return spread(getattr(transformers, f"{name}ForConditionalGeneration")(config), seed)
