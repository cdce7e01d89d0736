"""What the key projections of a block say: where its CLS query points, and which patches are alike."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from herovlm.errors import MethodError


def of(projections: Mapping[int, Tensor], block: int) -> Tensor:
    """Give the recorded keys (or what is of the CLS token) of a block in float32.

    Raises:
        MethodError: the block was not recorded.
    """
    if block not in projections:
        raise MethodError(f"keys of block {block} are wanted, blocks {sorted(projections)} were recorded")
    return projections[block].float()


def cls_products(keys: Mapping[int, Tensor], queries: Mapping[int, Tensor], block: int) -> Tensor:
    """Multiply the CLS query with all keys of its tile, all channels at once and not scaled: (T, 1 + N), CLS first.

    A head mean of scaled logits is this number times `(C / H) ** -0.5 / H`, so heads need not be told apart.
    """
    query, own = of(queries, block).unbind(1)
    return torch.einsum("tc,tnc->tn", query, torch.cat([own[:, None], of(keys, block)], 1))


def collect(values: Tensor, keys: Tensor, weight: Tensor, centres: Tensor, pool: Tensor, count: int) -> Tensor:
    """Add to each centre the weighted sum of the `count` others whose keys are nearest by cosine.

    Args:
        values: (N, D) float32.
        keys: (N, C) float32.
        weight: (N,), not normalised.
        centres: (M,) int64.
        pool: (N,) int64, how many times each patch can be collected; a centre once less by itself.
        count: Patches that a centre collects, or all there are.

    Returns:
        (M, D).
    """
    unit = torch.nn.functional.normalize(keys, dim=-1)
    like = unit[centres] @ unit.T  # (M, N)
    order = like.sort(dim=-1, descending=True, stable=True).indices
    own = (torch.arange(len(pool), device=centres.device) == centres[:, None]).long()
    there = (pool - own).gather(1, order)
    taken = (count - there.cumsum(1) + there).clamp(min=0).minimum(there)
    return values[centres] + torch.zeros_like(like).scatter(1, order, taken * weight[order]) @ values
