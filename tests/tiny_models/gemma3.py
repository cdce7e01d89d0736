"""Gemma 3: SigLIP, 8x8 patches pooled to 4x4 positions that see each other both ways."""

from __future__ import annotations

from typing import Any

from transformers import Gemma3Config, Gemma3ForConditionalGeneration, Gemma3ImageProcessorPil, Gemma3Processor

from tiny_models import SIZES
from tiny_models._parts import spread, text, words

CLASS = "Gemma3ForConditionalGeneration"
IMAGE = "<start_of_image>"
TILE, PATCH, POSITIONS = 32, 4, 16
SCANNED = {"do_pan_and_scan": True, "pan_and_scan_min_crop_size": 16, "pan_and_scan_max_num_crops": 4}
SPECIAL = ["<pad>", "<eos>", "<bos>", "<start_of_turn>", "<end_of_turn>", IMAGE, "<end_of_image>", "<image_soft_token>"]
CHAT = (
    "{{ bos_token }}{% for message in messages %}"
    "{{ '<start_of_turn>' + ('model' if message['role'] == 'assistant' else message['role']) + '\n' }}"
    "{% if message['content'] is string %}{{ message['content'] | trim }}{% else %}{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}{{ '<start_of_image>' }}"
    "{% elif part['type'] == 'text' %}{{ part['text'] | trim }}{% endif %}{% endfor %}{% endif %}"
    "{{ '<end_of_turn>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<start_of_turn>model\n' }}{% endif %}"
)
TOKENS = dict.fromkeys(SIZES, POSITIONS)  # pan and scan is off unless it is asked for


def build(seed: int = 0, **vision: Any) -> tuple[Any, Any]:
    """Make the model and its processor; `vision` changes the tower."""
    tokens = words(
        SPECIAL,
        pad="<pad>",
        eos="<end_of_turn>",
        bos="<bos>",
        boi_token=IMAGE,
        eoi_token="<end_of_image>",
        image_token="<image_soft_token>",
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
    layers = ["sliding_attention", "full_attention", "sliding_attention"]
    language = {"num_hidden_layers": 3, "layer_types": layers, "head_dim": 8, "query_pre_attn_scalar": 8}
    config = Gemma3Config(
        vision_config=tower | vision,
        text_config=text(tokens, sliding_window=512, **language),
        mm_tokens_per_image=POSITIONS,
        boi_token_index=tokens.convert_tokens_to_ids(IMAGE),
        eoi_token_index=tokens.convert_tokens_to_ids("<end_of_image>"),
        image_token_index=tokens.convert_tokens_to_ids("<image_soft_token>"),
        tie_word_embeddings=False,
    )
    processor = Gemma3Processor(
        Gemma3ImageProcessorPil(size={"height": TILE, "width": TILE}),
        tokens,
        chat_template=CHAT,
        image_seq_length=POSITIONS,
    )
    return spread(Gemma3ForConditionalGeneration(config), seed), processor
