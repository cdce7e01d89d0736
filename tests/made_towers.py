"""A tiny CLIP vision tower, and something to look at."""

from __future__ import annotations

import torch
from transformers import CLIPVisionConfig, CLIPVisionModel


def make_tower(attention: str = "sdpa") -> CLIPVisionModel:
    torch.manual_seed(0)
    config = CLIPVisionConfig(
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=4,
        num_attention_heads=4,
        image_size=16,
        patch_size=4,
        initializer_factor=4.0,
        attn_implementation=attention,
    )
    return CLIPVisionModel(config).eval()


def pixels() -> torch.Tensor:
    return torch.randn(3, 3, 16, 16, generator=torch.Generator().manual_seed(1))
