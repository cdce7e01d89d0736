"""IGVA: features of many layers, mixed as the question asks (arXiv 2501.08443); the arithmetic, for any tower.

Letters: T tiles, N patches, C channels, K groups of layers, E channels of a sentence, D channels of the LLM.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from herovlm.errors import ModelError

BALANCE = 0.02  # share of `balance` in the loss


class Block(nn.Module):
    """Cross-attention of one query and a feed-forward layer, each added and then normalised (section 3.3)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.cross_attention = nn.MultiheadAttention(width, heads, batch_first=True)
        self.ffn = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width))
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)

    def forward(self, query: Tensor, memory: Tensor) -> Tensor:
        """Go on from a query (B, 1, W) that looks at (B, K, W)."""
        query = self.norm1(query + self.cross_attention(query, memory, memory, need_weights=False)[0])
        out: Tensor = self.norm2(query + self.ffn(query))
        return out


class Aggregator(nn.Module):
    """How much each group of layers counts: the instruction asks, the groups' CLS states answer (section 3.3)."""

    def __init__(self, sentence: int, channels: int, width: int, groups: int, blocks: int = 4, heads: int = 4) -> None:
        super().__init__()
        self.sentence_proj, self.cls_proj = nn.Linear(sentence, width), nn.Linear(channels, width)
        self.transformers = nn.ModuleList(Block(width, heads) for _ in range(blocks))
        self.linear = nn.Linear(width, groups)

    def forward(self, sentence: Tensor, cls: Tensor) -> Tensor:
        """Weigh the groups: sentences (B, E) and mean CLS states (B, K, C) -> (B, K), which sum to 1."""
        query, memory = self.sentence_proj(sentence)[:, None], self.cls_proj(cls)
        for block in self.transformers:
            query = block(query, memory)
        weights: Tensor = self.linear(query[:, 0]).softmax(-1)
        return weights


def groups_of(depth: int, count: int = 4) -> tuple[tuple[int, ...], ...]:
    """Divide the blocks of a tower into groups, as entries of `hidden_states`, whose entry 0 is no block's.

    A depth that cannot be divided leaves the first groups one larger.

    Raises:
        ModelError: there are fewer blocks than groups.
    """
    if depth < count:
        raise ModelError(f"a tower of {depth} block(s) cannot be divided into {count} groups of layers")
    parts = torch.arange(1, depth + 1).tensor_split(count)
    return tuple(tuple(part.tolist()) for part in parts)


def fused(plain: Tensor, layers: Tensor, weights: Tensor) -> Tensor:
    """Put the weighted mean of the groups behind the plain features: what the widened projector reads.

    Args:
        plain: (T, N, C) features of the model's own layer.
        layers: (T, K, 1 + N, C) means of the groups, CLS first.
        weights: (K,), or (T, K).

    Returns:
        (T, N, 2 C), the plain features first, as in the authors' code.
    """
    mixed = torch.einsum("...k,...knc->...nc", weights.to(layers.dtype).expand(len(layers), -1), layers[:, :, 1:])
    return torch.cat((plain, mixed.to(plain.dtype)), -1)


def balance(weights: Tensor, *, twice: bool = False) -> Tensor:
    """Measure how uneven weights (B, K) are: the negative of their entropy, averaged; least where all are the same.

    `twice` takes another softmax of them first, as the authors' trainer does.
    """
    shares = weights.softmax(-1) if twice else weights
    return (shares * (shares + 1e-12).log()).sum(-1).mean()


def widened(projector: Any) -> Any:
    """Copy a projector of LLaVA so that it reads twice as many channels, and the new ones count nothing.

    Raises:
        ModelError: another kind of projector.
    """
    first = getattr(projector, "linear_1", None)
    if not isinstance(first, nn.Linear):
        raise ModelError(f"{type(projector).__name__} has no linear_1; only projectors like LLaVA's can be widened")
    wide, weight = copy.deepcopy(projector), first.weight
    wide.linear_1 = nn.Linear(2 * first.in_features, first.out_features, first.bias is not None)
    wide.linear_1.to(weight.device, weight.dtype)
    with torch.no_grad():
        wide.linear_1.weight.copy_(torch.cat((weight, torch.zeros_like(weight)), 1))
        if first.bias is not None:
            wide.linear_1.bias.copy_(first.bias)
    return wide


class Fusion(nn.Module):
    """What is trained: the aggregator, and the widened projector (section 3.2)."""

    def __init__(self, aggregator: Aggregator, projector: nn.Module, groups: Sequence[Sequence[int]]) -> None:
        super().__init__()
        self.aggregator, self.projector = aggregator, projector
        self.groups = tuple(map(tuple, groups))

    def weights(self, sentence: Tensor, layers: Tensor) -> Tensor:
        """Weigh the groups for one picture, by what its first tile shows: sentence (E,) -> (K,) float32."""
        dtype = self.aggregator.linear.weight.dtype
        own: Tensor = self.aggregator(sentence[None].to(dtype), layers[:1, :, 0].to(dtype))[0]
        return own
