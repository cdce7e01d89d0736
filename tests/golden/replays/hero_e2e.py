"""The authors' HERO from pixels to prompt, through the family and two tiny models."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

from herovlm.methods.hero import Hero
from replays.hero_selection import compare_hero


def differences(case: Mapping[str, np.ndarray], path: Path) -> list[str]:
    """Budgets, masks and number of positions of the authors' HERO, through the family and two tiny models."""
    from transformers import CLIPModel, CLIPVisionModel, LlavaNextConfig, LlavaNextForConditionalGeneration

    import herovlm
    from herovlm.towers import relevance

    tower = CLIPVisionModel.from_pretrained(path / "vision_tower", attn_implementation="eager")
    words = {"vocab_size": 64, "hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1}
    config = LlavaNextConfig(
        vision_config=tower.config,
        text_config={"model_type": "llama", "num_attention_heads": 2, **words},
        image_token_index=5,
        vision_feature_layer=-2,
    )
    model = LlavaNextForConditionalGeneration(config).eval()
    model.model.vision_tower = tower
    clip = CLIPModel.from_pretrained(path / "clip", attn_implementation="eager")
    text = torch.from_numpy(case["text_ids"])
    relevance.attach(model, clip, lambda question, **how: {"input_ids": text})
    width, height = (int(n) for n in case["size_wh"])
    pixels = torch.from_numpy(case["pixel_values"]).float()  # (T, 3, 336, 336)
    inputs = {"pixel_values": pixels[None], "image_sizes": torch.tensor([[height, width]])}
    with torch.no_grad():
        sent = model.get_image_features(**inputs, return_dict=True).pooler_output[0]
    inputs["input_ids"] = torch.tensor([[1, *[5] * len(sent), 7]])
    method = Hero(
        variant="official",
        low_layers=tuple(int(n) for n in case["low_layers"]),
        high_layers=tuple(int(n) for n in case["high_layers"]),
        alpha=float(case["alpha"]),
        t_cls=float(case["T_cls"]),
        t_clip=float(case["T_clip"]),
    )
    short = herovlm.drop(model, inputs, method=method, keep=float(case["R"]), question="the one of text_ids")
    kept, features = short.kept[0], short["mm_encoder_outputs"]["image"].pooler_output[0]
    close = {
        "clip_cosine": short.seen[0].relevance[1:],
        "cls_saliency": kept.why["saliency"][1:],
        "clip_softmax": kept.why["relevance"][1:],
        "fused": kept.why["weight"][1:],
        "global_scores": kept.why["score"][0],
        "local_scores": kept.why["score"][1:],
    }
    far = [name for name, value in close.items() if not np.allclose(value, case[name], rtol=1e-4, atol=1e-6)]
    positions = int((short["input_ids"] == 5).sum())
    lost = [] if positions == len(features) == int(case["llm_tokens"]) else ["llm_tokens of the prompt"]
    return compare_hero(kept, case) + far + lost
