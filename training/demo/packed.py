"""A Llama over one long prefix (the picture) and many short branches (questions) that see the prefix and themselves.

The arithmetic of `LlamaModel` with a block mask, without the blocks that the mask forbids: three times fewer scores.
"""

from __future__ import annotations

import torch
from torch import Tensor
from transformers import LlamaModel
from transformers.models.llama.modeling_llama import LlamaDecoderLayer, rotate_half


def forward(
    model: LlamaModel, prefix: Tensor, branches: Tensor, known: Tensor, before: Tensor, places: Tensor
) -> Tensor:
    """Hidden states of every branch position behind the last norm.

    prefix (B, P, D) is padded on its right where `known` (B, P) is false; branches (B, M, L, D) are padded on their
    right, which causal attention never looks at; before (B, P) and places (B, L) are the position ids of the prefix and
    of every branch's tokens.
    """
    batch, long = prefix.shape[:2]
    many, short = branches.shape[1:3]
    hidden = torch.cat([prefix, branches.flatten(1, 2)], 1)
    positions = torch.cat([before, places.repeat(1, many)], 1)
    rotary = tuple(part[:, None] for part in model.rotary_emb(hidden, positions))
    blind = torch.zeros(batch, 1, 1, 1, long, device=prefix.device).masked_fill(~known[:, None, None, None], -1e9)
    for layer in model.layers:
        hidden = block(layer, hidden, rotary, blind, (long, many, short))
    return model.norm(hidden[:, long:]).unflatten(1, (many, short))


def block(
    layer: LlamaDecoderLayer, hidden: Tensor, rotary: tuple[Tensor, ...], blind: Tensor, shape: tuple[int, int, int]
) -> Tensor:
    """One decoder layer."""
    own, normed = layer.self_attn, layer.input_layernorm(hidden)
    heads = [
        linear(normed).unflatten(-1, (-1, own.head_dim)).transpose(1, 2)  # (B, H, P + M L, d)
        for linear in (own.q_proj, own.k_proj, own.v_proj)
    ]
    cos, sin = rotary
    query, key = ((x * cos + rotate_half(x) * sin).to(x.dtype) for x in heads[:2])
    mixed = attention(query, key, heads[2], blind, shape)
    hidden = hidden + own.o_proj(mixed.transpose(1, 2).flatten(2))
    return hidden + layer.mlp(layer.post_attention_layernorm(hidden))


def attention(query: Tensor, key: Tensor, value: Tensor, blind: Tensor, shape: tuple[int, int, int]) -> Tensor:
    """Causal in the prefix; a branch sees the known prefix and, causally, itself."""
    long, many, short = shape
    query = query * query.shape[-1] ** -0.5
    far = query @ key[:, :, :long].mT
    first = far[:, :, :long].masked_fill(_future(far, long), -1e9).softmax(-1).to(value.dtype) @ value[:, :, :long]
    asks, keys, values = (x[:, :, long:].unflatten(2, (many, short)) for x in (query, key, value))  # (B, H, M, L, d)
    far = far[:, :, long:].unflatten(2, (many, short)) + blind
    near = (asks @ keys.mT).masked_fill(_future(far, short), -1e9)
    share = torch.cat([far, near], -1).softmax(-1).to(value.dtype)
    seen = (share[..., :long].flatten(2, 3) @ value[:, :, :long]).unflatten(2, (many, short))
    return torch.cat([first, (seen + share[..., long:] @ values).flatten(2, 3)], 2)


def _future(like: Tensor, length: int) -> Tensor:
    return torch.ones(length, length, dtype=torch.bool, device=like.device).triu(1)
