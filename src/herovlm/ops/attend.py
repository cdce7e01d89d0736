"""Rows of causal attention from queries and keys, for a few queries at a time."""

from __future__ import annotations

import torch
from torch import Tensor


def attend(queries: Tensor, keys: Tensor, at: Tensor) -> Tensor:
    """Softmax rows in float32: each query sees the keys up to its own column; heads share keys in groups.

    Args:
        queries: (Q, H, C).
        keys: (G, n, C), G divides H.
        at: (Q,) int64 column of each query among the n.

    Returns:
        (H, Q, n) float32.
    """
    keys = keys.float().repeat_interleave(queries.shape[1] // len(keys), 0)  # (H, n, C)
    logits = queries.float().transpose(0, 1) @ keys.transpose(1, 2) * keys.shape[-1] ** -0.5
    unseen = torch.arange(keys.shape[1], device=keys.device) > at[:, None]  # (Q, n)
    rows: Tensor = logits.masked_fill(unseen, -torch.inf).softmax(-1)
    return rows


def mean_of_heads(queries: Tensor, keys: Tensor, at: Tensor) -> Tensor:
    """Average `attend` over heads, one group of heads at a time: (Q, n) float32."""
    total = queries.new_zeros(len(queries), keys.shape[1], dtype=torch.float32)
    for some, key in zip(torch.split(queries, queries.shape[1] // len(keys), 1), keys, strict=True):
        total += attend(some, key[None], at).sum(0)
    return total / queries.shape[1]
