"""Configs of real shapes by name: those of the checkpoints that people run, cut to what a cost hangs on.

The numbers are those of the public configs on the Hugging Face hub, of liuhaotian/llava-* and llava-hf/*, of
OpenGVLab/InternVL3-8B-hf, llava-hf/llava-onevision-qwen2-7b-ov-hf and Qwen/Qwen2.5-VL-7B-Instruct; what is not named
here (tiles, canvases, placeholders) is the default of transformers, which is theirs.
"""

from __future__ import annotations

import difflib
from typing import Any

from transformers import InternVLConfig, LlavaConfig, LlavaNextConfig, LlavaOnevisionConfig, Qwen2_5_VLConfig

from herovlm.errors import ModelError

CLIP = {  # CLIP ViT-L/14 at 336 pixels
    "model_type": "clip_vision_model",
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "image_size": 336,
    "patch_size": 14,
    "projection_dim": 768,
}
ASKING = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12}
SMALL = {"hidden_size": 64, "intermediate_size": 256, "num_hidden_layers": 4, "num_attention_heads": 4}
INTERNVIT = {  # InternViT-300M at 448 pixels
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "image_size": 448,
    "patch_size": 14,
    "attention_bias": True,
}
SIGLIP = {  # SigLIP so400m at 384 pixels, without its last block and its head
    "model_type": "siglip_vision_model",
    "hidden_size": 1152,
    "intermediate_size": 4304,
    "num_hidden_layers": 26,
    "num_attention_heads": 16,
    "image_size": 384,
    "patch_size": 14,
    "vision_use_head": False,
}
QWEN_VIT = {  # the tower of Qwen2.5-VL, windows of 112 pixels but for four blocks
    "depth": 32,
    "hidden_size": 1280,
    "intermediate_size": 3420,
    "num_heads": 16,
    "patch_size": 14,
    "window_size": 112,
    "fullatt_block_indexes": [7, 15, 23, 31],
    "out_hidden_size": 3584,
}
ROTARY = {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [16, 24, 24]}
Numbers = tuple[str, int, int, int, int, int, int]
# family, tower, and LLM: type, width, width of the MLP, layers, heads, key/value heads, vocabulary
SHAPES: dict[str, tuple[Any, dict[str, Any], Numbers]] = {
    "llava-1.5-7b": (LlavaConfig, CLIP, ("llama", 4096, 11008, 32, 32, 32, 32064)),
    "llava-1.5-13b": (LlavaConfig, CLIP, ("llama", 5120, 13824, 40, 40, 40, 32064)),
    "llava-next-7b": (LlavaNextConfig, CLIP, ("llama", 4096, 11008, 32, 32, 32, 32064)),
    "llava-next-mistral-7b": (LlavaNextConfig, CLIP, ("mistral", 4096, 14336, 32, 32, 8, 32064)),
    "llava-next-13b": (LlavaNextConfig, CLIP, ("llama", 5120, 13824, 40, 40, 40, 32064)),
    "llava-next-34b": (LlavaNextConfig, CLIP, ("llama", 7168, 20480, 60, 56, 8, 64064)),
    "internvl3-8b": (InternVLConfig, INTERNVIT, ("qwen2", 3584, 18944, 28, 28, 4, 151674)),
    "llava-onevision-7b": (LlavaOnevisionConfig, SIGLIP, ("qwen2", 3584, 18944, 28, 28, 4, 152128)),
    "qwen2.5-vl-7b": (Qwen2_5_VLConfig, QWEN_VIT, ("qwen2_5_vl_text", 3584, 18944, 28, 28, 4, 152064)),
    "small": (LlavaNextConfig, CLIP | SMALL, ("llama", 256, 2048, 4, 4, 4, 512)),
}


def config_of(name: str, llm_layers: int | None = None) -> Any:
    """Configure a shape by name, its LLM cut to so many layers.

    "small" has the tiles and patches of LLaVA-NeXT, few channels, and about as much work in the LLM for each FLOP of
    the tower, so that what is measured of it in proportion to the tower or to the whole means something.

    Raises:
        ModelError: no such shape.
    """
    if name not in SHAPES:
        guess = difflib.get_close_matches(name, SHAPES, 1)
        raise ModelError(
            f"there is no shape {name!r}{f', did you mean {guess[0]!r}?' if guess else ''}; shapes: {', '.join(SHAPES)}"
        )
    make, tower, (kind, width, wide, layers, heads, shared, words) = SHAPES[name]
    text = {
        "model_type": kind,
        "hidden_size": width,
        "intermediate_size": wide,
        "num_hidden_layers": llm_layers or layers,
        "num_attention_heads": heads,
        "num_key_value_heads": shared,
        "vocab_size": words,
        "max_position_embeddings": 32768,
        "sliding_window": None,
    }
    text |= {"rope_parameters": ROTARY} if tower is QWEN_VIT else {}
    own = {"image_token_index": words - 1} if tower.get("model_type") == "clip_vision_model" else {}
    return make(vision_config=dict(tower), text_config=text, tie_word_embeddings=False, **own)
