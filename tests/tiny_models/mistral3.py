"""Mistral 3: Pixtral at native resolution, patches of 4 pixels merged 2x2, a marker after each row."""

from __future__ import annotations

from typing import Any

from transformers import Mistral3Config, Mistral3ForConditionalGeneration, PixtralImageProcessorPil

from tiny_models._parts import spread, text, words
from tiny_models._torchvision import processor

CLASS = "Mistral3ForConditionalGeneration"
IMAGE = "[IMG]"
PATCH, MERGED, LONGEST = 4, 2, 96  # pixels, patches, pixels
SPECIAL = ["<unk>", "<s>", "</s>", "[INST]", "[/INST]", "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]", "<pad>"]
SPECIAL += [IMAGE, "[IMG_BREAK]", "[IMG_END]"]
CHAT = (
    "{{ bos_token }}{% for message in messages %}{% if message['role'] == 'user' %}"
    "{% if message['content'] is string %}{{ '[INST]' + message['content'] + '[/INST]' }}{% else %}{{ '[INST]' }}"
    "{% for part in message['content'] %}{% if part['type'] == 'text' %}{{ part['text'] }}"
    "{% elif part['type'] == 'image' %}{{ '[IMG]' }}{% endif %}{% endfor %}{{ '[/INST]' }}{% endif %}"
    "{% elif message['role'] == 'system' %}{{ '[SYSTEM_PROMPT]' + message['content'] + '[/SYSTEM_PROMPT]' }}"
    "{% else %}{{ message['content'] + eos_token }}{% endif %}{% endfor %}"
)
TOKENS = {
    (32, 32): 16,
    (64, 64): 64,
    (100, 64): 96,
    (64, 100): 96,
    (300, 40): 24,
    (40, 300): 24,
    (9, 7): 2,
    (1000, 800): 120,
    (61, 33): 40,
    (33, 61): 40,
    (128, 97): 108,
    (97, 101): 144,
}


def build(seed: int = 0, **vision: Any) -> tuple[Any, Any]:
    """Make the model and its processor; `vision` changes the tower."""
    tokens = words(SPECIAL, pad="<pad>", eos="</s>", bos="<s>")
    tower = {
        "model_type": "pixtral",
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "head_dim": 8,
        "image_size": LONGEST,
        "patch_size": PATCH,
    }
    config = Mistral3Config(
        vision_config=tower | vision,
        text_config={"model_type": "mistral", "head_dim": 8, "sliding_window": None, **text(tokens)},
        image_token_index=tokens.convert_tokens_to_ids(IMAGE),
        spatial_merge_size=MERGED,
        tie_word_embeddings=False,
    )
    side = {"height": PATCH, "width": PATCH}
    reads = processor("pixtral", "PixtralProcessor")(
        PixtralImageProcessorPil(patch_size=side, size={"longest_edge": LONGEST}),
        tokens,
        patch_size=PATCH,
        spatial_merge_size=MERGED,
        chat_template=CHAT,
    )
    return spread(Mistral3ForConditionalGeneration(config), seed), reads
